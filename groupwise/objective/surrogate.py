"""The objective of one optimizer step, assembled from its parts: loss, KL to the reference, entropy, aggregate.

`policy_loss` is what is differentiated, `diagnostics` what a step reports. Knows no names of methods (presets.py) and
no model.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from groupwise.errors import ConfigError
from groupwise.objective.correction import uncorrected
from groupwise.objective.losses import Denominators, log_ratio

INPUTS: dict[str, dict[str, str]] = {
    "advantage": {
        "rewards": "[B] reward units, nan where an output has none; with the KL in the reward, less its penalty",
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
    },
    "loss": {
        "logprobs": "[B, T] nats, of the policy",
        "old_logprobs": "[B, T] nats, of the policy that sampled",
        "advantages": "[B, T]",
        "mask": "[B, T] the tokens that teach",
    },
    "aggregate": {
        "per_token": "[B, T] the loss of each token",
        "mask": "[B, T] the tokens that teach",
        "denominators": "`Denominators` of the whole optimizer step",
    },
    "kl_estimator": {
        "logprobs": "[B, T] nats, of the policy",
        "ref_logprobs": "[B, T] nats, of the reference",
        "old_logprobs": "[B, T] nats, of the policy that sampled",
    },
    "correction": {
        "log_weight": "[B, T] log pi_old - log pi_sampler, nats",
        "mask": "[B, T] the tokens that teach",
    },
}
"""What a function of each kind may name among its parameters. It is given what it names, so its signature says what it
reads, and a recipe whose run has no such thing is refused before the model is loaded. What else it names is a parameter
of its own (groupwise/parameters.py, or the recipe's `objective.params`)."""


def reads(function: Callable[..., Tensor]) -> tuple[str, ...]:
    """The inputs and parameters that a function names."""
    return tuple(inspect.signature(function).parameters)


def reads_rewards(function: Callable[..., Tensor]) -> bool:
    """True if a function names a reward of any kind: then an output without one teaches it nothing."""
    return any("reward" in name for name in reads(function))


def called(function: Callable[..., Tensor], inputs: Mapping[str, Any]) -> Tensor:
    """The function of those inputs that it names. KeyError for one that is not there and has no default."""
    named = inspect.signature(function).parameters.values()
    return function(**{p.name: inputs[p.name] for p in named if p.default is p.empty or p.name in inputs})


def settings_of(kind: str, function: Callable[..., Tensor], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a function's own parameters, those beside its inputs: what is given, else its default."""
    named = [p for p in inspect.signature(function).parameters.values() if p.name not in INPUTS[kind]]
    values = {p.name: parameters.get(p.name, p.default) for p in named}
    return {name: value for name, value in values.items() if value is not inspect.Parameter.empty}


@dataclass(frozen=True)
class Objective:
    """A method: its functions, their parameters by name, and the coefficients of the terms."""

    advantage: Callable[..., Tensor]
    """-> [B, T]. Each function reads some of its kind's INPUTS, and parameters."""
    loss: Callable[..., Tensor]
    """-> [B, T]."""
    aggregate: Callable[..., Tensor]
    """-> scalar."""
    kl_estimator: Callable[..., Tensor]
    """-> [B, T] nats."""
    kl_coef: float = 0.0
    """beta, weight of the KL; 0: no reference is needed."""
    entropy_coef: float = 0.0
    """Weight of the entropy bonus, subtracted from the loss; 0: no entropies are needed."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where the KL counts: added to each token's loss, or taken off each token's reward."""
    correction: Callable[..., Tensor] = uncorrected
    """-> [B, T], the weight of each token's loss."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """By name; each function gets those that it names, and has its own defaults for the others."""
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
class Diagnostics:
    """What a step reports of each token, [B, T], detached."""

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
) -> Tensor:
    """aggregate(w loss + kl_coef KL(pi || ref) - entropy_coef H), the negative of DeepSeekMath's equation 3 at w = 1.

    logprobs, old_logprobs, ref_logprobs, entropies, sampled_logprobs: [B, T] nats; advantages, mask: [B, T]; what is
    outside the mask reaches neither the value nor the gradient. w: the correction's weight of pi_old against what the
    sampler reported; None: the sampler is taken to be pi_old. denominators: of the whole optimizer step.
    Returns a scalar. Raises ConfigError if a term is weighted and its input is None.
    """
    per_token = _loss(objective, logprobs, old_logprobs, advantages, mask)
    per_token = per_token * _weights(objective, old_logprobs, sampled_logprobs, mask)
    if objective.kl_in_loss:
        if ref_logprobs is None:
            raise ConfigError(
                f"kl_coef = {objective.kl_coef}: no ref_logprobs", hint="give the reference's, or kl_coef 0"
            )
        per_token = per_token + objective.kl_coef * kl_of(objective, logprobs, ref_logprobs, old_logprobs, mask)
    if objective.entropy_coef != 0:
        if entropies is None:
            raise ConfigError(f"entropy_coef = {objective.entropy_coef}: no entropies", hint="give them, or 0")
        per_token = per_token - objective.entropy_coef * torch.where(mask, entropies, 0.0)
    reduced = {"per_token": per_token, "mask": mask, "denominators": denominators}
    return called(objective.aggregate, {**objective.parameters, **reduced})


@torch.no_grad()
def diagnostics(
    objective: Objective,
    logprobs: Tensor,
    *,
    old_logprobs: Tensor,
    ref_logprobs: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    sampled_logprobs: Tensor | None = None,
) -> Diagnostics:
    """What the loss did with each token; arguments as in `policy_loss`. Differentiates the loss once more."""
    kl = torch.zeros_like(logprobs)
    if ref_logprobs is not None:
        kl = kl_of(objective, logprobs, ref_logprobs, old_logprobs, mask)
    frozen = _without_gradient(objective, logprobs.detach(), old_logprobs.detach(), advantages, mask)
    return Diagnostics(
        ratio=torch.exp(log_ratio(logprobs, old_logprobs, mask)),
        kl=kl,
        clipped_low=(advantages < 0) & frozen,
        clipped_high=(advantages > 0) & frozen,
        weights=_weights(objective, old_logprobs, sampled_logprobs, mask),
    )


def kl_of(objective: Objective, logprobs: Tensor, ref_logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> Tensor:
    """The objective's estimate of KL(pi || ref) at each token, [B, T] nats; what the estimators give at 0 outside."""
    inside = {"logprobs": logprobs, "ref_logprobs": ref_logprobs, "old_logprobs": old_logprobs}
    masked = {name: torch.where(mask, part, 0.0) for name, part in inside.items()}
    return called(objective.kl_estimator, {**objective.parameters, **masked})


def _loss(objective: Objective, logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    given = {"logprobs": logprobs, "old_logprobs": old_logprobs, "advantages": advantages, "mask": mask}
    return called(objective.loss, {**objective.parameters, **given})


def _weights(objective: Objective, old_logprobs: Tensor, sampled_logprobs: Tensor | None, mask: Tensor) -> Tensor:
    old = old_logprobs.detach()
    gap = torch.zeros_like(old) if sampled_logprobs is None else old - sampled_logprobs
    return called(objective.correction, {**objective.parameters, "log_weight": gap, "mask": mask})


def _without_gradient(
    objective: Objective, logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor
) -> Tensor:
    """True for the tokens of the mask whose log-probability the loss has no derivative by, [B, T]."""
    # Asked of the loss itself: what a bound means, of a token or of its whole output, each loss knows alone.
    with torch.enable_grad():
        logprobs = logprobs.requires_grad_()
        loss = _loss(objective, logprobs, old_logprobs, advantages, mask)
        (slope,) = torch.autograd.grad(loss.sum(), logprobs)
    return mask & (slope == 0)
