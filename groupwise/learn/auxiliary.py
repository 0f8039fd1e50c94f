"""The models beside the policy that an objective reads: the reference, a teacher, a critic."""

from dataclasses import dataclass

import torch
from torch import nn

from groupwise.config import RLRecipe
from groupwise.model.critic import Critic
from groupwise.model.lora import merged_weights
from groupwise.model.policy import Policy


@dataclass(frozen=True)
class AuxiliaryModels:
    """pi_ref, the teacher and V_psi; None where the objective reads none."""

    reference: Policy | None = None
    teacher: Policy | None = None
    critic: Critic | None = None


def reference_is_due(recipe: RLRecipe, *, step: int) -> bool:
    """True after so many steps, counted from 0, that the reference is renewed before the next (iterative GRPO)."""
    every = recipe.objective.reference_every
    return every > 0 and step > 0 and step % every == 0


@torch.no_grad()
def renew_reference(reference: nn.Module, policy: nn.Module, *, mix: float) -> None:
    """ref <- mix policy + (1 - mix) ref, weight by weight (DeepSeekMath, Algorithm 1, line 3, with mix 1)."""
    new = merged_weights(policy)
    for name, old in reference.named_parameters():
        old.lerp_(new[name], mix)
