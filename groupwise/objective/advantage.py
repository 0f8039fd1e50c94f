"""Advantages: how much better each output is than its siblings. Knows rewards and groups; no policy, no text.

An output without a reward (nan: a reward function failed or abstained) has no advantage, and its siblings are compared
as if it were not there. It is not an output with reward 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from groupwise.errors import DataError

EPSILON = 1e-6
"""Added to the standard deviation, in reward units; verl's value."""


def group_relative(rewards: Tensor, group: Tensor, mask: Tensor) -> Tensor:
    """Advantage of each output over its group (DeepSeekMath 4.1.2): (r_i - mean r) / (std r + EPSILON).

    rewards: [B], reward units, nan where there is none; group: [B], index of the question; mask: [B, T], the tokens
    that the policy drew. Returns [B, T], unitless, 0 outside the mask and where all rewards of the group are equal.
    Sample std (n - 1), as TRL and verl, so |A| <= (G - 1) / sqrt(G). Raises DataError if a group has one output or a
    reward is infinite.
    """
    return _compare(rewards, group, mask, _standardised)


def group_centred(rewards: Tensor, group: Tensor, mask: Tensor) -> Tensor:
    """Advantage without the division by the standard deviation (Dr. GRPO, arXiv:2503.20783): r_i - mean r.

    Arguments, zeros and errors as in group_relative. Returns [B, T], reward units.
    """
    return _compare(rewards, group, mask, _centred)


def _centred(rewards: Tensor) -> Tensor:
    return rewards - rewards.mean()


def _standardised(rewards: Tensor) -> Tensor:
    centred = _centred(rewards)  # first the mean, then the squares about it: E[r^2] - E[r]^2 loses every digit
    variance = centred.square().sum() / (len(rewards) - 1)
    return centred / (variance.sqrt() + EPSILON)


def _compare(rewards: Tensor, group: Tensor, mask: Tensor, formula: Callable[[Tensor], Tensor]) -> Tensor:
    """The formula applied to each group's rewards that are there, in float64, and given to each token of the mask."""
    if bool(rewards.isinf().any()):
        raise DataError(f"a reward is infinite: {rewards.tolist()}", hint="a reward is a finite number, or none")
    device, dtype = rewards.device, torch.promote_types(rewards.dtype, torch.float32)
    rewards, group = rewards.cpu(), group.cpu()  # few numbers; and Apple's GPU has no float64
    advantages = torch.zeros_like(rewards, dtype=torch.float64)
    for index in group.unique():
        members = group == index
        if int(members.sum()) < 2:
            raise DataError(
                f"group {int(index)} has 1 output: nothing to compare it with", hint="sample 2 or more per question"
            )
        rated = members & ~rewards.isnan()
        present = rewards[rated].double()
        # Equal rewards must give 0 itself: their mean may be off by a rounding, and a tiny std blows that up.
        if len(present) >= 2 and bool(present.min() < present.max()):
            advantages[rated] = formula(present)
    return torch.where(mask, advantages.to(dtype).to(device).unsqueeze(1), 0.0)
