"""Log-probabilities and their gradient from hidden states, in one pass over chunks of tokens.

No [tokens, vocabulary] tensor outlives its chunk. The loss's derivative by each log-probability is known as soon as
the log-probability is, so the last layer's three products (logits, gradient of the states, gradient of the weights)
are made chunk by chunk, and no logits are kept for a backward pass or computed again for it.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from groupwise.model.products import gradients_in_place, rounded
from groupwise.objective.logprobs import wide

CHUNK_BYTES = 64 * 2**20  # of fp32 logits at a time; more is slower on a CPU, whose caches it leaves
GPU_CHUNK_BYTES = 512 * 2**20

Logits = Callable[[Tensor, Tensor], Tensor]
"""(states [n, D], tokens [n]) -> [n, V]: the last layer and the sampling distribution."""


class Scored(NamedTuple):
    """logprobs: nats of each token; entropies: nats of the distribution it was drawn from; both of the same shape."""

    logprobs: Tensor
    entropies: Tensor


def placed(values: Tensor, mask: Tensor) -> Tensor:
    """Values [N] of the masked tokens, where they belong: [B, T], 0 elsewhere."""
    return values.new_zeros(mask.shape).masked_scatter(mask, values)


@torch.no_grad()
def linear_logprobs(hidden: Tensor, tokens: Tensor, *, logits: Logits, vocabulary: int) -> Scored:
    """Log-probability of each token and entropy of its distribution, from the state that predicts it.

    hidden: [N, D], state that predicts token n. tokens: [N]. vocabulary: V. Returns [N] twice, without gradient.
    """
    found = Scored(*(wide(hidden.new_empty(len(tokens))) for _ in range(2)))
    for chunk in _chunks(tokens, vocabulary):
        found.logprobs[chunk], found.entropies[chunk] = token_scores(
            logits(hidden[chunk], tokens[chunk]), tokens[chunk], entropy_gradient=False
        )
    return found


def backward_by_chunks(
    hidden: Tensor,
    tokens: Tensor,
    *,
    logits: Logits,
    vocabulary: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    per_token: bool,
    entropy_gradient: bool,
) -> tuple[Scored, Tensor]:
    """Adds d loss / d weights of the last layer to their gradients; returns the scores and d loss / d hidden, [N, D].

    loss: (logprobs [N], entropies [N]) -> scalar. per_token: each token's share of the loss depends on its own
    log-probability alone, so its derivative is known in the first pass (three products); else the log-probabilities
    are computed first, and the logits once more (four). entropy_gradient: the loss depends on the entropies.
    """
    if per_token:
        found = Scored(*(wide(hidden.new_zeros(len(tokens))) for _ in range(2)))
    else:
        found = linear_logprobs(hidden, tokens, logits=logits, vocabulary=vocabulary)
        whole = _slopes(loss, found)
    slope = torch.empty_like(hidden)
    for chunk in _chunks(tokens, vocabulary):
        states = hidden[chunk].detach().requires_grad_()
        with torch.enable_grad():
            scores = token_scores(logits(states, tokens[chunk]), tokens[chunk], entropy_gradient=entropy_gradient)
        found.logprobs[chunk], found.entropies[chunk] = (values.detach() for values in scores)
        by_logprob, by_entropy = (values[chunk] for values in (_slopes(loss, found) if per_token else whole))
        with gradients_in_place():
            if entropy_gradient:
                torch.autograd.backward(scores, (by_logprob, by_entropy))
            else:
                scores.logprobs.backward(by_logprob)
        assert states.grad is not None
        slope[chunk] = states.grad
    return found, slope


def token_scores(logits: Tensor, tokens: Tensor, *, entropy_gradient: bool) -> Scored:
    """Log-probability of each token and entropy of its distribution. logits: [n, V]; tokens: [n]. Returns [n] twice.

    The logits' memory is used up: they hold something else afterwards.
    """
    return Scored(*_TokenScores.apply(wide(logits), tokens, entropy_gradient))


class _TokenScores(torch.autograd.Function):
    """log p(token) and H in one pass, with the softmax written once and its gradient in its place.

    d log p_k / d z_v = [v = k] - p_v, and d H / d z_v = -p_v (log p_v + H).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor, entropy_gradient: bool) -> tuple[Tensor, Tensor]:
        below = logits.sub_(logits.amax(-1, keepdim=True))
        chosen = below.gather(-1, tokens[:, None])[:, 0]
        weights = below.exp()
        total = weights.sum(-1)
        # a dropped token is -inf, and 0 * -inf would be nan
        mean = torch.linalg.vecdot(weights, below.clamp_(min=torch.finfo(below.dtype).min / 2)) / total
        log_total = total.log()
        entropies = log_total - mean
        if entropy_gradient:
            ctx.save_for_backward(tokens, weights, total, entropies, below)
        else:
            ctx.mark_non_differentiable(entropies)
            ctx.save_for_backward(tokens, weights, total)
        return chosen - log_total, entropies

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        tokens, weights, total, *rest = ctx.saved_tensors
        by_logprob, by_entropy = slopes
        p = weights.div_(total[:, None])
        if rest:
            entropies, below = rest
            log_p = below.sub_(total.log()[:, None])
            result = p * -(by_logprob[:, None] + by_entropy[:, None] * (log_p + entropies[:, None]))
        else:
            result = p.mul_(-by_logprob[:, None])
        return result.scatter_add_(-1, tokens[:, None], by_logprob[:, None]), None, None


def _slopes(loss: Callable[[Tensor, Tensor], Tensor], found: Scored) -> tuple[Tensor, Tensor]:
    """d loss / d logprobs and d loss / d entropies, [N] each."""
    with torch.enable_grad():
        inputs = Scored(*(values.detach().requires_grad_() for values in found))
        slopes = torch.autograd.grad(loss(*inputs), inputs, allow_unused=True)
    return tuple(torch.zeros_like(at) if s is None else s for at, s in zip(inputs, slopes, strict=True))  # type: ignore[return-value]


def _chunks(tokens: Tensor, vocabulary: int) -> Iterator[slice]:
    """As few as there may be, as even as can be: a last chunk of one token costs as much as one of a hundred."""
    most = max(1, (CHUNK_BYTES if tokens.device.type == "cpu" else GPU_CHUNK_BYTES) // (4 * vocabulary))
    count = -(-len(tokens) // most)
    size = min(most, rounded(-(-len(tokens) // count))) if count else 1
    return (slice(start, start + size) for start in range(0, len(tokens), size))
