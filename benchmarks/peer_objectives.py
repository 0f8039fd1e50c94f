"""Where TRL and verl compute something else than groupwise: the equation of each, in words and evaluated."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.objective_cases import GROUP, MAX_TOKENS, Batch
from benchmarks.our_objectives import Row, loss_and_gradient, weights
from groupwise.objective.advantage import group_centred, group_relative
from groupwise.objective.losses import Denominators, per_token
from groupwise.objective.token_advantage import gae


@dataclass(frozen=True)
class Difference:
    """What a peer computes otherwise: in words and symbols, and by our functions."""

    equation: str
    advantage: Callable[[dict[str, Any]], Tensor] | None = None
    """(what an advantage may name) -> [B, T], as the peer has it."""
    loss: Callable[[Row, Batch], tuple[Tensor, Tensor]] | None = None
    """(row, batch) -> loss and gradient, as the peer has them."""
    within: float = math.inf
    """The largest relative difference that it accounts for: what differs by a constant alone is still compared."""


def bessel(count: int) -> float:
    """n / (n - 1) in fp32, as a division of two integer tensors is; both peers have it so."""
    return (torch.tensor(count) / (count - 1)).item()


def variance(values: Tensor) -> Tensor:
    return values.var(unbiased=False) * bessel(len(values))


def trl_standardised(values: Tensor) -> Tensor:
    return (values - values.mean()) / (variance(values).sqrt() + 1e-4)


def over_groups(rewards: Tensor, formula: Callable[[Tensor], Tensor]) -> Tensor:
    """The formula applied to each group's rewards that are there, 0 for an output without or alone: [B]."""
    found = torch.zeros_like(rewards)
    for index in GROUP.unique():
        rated = (index == GROUP) & ~rewards.isnan()
        if int(rated.sum()) > 1:
            found[rated] = formula(rewards[rated])
    return found


def to_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """[B] given to each token of the mask, [B, T]."""
    return torch.where(mask, values[:, None], 0.0)


def trl_group_relative(inputs: dict[str, Any]) -> Tensor:
    return to_tokens(over_groups(inputs["rewards"], trl_standardised), inputs["mask"])


def trl_batch_scaled(inputs: dict[str, Any]) -> Tensor:
    rewards = inputs["rewards"]
    std = variance(rewards[~rewards.isnan()]).sqrt()
    return group_centred(rewards, GROUP, inputs["mask"]) / (std + 1e-4)


def trl_per_reward(inputs: dict[str, Any]) -> Tensor:
    parts = [over_groups(part, trl_standardised) for part in inputs["reward_parts"].unbind(1)]
    total = (torch.stack(parts, 1) * inputs["reward_weights"]).sum(1)
    present = ~inputs["reward_parts"].isnan().all(1)
    total[present] = trl_standardised(total[present])
    return to_tokens(total, inputs["mask"])


def over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """(v - m) / sqrt(variance + 1e-8), m and variance over the tokens of the mask; values [B, T] or [B, 1]: [B, T]."""
    values = values.expand(mask.shape)
    counted = values[mask]
    return torch.where(mask, (values - counted.mean()) / (variance(counted) + 1e-8).sqrt(), 0.0)


def verl_batch_normalised(inputs: dict[str, Any]) -> Tensor:
    return over_tokens(inputs["rewards"][:, None], inputs["mask"])


def verl_batch_scaled(inputs: dict[str, Any]) -> Tensor:
    return over_tokens(
        over_groups(inputs["rewards"], lambda rewards: rewards - rewards.mean())[:, None], inputs["mask"]
    )


def verl_per_reward(inputs: dict[str, Any]) -> Tensor:
    parts = [group_relative(part, GROUP, inputs["mask"]) for part in inputs["reward_parts"].unbind(1)]
    return over_tokens((torch.stack(parts, 2) * inputs["reward_weights"]).sum(2), inputs["mask"])


def verl_return_normalised(inputs: dict[str, Any]) -> Tensor:
    return over_tokens(inputs["token_rewards"].flip(1).cumsum(1).flip(1), inputs["mask"])


def verl_gae(inputs: dict[str, Any]) -> Tensor:
    names = ("token_rewards", "values", "mask", "discount", "gae_lambda")
    return over_tokens(gae(**{name: inputs[name] for name in names}), inputs["mask"])


