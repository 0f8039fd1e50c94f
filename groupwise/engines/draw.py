"""Drawing the next token of each row from its logits, without sorting."""

import torch
from torch import Tensor

from groupwise.data import Sampling
from groupwise.objective.logprobs import sampling_logits

BLOCK = 256  # tokens of the vocabulary summed at once


def next_tokens(logits: Tensor, sampling: Sampling, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Next token [R] of each row and its log-probability [R] in nats, under the one sampling distribution.

    logits: [R, V]; draws: [R] in [0, 1).
    """
    scaled = sampling_logits(
        logits,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
    )
    p = torch.softmax(scaled, -1)  # one pass over a row while it is in the processor's cache
    tokens = scaled.argmax(-1) if sampling.greedy else inverse_cdf(p, draws.to(p))
    return tokens, p.gather(-1, tokens[:, None])[:, 0].log()


def inverse_cdf(p: Tensor, draws: Tensor) -> Tensor:
    """The token whose interval of the cumulative distribution holds the draw: [R, V], [R] in [0, 1) -> [R].

    p: [R, V], the probabilities of each row's tokens; they may miss 1 by rounding.
    Found in two steps, block of the vocabulary then token in it, which reads the probabilities once and sums few
    numbers at a time. A token of probability 0 is never drawn, whatever the rounding.
    """
    rows, vocabulary = p.shape
    whole = vocabulary // BLOCK * BLOCK
    sums = p[:, :whole].view(rows, -1, BLOCK).sum(-1)
    if whole < vocabulary:
        sums = torch.cat([sums, p[:, whole:].sum(-1, keepdim=True)], -1)
    ends = sums.cumsum(-1)
    target = draws * ends[:, -1]
    block = _first_above(ends, target, sums > 0)[:, None]
    places = block * BLOCK + torch.arange(BLOCK, device=p.device)
    inside = p.gather(1, places.clamp(max=vocabulary - 1)) * (places < vocabulary)
    start = (ends.gather(1, block) - sums.gather(1, block))[:, 0]
    return block[:, 0] * BLOCK + _first_above(inside.cumsum(-1), target - start, inside > 0)


def _first_above(cumulative: Tensor, target: Tensor, possible: Tensor) -> Tensor:
    """Index of the first possible entry above the target; of the last possible one if rounding leaves none: [R]."""
    above = (cumulative > target[:, None]) & possible
    places = torch.arange(cumulative.shape[1], device=cumulative.device)
    last = torch.where(possible, places, 0).amax(-1)  # 0 also if all is nan, which the log-probability tells
    return torch.where(above.any(-1), above.int().argmax(-1), last)
