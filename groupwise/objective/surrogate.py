"""The objective of one optimizer step, assembled from its parts: loss, KL to the reference, entropy, aggregate.

Knows no names of methods (presets.py) and no model.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from groupwise.errors import ConfigError
from groupwise.objective.correction import Correction, uncorrected
from groupwise.objective.losses import Denominators, log_ratio

INPUTS = {
    "rewards": "[B] reward units, nan where an output has none; with the KL in the reward, less the output's penalty",
    "group": "[B] index of the question",
    "mask": "[B, T] the tokens that the policy drew",
    "reward_parts": "[B, K] each reward function's value before its weight, nan where it has none",
    "reward_weights": "[K]",
    "step_rewards": "[B, T] reward of the step that ends at the token, nan elsewhere",
    "token_rewards": "[B, T] the reward at the last token; with the KL in the reward, less each token's penalty",
    "values": "[B, T] the critic's, when sampling",
    "discount": "gamma",
    "gae_lambda": "lambda of generalised advantage estimation",
    "old_logprobs": "[B, T] nats",
    "teacher_logprobs": "[B, T] nats",
}
"""What an advantage may name among its parameters. A function is given what it names, so its signature says what it
reads, and a recipe whose run has no such thing is refused before the model is loaded."""


def reads(function: Callable[..., Tensor]) -> tuple[str, ...]:
    """The inputs that a function names."""
    return tuple(inspect.signature(function).parameters)


def reads_rewards(function: Callable[..., Tensor]) -> bool:
    """True if a function names a reward of any kind: then an output without one teaches it nothing."""
    return any("reward" in name for name in reads(function))


def called(function: Callable[..., Tensor], inputs: Mapping[str, Any]) -> Tensor:
    """The function of those inputs that it names. KeyError for one that is not there."""
    return function(**{name: inputs[name] for name in reads(function)})


@dataclass(frozen=True)
class Objective:
    """A method: its functions and their coefficients."""

    advantage: Callable[..., Tensor]
    """Of some of INPUTS -> [B, T]."""
    loss: Callable[[Tensor, Tensor, Tensor, Tensor, float, float], Tensor]
    """(logprobs, old_logprobs, advantages, mask, low, high) -> [B, T]."""
    aggregate: Callable[[Tensor, Tensor, Denominators], Tensor]
    """(per_token, mask, denominators) -> scalar."""
    kl: Callable[..., Tensor]
    """(logprobs, ref_logprobs), or those and old_logprobs -> [B, T] nats."""
    clip_low: float
    clip_high: float
    kl_coef: float
    """beta, weight of the KL; 0: no reference is needed."""
    entropy_coef: float
    """Weight of the entropy bonus, subtracted from the loss; 0: no entropies are needed."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where the KL counts: added to each token's loss, or taken off each token's reward."""
    correction: Correction = uncorrected
    """(log pi_old - log pi_sampler, mask, low, high) -> [B, T], the weight of each token's loss."""
    correction_low: float = 0.0
    correction_high: float = 2.0
    measures_all: bool = False
    """True if a coefficient follows what an update measures: then outputs that teach nothing are measured too."""

    @property
    def per_token(self) -> bool:
        """True if a token's share of the loss depends on its own log-probability alone, not on its output's others."""
        return not any(getattr(part, "over_whole_output", False) for part in (self.loss, self.correction))

    @property
    def kl_in_loss(self) -> bool:
        return self.kl_coef > 0 and self.kl_in == "loss"


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
    weights: Tensor
    """The correction's; 0 outside the mask."""


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
    sampled_logprobs: Tensor | None = None,
) -> Terms:
    """aggregate(w loss + kl_coef KL(pi || ref) - entropy_coef H), the negative of DeepSeekMath's equation 3 at w = 1.

    logprobs, old_logprobs, ref_logprobs, entropies, sampled_logprobs: [B, T] nats; advantages, mask: [B, T]; what is
    outside the mask reaches neither the value nor the gradient. w: the correction's weight of pi_old against what the
    sampler reported; None: the sampler is taken to be pi_old. denominators: of the whole optimizer step.
    Raises ConfigError if a term is weighted and its input is None.
    """
    per_token = objective.loss(logprobs, old_logprobs, advantages, mask, objective.clip_low, objective.clip_high)
    gap = torch.zeros_like(per_token) if sampled_logprobs is None else old_logprobs.detach() - sampled_logprobs
    weights = objective.correction(gap, mask, objective.correction_low, objective.correction_high)
    per_token = per_token * weights
    kl = torch.zeros_like(per_token)
    if ref_logprobs is not None:
        inside = {"logprobs": logprobs, "ref_logprobs": ref_logprobs, "old_logprobs": old_logprobs}
        kl = called(objective.kl, {name: torch.where(mask, part, 0.0) for name, part in inside.items()})
    elif objective.kl_in_loss:
        raise ConfigError(f"kl_coef = {objective.kl_coef}: no ref_logprobs", hint="give the reference's, or kl_coef 0")
    if objective.kl_in_loss:
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
        weights=weights,
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