def trl_rloo(row: Row, batch: Batch) -> tuple[Tensor, Tensor]:
    return -batch["advantages"][:, 0].mean(), loss_and_gradient(row, batch)[1] * MAX_TOKENS


def trl_sapo(row: Row, batch: Batch) -> tuple[Tensor, Tensor]:
    low = torch.tensor(row.preset.parameters["tau_neg"], dtype=torch.float32).item()
    parameters = {**row.preset.parameters, "tau_neg": low}
    return loss_and_gradient(replace(row, preset=replace(row.preset, parameters=parameters)), batch)


def trl_entropy(row: Row, batch: Batch) -> tuple[Tensor, Tensor]:
    """Without the bonus, and then its mean over tokens."""
    coef, mask = row.preset.entropy_coef, batch["mask"]
    loss, gradient = loss_and_gradient(replace(row, preset=replace(row.preset, entropy_coef=0.0)), batch)
    count = Denominators.of(mask, MAX_TOKENS)
    gradient[1] = -coef / count.tokens * mask.double()
    return loss - coef * per_token(batch["entropies"], mask, count), gradient


def verl_rejected(row: Row, batch: Batch) -> tuple[Tensor, Tensor]:
    """As if nothing outside the bounds had been drawn, and the rest without a weight."""
    kept = batch | {"mask": weights(row.correction, batch) > 0}
    return loss_and_gradient(replace(row, correction="uncorrected"), kept)


RLOO_CLIP = Difference(
    "mean_i -min(s A, clamp(s) A), s = pi / pi_old of the whole output; on policy its gradient is max_tokens times "
    "ours, and its value the mean of -A",
    loss=trl_rloo,
)
REJECTED = Difference(
    "rollout_rs takes what is outside the bounds out of the mask, so out of the denominators and the KL too, and gives "
    "the rest no weight",
    loss=verl_rejected,
)
DIFFERENCES = {
    ("trl", "group_relative"): Difference(
        "(r - mean) / (std + 1e-4); ours adds 1e-6, as verl", trl_group_relative, within=1e-3
    ),
    ("trl", "group_centred_batch_scaled"): Difference(
        "c / (std r + 1e-4) with the std of the rewards over the batch (scale_rewards='batch'); ours, as the paper, "
        "c / (std c + 1e-6) with that of c = r - mean of the group",
        trl_batch_scaled,
    ),
    ("trl", "per_reward"): Difference("1e-4 added to both stds; ours 1e-6", trl_per_reward, within=1e-3),
    ("verl", "per_reward"): Difference(
        "(S - m) / sqrt(v + 1e-8), m and v over tokens; ours over outputs. verl's rewards and what it makes of them "
        "are fp32",
        verl_per_reward,
    ),
    ("verl", "batch_normalised"): Difference(
        "(r - m) / sqrt(v + 1e-8), m and v over tokens, so that an output counts as often as it has tokens; ours over "
        "outputs",
        verl_batch_normalised,
    ),
    ("verl", "group_centred_batch_scaled"): Difference(
        "(c - m) / sqrt(v + 1e-8), m and v over tokens, c = r - mean of the group; ours c / (std c + 1e-6) over "
        "outputs, whose mean is 0",
        verl_batch_scaled,
    ),
    ("verl", "return_normalised"): Difference(
        "(G - m) / sqrt(v + 1e-8); ours (G - m) / (std + 1e-6)", verl_return_normalised, within=1e-5
    ),
    ("verl", "gae_whitened"): Difference(
        "(A - m) / sqrt(v + 1e-8); ours (A - m) / (std + 1e-6)", verl_gae, within=1e-5
    ),
    ("verl", "gae"): Difference(
        "whitened always: (A - m) / sqrt(v + 1e-8) over tokens. Before that it is ours: see lambda-returns", verl_gae
    ),
    ("trl", "rloo"): RLOO_CLIP,
    ("trl", "rloo, kl_in reward"): RLOO_CLIP,
    ("trl", "sapo"): Difference(
        "tau in float32, so that 1.05 is 1.0499999523 even where all else is fp64", loss=trl_sapo, within=1e-5
    ),
    ("trl", "grpo, entropy_coef"): Difference(
        "the bonus is the mean over tokens whatever that of the loss is; ours has the loss's, as verl", loss=trl_entropy
    ),
    ("verl", "grpo, token_masked, rejected"): REJECTED,
    ("verl", "grpo, sequence_masked, rejected"): REJECTED,
}
"""By peer, and by our advantage or our row."""
