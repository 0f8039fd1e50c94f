"""A small batch to try the objective's functions on: seeded, float64, uneven outputs, and no number near a kink."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from groupwise.objective.losses import Denominators
from groupwise.objective.token_advantage import token_rewards

MAX_TOKENS = 7
SPOILS = (0.0, math.inf, -math.inf, math.nan)
"""What padding may hold."""


def batch() -> dict[str, Any]:
    """Every input of every kind of function (groupwise.objective.surrogate.INPUTS), for six outputs of two groups.

    Lengths 5 4 3 2 1 5 and one hole; ratios from 0.6 to 1.5, none near 0.8 or 1.2. The sampler was not quite the old
    policy: weights from 0.7 to 1.4 a token.
    """
    generator = torch.Generator().manual_seed(3)
    shape = (6, 5)
    lengths = torch.tensor([5, 4, 3, 2, 1, 5])
    mask = torch.arange(5) < lengths[:, None]
    mask[0, 2] = False  # a tool's word between two drawn tokens
    ratios = torch.tensor([0.6, 0.75, 0.9, 1.1, 1.25, 1.5], dtype=torch.float64)
    ratio = ratios[torch.randint(len(ratios), shape, generator=generator)]
    logprobs = torch.rand(shape, generator=generator, dtype=torch.float64) * -3 - 0.1
    ref_logprobs = logprobs + torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5
    per_token = torch.rand(shape, generator=generator, dtype=torch.float64)
    gap = 0.7 * torch.rand(shape, generator=generator, dtype=torch.float64) - 0.35
    advantages = torch.tensor([1.2, -0.7, 0.4, -1.1, 0.9, -0.3], dtype=torch.float64)
    outputs = {"group": torch.tensor([0, 0, 0, 1, 1, 1]), "mask": mask}
    rewards = torch.tensor([1.0, 0.0, 0.5, 3.0, -1.0, 0.25], dtype=torch.float64)
    return {
        **advantage_inputs(rewards, outputs),
        "logprobs": logprobs,
        "old_logprobs": logprobs - ratio.log(),
        "ref_logprobs": ref_logprobs,
        "advantages": advantages[:, None].expand(shape).clone(),
        "log_weight": -gap,
        "per_token": per_token,
        "denominators": Denominators.of(mask, MAX_TOKENS),
    }


def advantage_inputs(rewards: Tensor, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that an advantage may name, all of it telling of these rewards [B] except the log-probabilities.

    outputs: their `group` and `mask`. Two reward functions that add up to the reward; steps that end at an output's
    first and last token, each worth the reward; a critic that takes every state for one of value 0.6 +- 0.01.
    """
    group, mask = outputs["group"], outputs["mask"]
    generator = torch.Generator().manual_seed(5)
    noise = torch.rand((3, *mask.shape), generator=generator, dtype=torch.float64)
    places = torch.arange(mask.shape[1])
    first = torch.where(mask, places, mask.shape[1]).amin(dim=1, keepdim=True)
    last = torch.where(mask, places, -1).amax(dim=1, keepdim=True)
    ends = mask & ((places == first) | (places == last))
    return {
        "rewards": rewards,
        "group": group,
        "mask": mask,
        "reward_parts": torch.stack([rewards / 2, rewards / 4], dim=1),
        "reward_weights": torch.tensor([1.0, 2.0], dtype=torch.float64),
        "step_rewards": torch.where(ends, rewards[:, None], math.nan),
        "token_rewards": token_rewards(rewards, mask),
        "values": 0.6 + 0.02 * (noise[0] - 0.5),
        "discount": 1.0,
        "gae_lambda": 0.95,
        "old_logprobs": -0.1 - 3 * noise[1],
        "teacher_logprobs": -0.1 - 3 * noise[2],
    }


def spoiled(inputs: Mapping[str, Any], value: float) -> dict[str, Any]:
    """The same inputs with this value in every entry of a per-token tensor that is outside the mask."""
    mask = inputs["mask"]
    return {
        name: torch.where(mask, part, value)
        if isinstance(part, Tensor) and part.shape == mask.shape and part.is_floating_point()
        else part
        for name, part in inputs.items()
    }
