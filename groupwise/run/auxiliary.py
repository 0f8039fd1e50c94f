"""The models beside the policy, loaded as the run's last checkpoint left them. Knows runs; does not learn."""

from collections.abc import Mapping

from torch import nn

from groupwise.config import Recipe, RLRecipe
from groupwise.learn.auxiliary import AuxiliaryModels
from groupwise.model.checkpoint import load_beside
from groupwise.model.critic import load_critic
from groupwise.model.loading import load_policy
from groupwise.model.lora import check_base, digest_at_first, without_adapters
from groupwise.model.policy import Policy
from groupwise.model.tokenizer import ChatTokenizer, other_model
from groupwise.objective.surrogate import Objective
from groupwise.run.journal import Journal
from groupwise.run.readers import holds_reference


def load_auxiliary(
    journal: Journal[RLRecipe], objective: Objective, policy: Policy, tokenizer: ChatTokenizer
) -> AuxiliaryModels:
    """What the objective reads, as the run's last checkpoint left it."""
    recipe, reference, teacher, critic = journal.recipe, None, None, None
    if objective.kl_coef > 0:  # pi_ref is the model that the run began with, also after a resume
        own = holds_reference(recipe, objective)
        reference = frozen_policy(journal, tokenizer, recipe.model.path, "model") if own else without_adapters(policy)
    if recipe.teacher is not None:
        teacher = frozen_policy(journal, tokenizer, recipe.teacher.path, "teacher")
    if recipe.critic is not None:
        critic = load_critic(recipe.critic, recipe.model, policy=policy, seed=recipe.seed)
    models = AuxiliaryModels(reference, teacher, critic)
    if journal.resumed_from is not None:
        for name, module in kept(recipe, models).items():
            load_beside(journal.resumed_from, name, module)
    return models


def kept(recipe: RLRecipe, models: AuxiliaryModels) -> Mapping[str, nn.Module]:
    """The models that change, and are in a checkpoint beside the policy."""
    found: dict[str, nn.Module] = {}
    if models.critic is not None:
        found["critic"] = models.critic.module
    if models.reference is not None and recipe.objective.reference_every:
        found["reference"] = models.reference.model
    return found


def frozen_policy(journal: Journal[Recipe], tokenizer: ChatTokenizer, path: str, section: str) -> Policy:
    """A model of the policy's vocabulary, held in memory as the policy is, and never trained.

    Raises CheckpointError if it is the model that a resumed run began with, and another one by now."""
    recipe, base = journal.recipe, journal.state.base
    policy = load_policy(
        recipe.model.model_copy(update={"path": path}),
        other_model(tokenizer, path, seed=recipe.seed, section=section),
        section=section,
    )
    if base and section == "model":
        check_base(journal.resumed_from, base, digest_at_first(policy.model), path=path)
    policy.model.requires_grad_(False)
    return policy
