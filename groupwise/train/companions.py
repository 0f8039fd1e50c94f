"""The models beside the policy that an objective reads: the reference, a teacher, a critic."""

from dataclasses import dataclass

import torch
from torch import nn

from groupwise.config import CriticConfig, Recipe
from groupwise.model.checkpoint import load_beside
from groupwise.model.critic import Critic, load_critic
from groupwise.model.lora import check_base, digest_at_first, merged_weights, without_adapters
from groupwise.model.policy import Policy, load_policy
from groupwise.model.tokenizer import other_model
from groupwise.objective.surrogate import Objective
from groupwise.train.room import holds_reference
from groupwise.train.run import Run


@dataclass(frozen=True)
class Companions:
    """pi_ref, the teacher and V_psi; None where the objective reads none."""

    reference: Policy | None = None
    teacher: Policy | None = None
    critic: Critic | None = None


def load_companions(run: Run, objective: Objective, *, critic: CriticConfig | None = None) -> Companions:
    """What the objective reads, as the run's last checkpoint left it. Adds to `run.beside` what is to be saved."""
    recipe, reference, teacher = run.recipe, None, None
    if objective.kl_coef > 0:  # pi_ref is the model that the run began with, also after a resume
        own = holds_reference(recipe, objective)
        reference = frozen_policy(run, recipe.model.path, "model") if own else without_adapters(run.policy)
    if recipe.teacher is not None:
        teacher = frozen_policy(run, recipe.teacher.path, "teacher")
    loaded = None
    if critic is not None:
        loaded = load_critic(critic, recipe.model, policy=run.policy, seed=recipe.seed)
        run.beside["critic"] = loaded.module
    if reference is not None and recipe.objective.reference_every:
        run.beside["reference"] = reference.model
    if run.resumed_from is not None:
        for name, module in run.beside.items():
            load_beside(run.resumed_from, name, module)
    return Companions(reference, teacher, loaded)


def reference_is_due(recipe: Recipe, *, step: int) -> bool:
    """True after so many steps, counted from 0, that the reference is renewed before the next (iterative GRPO)."""
    every = recipe.objective.reference_every
    return every > 0 and step > 0 and step % every == 0


@torch.no_grad()
def renew_reference(reference: nn.Module, policy: nn.Module, *, mix: float) -> None:
    """ref <- mix policy + (1 - mix) ref, weight by weight (DeepSeekMath, Algorithm 1, line 3, with mix 1)."""
    new = merged_weights(policy)
    for name, old in reference.named_parameters():
        old.lerp_(new[name], mix)


def frozen_policy(run: Run, path: str, section: str) -> Policy:
    """A model of the policy's vocabulary, held in memory as the policy is, and never trained.

    Raises CheckpointError if it is the model that a resumed run began with, and another one by now."""
    tokenizer = other_model(run.tokenizer, path, seed=run.recipe.seed, section=section)
    policy = load_policy(run.recipe.model.model_copy(update={"path": path}), tokenizer, section=section)
    if run.base and section == "model":
        check_base(run.resumed_from, run.base, digest_at_first(policy.model), path=path)
    policy.model.requires_grad_(False)
    return policy
