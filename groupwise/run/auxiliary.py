"""The models beside the policy, loaded as the run's last checkpoint left them. Knows runs; does not learn."""

from typing import Any

from groupwise.config import RLRecipe
from groupwise.learn.auxiliary import AuxiliaryModels
from groupwise.model.checkpoint import load_beside
from groupwise.model.critic import load_critic
from groupwise.model.lora import check_base, digest_at_first, without_adapters
from groupwise.model.policy import Policy, load_policy
from groupwise.model.tokenizer import other_model
from groupwise.objective.surrogate import Objective
from groupwise.run.open import Run
from groupwise.run.readers import holds_reference


def load_auxiliary(run: Run[RLRecipe], objective: Objective) -> AuxiliaryModels:
    """What the objective reads, as the run's last checkpoint left it. Adds to `run.beside` what is to be saved."""
    recipe, reference, teacher = run.recipe, None, None
    if objective.kl_coef > 0:  # pi_ref is the model that the run began with, also after a resume
        own = holds_reference(recipe, objective)
        reference = frozen_policy(run, recipe.model.path, "model") if own else without_adapters(run.policy)
    if recipe.teacher is not None:
        teacher = frozen_policy(run, recipe.teacher.path, "teacher")
    loaded = None
    if recipe.critic is not None:
        loaded = load_critic(recipe.critic, recipe.model, policy=run.policy, seed=recipe.seed)
        run.beside["critic"] = loaded.module
    if reference is not None and recipe.objective.reference_every:
        run.beside["reference"] = reference.model
    if run.resumed_from is not None:
        for name, module in run.beside.items():
            load_beside(run.resumed_from, name, module)
    return AuxiliaryModels(reference, teacher, loaded)


def frozen_policy(run: Run[Any], path: str, section: str) -> Policy:
    """A model of the policy's vocabulary, held in memory as the policy is, and never trained.

    Raises CheckpointError if it is the model that a resumed run began with, and another one by now."""
    tokenizer = other_model(run.tokenizer, path, seed=run.recipe.seed, section=section)
    policy = load_policy(run.recipe.model.model_copy(update={"path": path}), tokenizer, section=section)
    if run.base and section == "model":
        check_base(run.resumed_from, run.base, digest_at_first(policy.model), path=path)
    policy.model.requires_grad_(False)
    return policy
