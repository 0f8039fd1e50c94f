"""Batches and objectives made for the tests: seeded, float64, with uneven outputs and no number near a kink."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from groupwise.objective.losses import Denominators
from groupwise.objective.surrogate import Objective, Terms, policy_loss
from groupwise.objective.token_advantage import token_rewards

MAX_TOKENS = 7


@dataclass(frozen=True)
class Made:
    """The arguments of policy_loss, and the group of each row."""

    logprobs: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor
    entropies: Tensor
    advantages: Tensor
    mask: Tensor
    group: Tensor
    sampled_logprobs: Tensor

    def rows(self, index: Tensor | slice) -> "Made":
        return Made(**{name: value[index] for name, value in vars(self).items()})

    def spoiled(self, value: float) -> "Made":
        """The same batch with this value in every entry outside the mask."""
        parts = {name: part for name, part in vars(self).items() if part.is_floating_point()}
        return replace(self, **{name: torch.where(self.mask, part, value) for name, part in parts.items()})

    def padded(self, columns: int) -> "Made":
        """The same batch with so many more columns outside the mask."""
        parts = {name: part for name, part in vars(self).items() if name != "group"}
        more = {name: torch.nn.functional.pad(part, (0, columns), value=0) for name, part in parts.items()}
        return replace(self, **more)


def batch() -> Made:
    """Six outputs of two groups, lengths 5 4 3 2 1 5 and one hole; ratios from 0.6 to 1.5, none near 0.8 or 1.2.

    The sampler was not quite the old policy: weights from 0.7 to 1.4 a token.
    """
    generator = torch.Generator().manual_seed(3)
    shape = (6, 5)
    lengths = torch.tensor([5, 4, 3, 2, 1, 5])
    mask = torch.arange(5) < lengths[:, None]
    mask[0, 2] = False  # a tool's word between two drawn tokens
    ratios = torch.tensor([0.6, 0.75, 0.9, 1.1, 1.25, 1.5], dtype=torch.float64)
    ratio = ratios[torch.randint(len(ratios), shape, generator=generator)]
    logprobs = torch.rand(shape, generator=generator, dtype=torch.float64) * -3 - 0.1
    old = logprobs - ratio.log()
    return Made(
        logprobs=logprobs,
        old_logprobs=old,
        ref_logprobs=logprobs + torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5,
        entropies=torch.rand(shape, generator=generator, dtype=torch.float64),
        advantages=torch.tensor([1.2, -0.7, 0.4, -1.1, 0.9, -0.3], dtype=torch.float64)[:, None].expand(shape).clone(),
        mask=mask,
        group=torch.tensor([0, 0, 0, 1, 1, 1]),
        sampled_logprobs=old + 0.7 * torch.rand(shape, generator=generator, dtype=torch.float64) - 0.35,
    )


def advantage_inputs(rewards: Tensor, group: Tensor, mask: Tensor) -> dict[str, Any]:
    """Everything that an advantage may name, all of it telling of these rewards [B] except the log-probabilities.

    Two reward functions that add up to the reward; steps that end at an output's first and last token, each worth the
    reward; a critic that takes every state for one of value 0.6, give or take 0.01.
    """
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


def terms_of(objective: Objective, made: Made, denominators: Denominators | None = None) -> Terms:
    return policy_loss(
        objective,
        made.logprobs,
        old_logprobs=made.old_logprobs,
        ref_logprobs=made.ref_logprobs,
        entropies=made.entropies,
        advantages=made.advantages,
        mask=made.mask,
        denominators=denominators or Denominators.of(made.mask, MAX_TOKENS),
        sampled_logprobs=made.sampled_logprobs,
    )


def loss_and_gradient(
    objective: Objective, made: Made, denominators: Denominators | None = None
) -> tuple[Tensor, Tensor]:
    """The loss, and its derivative by each log-probability, [B, T]."""
    made = replace(made, logprobs=made.logprobs.detach().requires_grad_())
    terms = terms_of(objective, made, denominators)
    (gradient,) = torch.autograd.grad(terms.loss, made.logprobs)
    return terms.loss.detach(), gradient


SPOILS = [0.0, math.inf, -math.inf, math.nan]
