"""Losses per token, and the aggregates that make one number of them. Knows no policy, no rewards, no batches.

A loss is (logprobs, old_logprobs, advantages, mask, low, high) -> [B, T]. An aggregate is (per_token, mask,
denominators) -> scalar, a plain sum divided by what holds for the whole optimizer step: the sum over any cut of the
batch between outputs is the uncut loss. Masked entries may hold anything, nan included.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Denominators:
    """What a sum over the whole optimizer step is divided by: over all its micro-batches, and all ranks."""

    outputs: float
    """Outputs with at least one token in the mask."""
    tokens: float
    """Tokens in the mask."""
    max_tokens: int
    """Tokens that an output can have at most (`rollout.max_new_tokens`)."""

    @classmethod
    def of(cls, mask: Tensor, max_tokens: int) -> "Denominators":
        """Counted from the step's mask [B, T]."""
        return cls(outputs=float(mask.any(dim=1).sum()), tokens=float(mask.sum()), max_tokens=max_tokens)


def clip(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, low: float, high: float) -> Tensor:
    """The clipped surrogate (PPO equation 7, DeepSeekMath equation 3), as a loss, per token.

    -min(ratio A, clamp(ratio, 1 - low, 1 + high) A) with ratio = pi / pi_old.
    logprobs, old_logprobs: [B, T] nats; advantages, mask: [B, T]; low, high: epsilon below and above.
    Returns [B, T], in units of the advantages; 0 outside the mask.
    """
    ratio = torch.exp(log_ratio(logprobs, old_logprobs, mask))
    advantages = torch.where(mask, advantages, 0.0)
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def log_ratio(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> Tensor:
    """log pi - log pi_old per token, [B, T] nats; 0 (ratio 1) outside the mask."""
    # where() on each of the two: the gradient of -inf - -inf is nan even where another where() drops the value.
    return torch.where(mask, logprobs, 0.0) - torch.where(mask, old_logprobs, 0.0)


def per_output(per_token: Tensor, mask: Tensor, denominators: Denominators) -> Tensor:
    """Mean over each output's tokens, then over the outputs (DeepSeekMath equation 3): tokens of short ones weigh more.

    per_token, mask: [B, T], whole outputs. Returns a scalar.
    """
    lengths = mask.sum(dim=1).clamp(min=1)
    return (torch.where(mask, per_token, 0.0).sum(dim=1) / lengths).sum() / max(denominators.outputs, 1.0)


def per_token(per_token: Tensor, mask: Tensor, denominators: Denominators) -> Tensor:
    """Mean over all tokens of the step (DAPO equation 8): long outputs weigh more. [B, T] twice; returns a scalar."""
    return torch.where(mask, per_token, 0.0).sum() / max(denominators.tokens, 1.0)


def fixed_length(per_token: Tensor, mask: Tensor, denominators: Denominators) -> Tensor:
    """Sum over tokens divided by a constant length, then mean over the outputs (Dr. GRPO): no weight by length.

    per_token, mask: [B, T]. Returns a scalar.
    """
    size = max(denominators.outputs, 1.0) * denominators.max_tokens
    return torch.where(mask, per_token, 0.0).sum() / size
