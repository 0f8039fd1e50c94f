"""What is compared with TRL and verl, as groupwise computes it: the rows, and functions that are no part of a row."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.objective_cases import DISCOUNT, GAE_LAMBDA, GROUP, MAX_TOKENS, Batch, Steered
from groupwise import registry
from groupwise.config import CriticConfig, ObjectiveConfig
from groupwise.learn.coefficients import coefficients_after, kl_coef_after
from groupwise.objective.losses import Denominators, per_token
from groupwise.objective.presets import A2C, DAPO, GRPO, REINFORCE_PP, RLOO, Preset
from groupwise.objective.surrogate import Objective, called, policy_loss
from groupwise.objective.token_advantage import gae, token_rewards
from groupwise.objective.value import value_loss
from groupwise.run.resolve import objective_of

ONE_ADVANTAGE = ("sequence_clip", "geometric_clip")
"""Losses for an advantage that is the same at each token of an output."""
CORRECTIONS = {
    "token_truncated": (0.0, 2.0),
    "token_masked": (0.5, 2.0),
    "sequence_truncated": (0.0, 3.0),
    "sequence_masked": (0.2, 3.0),
}
"""Bounds for each; verl has a lower one in those that mask alone, and above 0."""
CLIP_VALUE = 0.2
KL_IN_REWARD = replace(RLOO, kl_in="reward", kl_coef=0.1, kl_estimator="k1")


@dataclass(frozen=True)
class Row:
    """A method: its preset, and how it corrects for the sampler."""

    preset: Preset
    correction: str = "uncorrected"
    low: float = 0.0
    high: float = 2.0
    rejection: str = ""
    """What verl calls leaving out of the mask whatever is outside the bounds; empty: it is asked for the weights."""
    only_on: tuple[str, ...] = ()
    """The batches on which the loss is compared; empty: all that it is defined on."""

    def batches(self) -> list[str]:
        loss = self.preset.loss
        return list(self.only_on) or ["far", "near", "holed"] + ([] if loss in ONE_ADVANTAGE else ["uneven"])

    def arguments(self) -> dict[str, Any]:
        """The row as a peer is told of it: the preset's columns and its own, side by side."""
        own = asdict(self)
        preset = own.pop("preset")
        return preset | preset.pop("parameters") | own | {"batches": self.batches()}


def rows() -> dict[str, Row]:
    """Every preset, then what a recipe may set in place of one of its columns."""
    found = {name: Row(registry.load(registry.PRESETS, name)) for name in registry.PRESETS}
    found["rloo"] = Row(RLOO, only_on=("on_policy",))  # where it samples: TRL clips it elsewhere
    found["rloo, kl_in reward"] = Row(KL_IN_REWARD, only_on=("on_policy",))
    found["reinforce_pp, batch_normalised"] = Row(replace(REINFORCE_PP, advantage="batch_normalised", kl_coef=0.0))
    found["grpo, dual_clip"] = Row(replace(GRPO, loss="dual_clip", kl_coef=0.0))
    for name in registry.KL_ESTIMATORS:
        if name != GRPO.kl_estimator:
            found[f"grpo, {name}"] = Row(replace(GRPO, kl_estimator=name))
    for preset, name in ((DAPO, "dapo"), (GRPO, "grpo")):
        found[f"{name}, entropy_coef"] = Row(replace(preset, entropy_coef=0.01))
    for name, (low, high) in CORRECTIONS.items():
        found[f"grpo, {name}"] = Row(GRPO, correction=name, low=low, high=high)
    found["a2c, token_truncated"] = Row(A2C, correction="token_truncated")
    for name, rejection in (("token_masked", "token_k1"), ("sequence_masked", "seq_sum_k1")):
        low, high = CORRECTIONS[name]
        found[f"grpo, {name}, rejected"] = Row(GRPO, correction=name, low=low, high=high, rejection=rejection)
    return found


def objective_of_row(row: Row) -> Objective:
    bounds = {"correction_low": row.low, "correction_high": row.high}
    return objective_of(replace(row.preset, correction=row.correction, parameters={**row.preset.parameters, **bounds}))


def loss_and_gradient(row: Row, batch: Batch) -> tuple[Tensor, Tensor]:
    """The loss, and its derivatives by log-probabilities and entropies, [2, B, T]."""
    logprobs, entropies = (batch[name].clone().requires_grad_() for name in ("logprobs", "entropies"))
    loss = policy_loss(
        objective_of_row(row),
        logprobs,
        old_logprobs=batch["old_logprobs"],
        ref_logprobs=batch["ref_logprobs"],
        entropies=entropies,
        advantages=batch["advantages"],
        mask=batch["mask"],
        denominators=Denominators.of(batch["mask"], MAX_TOKENS),
        sampled_logprobs=batch["sampled_logprobs"],
    )
    return loss.detach(), gradients(loss, logprobs, entropies)


