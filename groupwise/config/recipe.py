"""A recipe: YAML read into frozen models, with dotted overrides. Knows names and ranges; loads nothing but text.

Each stage has a recipe of its own, which declares what the stage reads; a key that it does not read is unknown there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from groupwise import registry
from groupwise.config.base import Recipe
from groupwise.config.errors import causes, check_names, message_of
from groupwise.config.preference import PreferenceRecipe
from groupwise.config.rejection import RejectionRecipe
from groupwise.config.reward_model import RewardModelRecipe
from groupwise.config.rl import RLRecipe
from groupwise.config.sft import SFTRecipe
from groupwise.errors import ConfigError
from groupwise.recipe_file import read_tree, write_tree

RECIPES: dict[str, type[Recipe]] = {
    "rl": RLRecipe,
    "sft": SFTRecipe,
    "reward_model": RewardModelRecipe,
    "preference": PreferenceRecipe,
    "rejection": RejectionRecipe,
}
"""The recipe of each stage; the first one's where a recipe names none."""
DEFAULT_STAGE = next(iter(RECIPES))


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file with `a.b=c` overrides applied. Raises ConfigError for whatever is wrong with it."""
    return recipe_from(read_tree(Path(path), overrides), where=str(path))


def recipe_from(tree: dict[str, Any], where: str = "recipe") -> Recipe:
    """The recipe in a tree of plain values; every name in it is checked against its table."""
    if "stages" in tree:
        raise ConfigError(f"{where}: it has stages, so it is a pipeline", hint="use `groupwise pipeline`")
    kind = recipe_of_stage(tree.get("stage"))
    try:
        recipe = kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{where}: {'; '.join(message_of(item, kind, RECIPES) for item in causes(error))}") from None
    check_names(recipe)
    return recipe


def recipe_of_stage(stage: Any) -> type[Recipe]:
    """The kind of recipe that a stage reads; None: the usual stage. Raises ConfigError for one that is not there."""
    if stage in ("grpo", "ppo"):
        preset = ", objective.preset: ppo" if stage == "ppo" else ""
        raise ConfigError(f"stage = {stage!r}: the stage of every policy gradient is rl", hint=f"stage: rl{preset}")
    if stage is not None and not isinstance(stage, str):
        raise ConfigError(f"stage = {stage!r}: give text", hint=f"choose from: {', '.join(RECIPES)}")
    registry.check(registry.STAGES, stage or DEFAULT_STAGE, "stage")
    return RECIPES[stage or DEFAULT_STAGE]


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML: every field with the value that the run uses."""
    return write_tree(recipe.model_dump(mode="json"))
