"""Log-probabilities from hidden states, chunk by chunk: no [tokens, vocabulary] tensor outlives its chunk."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from groupwise.objective.logprobs import entropy, token_logprobs

CHUNK_BYTES = 128 * 2**20  # of fp32 logits at a time


class Scored(NamedTuple):
    """logprobs: [N] nats of each token; entropies: [N] nats of the distribution it was drawn from."""

    logprobs: Tensor
    entropies: Tensor


def linear_logprobs(
    hidden: Tensor,
    tokens: Tensor,
    *,
    logits: Callable[[Tensor, Tensor], Tensor],
    vocabulary: int,
    entropy_gradient: bool,
) -> Scored:
    """Log-probability of each token and entropy of its distribution, from the state that predicts it.

    hidden: [N, D], state that predicts token n. tokens: [N]. logits: (hidden chunk [n, D], tokens [n]) -> [n, V], the
    last layer and the sampling distribution; vocabulary: V. The backward pass computes each chunk's logits again
    instead of keeping them, so memory is one chunk's. The entropy carries a gradient only if asked for.
    """

    def chunk(hidden: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        scores = logits(hidden, tokens)
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            entropies = entropy(scores)
        return token_logprobs(scores, tokens), entropies

    size = max(1, CHUNK_BYTES // (4 * vocabulary))
    parts = []
    for start in range(0, len(tokens), size):
        piece = hidden[start : start + size], tokens[start : start + size]
        parts.append(checkpoint(chunk, *piece, use_reentrant=False) if torch.is_grad_enabled() else chunk(*piece))
    if not parts:
        empty = hidden.new_zeros(0, dtype=torch.float32)
        return Scored(empty, empty)
    return Scored(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))