def gradients(loss: Tensor, *by: Tensor) -> Tensor:
    """The derivative by each, 0 where the loss does not know it, one after the other along a new first dimension."""
    found = torch.autograd.grad(loss, by, allow_unused=True)
    return torch.stack([torch.zeros_like(to) if slope is None else slope for to, slope in zip(by, found, strict=True)])


def inputs(preset: Preset, outcome: Batch) -> dict[str, Any]:
    """What an advantage may name, with the KL taken off the rewards where the preset has it there."""
    mask, penalty = outcome["mask"], torch.zeros(outcome["mask"].shape, dtype=torch.float64)
    if preset.kl_coef > 0 and preset.kl_in == "reward":
        estimator = registry.load(registry.KL_ESTIMATORS, preset.kl_estimator)
        penalty = preset.kl_coef * called(estimator, outcome | {"logprobs": outcome["old_logprobs"]})
    return outcome | {
        "rewards": outcome["rewards"] - torch.where(mask, penalty, 0.0).sum(1),
        "token_rewards": token_rewards(outcome["rewards"], mask, penalty),
        "discount": DISCOUNT,
        "gae_lambda": GAE_LAMBDA,
    }


def advantages(preset: Preset, outcome: Batch) -> Tensor:
    """[B, T]."""
    return called(registry.load(registry.ADVANTAGES, preset.advantage), inputs(preset, outcome))


Value = tuple[Tensor, Tensor | None]
"""A function's value and, where it has one, its gradient."""


def functions(given: dict[str, Batch], outcomes_of: dict[str, Batch]) -> dict[str, dict[str, Value]]:
    """By name and case: what is no part of a row. given: batches(); made: outcomes()."""
    arguments: dict[str, dict[str, Value]] = {}
    for name in CORRECTIONS:
        arguments[name] = {case: (weights(name, given[case]), None) for case in ("far", "near", "holed")}
    whole = {case: outcomes_of[case] for case in ("all", "holed")}
    arguments["token_rewards with KL"] = {
        case: (inputs(KL_IN_REWARD, outcome)["token_rewards"], None) for case, outcome in whole.items()
    }
    arguments["lambda-returns"] = {case: (lambda_returns(outcome), None) for case, outcome in whole.items()}
    arguments["value_loss"] = {case: value_and_gradient(outcome, None) for case, outcome in whole.items()}
    arguments["value_loss, clipped"] = {
        case: value_and_gradient(outcome, CLIP_VALUE) for case, outcome in whole.items()
    }
    arguments["kl_coef after each step"] = {"steps": (kl_coefs(Steered()), None)}
    arguments["entropy_coef after each step"] = {"steps": (entropy_coefs(Steered()), None)}
    return arguments


def weights(name: str, batch: Batch) -> Tensor:
    correction: Callable[..., Tensor] = registry.load(registry.CORRECTIONS, name)
    low, high = CORRECTIONS[name]
    gap = batch["old_logprobs"] - batch["sampled_logprobs"]
    return correction(gap, batch["mask"], correction_low=low, correction_high=high)


def lambda_returns(outcome: Batch) -> Tensor:
    """What the critic is to learn: A + V."""
    arguments = inputs(A2C, outcome)
    return torch.where(outcome["mask"], called(gae, arguments) + arguments["values"], 0.0)


def value_and_gradient(outcome: Batch, clip: float | None) -> tuple[Tensor, Tensor]:
    """value_coef as it is by default, times the mean over tokens; and its derivative by the values."""
    mask, values = outcome["mask"], outcome["values_now"].clone().requires_grad_()
    errors = value_loss(values, outcome["values"], outcome["returns"], mask, clip)
    loss = CriticConfig().value_coef * per_token(errors, mask, Denominators.of(mask, MAX_TOKENS))
    return loss.detach(), gradients(loss, values)[0]


def kl_coefs(steered: Steered) -> Tensor:
    """beta after each step."""
    coef, found = steered.kl_coef, []
    for kl in steered.kl:
        coef = kl_coef_after(coef, kl, steered.kl_target, outputs=len(GROUP), horizon=steered.kl_horizon)
        found.append(coef)
    return torch.tensor(found, dtype=torch.float64)


def entropy_coefs(steered: Steered) -> Tensor:
    """The bonus's coefficient in the step after each."""
    config = ObjectiveConfig(
        entropy_coef=steered.entropy_coef,
        entropy_target=steered.entropy_target,
        entropy_step=steered.entropy_step,
    )
    objective = objective_of_row(Row(replace(GRPO, entropy_coef=steered.entropy_coef)))
    held: dict[str, float] = {}
    found = []
    for entropy in steered.entropy:
        held = coefficients_after(config, objective, held, kl=None, entropy=entropy, outputs=len(GROUP))
        objective = replace(objective, entropy_coef=held["entropy_coef"])
        found.append(held["entropy_coef"])
    return torch.tensor(found, dtype=torch.float64)
