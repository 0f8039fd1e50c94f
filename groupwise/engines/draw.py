"""Drawing the next token of each row from its logits, without sorting and with the softmax written once."""

import math

import torch
from torch import Tensor

from groupwise.data import Sampling
from groupwise.objective.logprobs import sampling_logits, wide

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
    top = scaled.amax(-1, keepdim=True)
    weights = _weights(scaled, top)
    sums = weights.view(len(weights), -1, BLOCK).sum(-1)
    tokens = scaled.argmax(-1) if sampling.greedy else _inverse_cdf(weights, sums, draws.to(sums))
    chosen = scaled.gather(-1, tokens[:, None])
    return tokens, (chosen - top)[:, 0] - sums.sum(-1).log()


def inverse_cdf(logits: Tensor, draws: Tensor) -> Tensor:
    """The token whose interval of the cumulative distribution holds the draw: [R, V], [R] in [0, 1) -> [R].

    Found in two steps, block of the vocabulary then token in it, which reads the probabilities once and sums few
    numbers at a time. A token of probability 0 is never drawn, whatever the rounding.
    """
    weights = _weights(wide(logits), logits.amax(-1, keepdim=True))
    return _inverse_cdf(weights, weights.view(len(weights), -1, BLOCK).sum(-1), draws.to(weights))


def _weights(logits: Tensor, top: Tensor) -> Tensor:
    """exp(logits - top), with zeros behind up to a whole number of blocks."""
    rows, vocabulary = logits.shape
    weights = logits.new_empty(rows, math.ceil(vocabulary / BLOCK) * BLOCK)
    weights[:, vocabulary:] = 0
    torch.sub(logits, top, out=weights[:, :vocabulary]).exp_()
    return weights


def _inverse_cdf(weights: Tensor, sums: Tensor, draws: Tensor) -> Tensor:
    """weights: [R, n BLOCK], unnormalised; sums: [R, n], of each block; draws: [R] -> [R]."""
    ends = sums.cumsum(-1)
    target = draws * ends[:, -1]
    block = _first_above(ends, target, sums > 0)
    inside = weights.view(len(weights), -1, BLOCK)[torch.arange(len(weights), device=weights.device), block]
    start = ends.gather(1, block[:, None])[:, 0] - sums.gather(1, block[:, None])[:, 0]
    return block * BLOCK + _first_above(inside.cumsum(-1), target - start, inside > 0)


def _first_above(cumulative: Tensor, target: Tensor, possible: Tensor) -> Tensor:
    """Index of the first possible entry above the target; of the last possible one if rounding leaves none: [R]."""
    above = (cumulative > target[:, None]) & possible
    places = torch.arange(cumulative.shape[1], device=cumulative.device)
    last = torch.where(possible, places, 0).amax(-1)  # 0 also if all is nan, which the log-probability tells
    return torch.where(above.any(-1), above.int().argmax(-1), last)
