"""The objective of one optimizer step, assembled from its parts: loss, KL to the reference, entropy, aggregate.

Knows no names of methods (presets.py) and no model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from groupwise.errors import ConfigError
from groupwise.objective.losses import Denominators, log_ratio


@dataclass(frozen=True)
class Objective:
    """A method: its four functions and their coefficients."""

    advantage: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(rewards [B], group [B], mask [B, T]) -> [B, T]."""
    loss: Callable[[Tensor, Tensor, Tensor, Tensor, float, float], Tensor]
    """(logprobs, old_logprobs, advantages, mask, low, high) -> [B, T]."""
    aggregate: Callable[[Tensor, Tensor, Denominators], Tensor]
    """(per_token, mask, denominators) -> scalar."""
    kl: Callable[[Tensor, Tensor], Tensor]
    """(logprobs, ref_logprobs) -> [B, T] nats."""
    clip_low: float
    clip_high: float
    kl_coef: float
    """beta, weight of the KL in the loss; 0: no reference is needed."""
    entropy_coef: float
    """Weight of the entropy bonus, subtracted from the loss; 0: no entropies are needed."""

    @property
    def per_token(self) -> bool:
        """True if a token's share of the loss depends on its own log-probability alone, not on its output's others."""
        return not getattr(self.loss, "over_whole_output", False)


@dataclass(frozen=True)
class Terms:
    """The loss, and what a step reports of it per token, [B, T], detached."""

    loss: Tensor
    """Scalar, to be minimised."""
    ratio: Tensor
    """pi / pi_old; 1 outside the mask."""
    kl: Tensor
    """The estimator's values, nats; 0 outside the mask and without a reference."""
    clipped_low: Tensor
    """True where A < 0 and the loss has no gradient: for `clip`, where the ratio is under 1 - clip_low."""
    clipped_high: Tensor
    """True where A > 0 and the loss has no gradient: for `clip`, where the ratio is over 1 + clip_high."""


def policy_loss(
    objective: Objective,
    logprobs: Tensor,
    *,
    old_logprobs: Tensor,
    ref_logprobs: Tensor | None,
    entropies: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    denominators: Denominators,
) -> Terms:
    """aggregate(loss + kl_coef * KL(pi || ref) - entropy_coef * H), the negative of DeepSeekMath's equation 3.

    logprobs, old_logprobs, ref_logprobs, entropies: [B, T] nats; advantages, mask: [B, T]; what is outside the mask
    reaches neither the value nor the gradient. denominators: of the whole optimizer step.
    Raises ConfigError if a term is weighted and its input is None.
    """
    per_token = objective.loss(logprobs, old_logprobs, advantages, mask, objective.clip_low, objective.clip_high)
    kl = torch.zeros_like(per_token)
    if ref_logprobs is not None:
        kl = objective.kl(torch.where(mask, logprobs, 0.0), torch.where(mask, ref_logprobs, 0.0))
    elif objective.kl_coef > 0:
        raise ConfigError(f"kl_coef = {objective.kl_coef}: no ref_logprobs", hint="give the reference's, or kl_coef 0")
    if objective.kl_coef > 0:
        per_token = per_token + objective.kl_coef * kl
    if objective.entropy_coef != 0:
        if entropies is None:
            raise ConfigError(f"entropy_coef = {objective.entropy_coef}: no entropies", hint="give them, or 0")
        per_token = per_token - objective.entropy_coef * torch.where(mask, entropies, 0.0)
    frozen = _without_gradient(objective, logprobs.detach(), old_logprobs.detach(), advantages, mask)
    return Terms(
        loss=objective.aggregate(per_token, mask, denominators),
        ratio=torch.exp(log_ratio(logprobs, old_logprobs, mask)).detach(),
        kl=kl.detach(),
        clipped_low=(advantages < 0) & frozen,
        clipped_high=(advantages > 0) & frozen,
    )


def _without_gradient(
    objective: Objective, logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor
) -> Tensor:
    """True for the tokens of the mask whose log-probability the loss has no derivative by, [B, T]."""
    # Asked of the loss itself: what a bound means, of a token or of its whole output, each loss knows alone.
    with torch.enable_grad():
        logprobs = logprobs.requires_grad_()
        loss = objective.loss(logprobs, old_logprobs, advantages, mask, objective.clip_low, objective.clip_high)
        (slope,) = torch.autograd.grad(loss.sum(), logprobs)
    return mask & (slope == 0)
