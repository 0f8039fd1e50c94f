"""The models beside the policy that read its outputs, looked at before any weights are loaded. Loads no weights."""

from collections.abc import Mapping

from groupwise.config import Recipe, RLRecipe
from groupwise.model.tokenizer import ChatTokenizer, other_model
from groupwise.objective.surrogate import Objective

_ROLES = {"teacher": "teacher", "critic": "critic", "model": "reference"}
"""What a model is to the run, by the section of the recipe that names its path."""


def readers(
    recipe: Recipe, tokenizer: ChatTokenizer, objective: Objective | None, *, resumed: bool
) -> dict[str, ChatTokenizer]:
    """The teacher, the critic and the reference, those that have weights of their own, by section of the recipe.

    resumed: the policy's weights come from a checkpoint, the reference's do not. Raises ModelError if a model cannot be
    read, or has another vocabulary than the policy.
    """
    paths: dict[str, str | None] = {}
    if recipe.teacher is not None:
        paths["teacher"] = recipe.teacher.path
    if recipe.critic is not None and recipe.critic.trunk == "own":
        paths["critic"] = recipe.critic.path
    if objective is not None and isinstance(recipe, RLRecipe) and holds_reference(recipe, objective):
        paths["model"] = recipe.model.path if resumed else None
    return {
        section: tokenizer if path is None else other_model(tokenizer, path, seed=recipe.seed, section=section)
        for section, path in paths.items()
    }


def contexts(recipe: Recipe, beside: Mapping[str, ChatTokenizer]) -> list[tuple[str, int]]:
    """What each of `readers` is, in words, and the tokens of its context."""
    paths = {section: getattr(recipe, section).path or recipe.model.path for section in beside}
    return [
        (f"the {_ROLES[section]} ({section}.path = {paths[section]!r})", model.context)
        for section, model in beside.items()
    ]


def holds_reference(recipe: RLRecipe, objective: Objective) -> bool:
    """True if pi_ref is a model of its own: with adapters it is the policy without them, unless it is renewed."""
    return objective.kl_coef > 0 and (recipe.model.lora is None or recipe.objective.reference_every > 0)
