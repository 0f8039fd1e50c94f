"""Which reward functions a command's words name: one of the table, a function of a file, or those of a recipe."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from groupwise import registry
from groupwise.config import QuestionsConfig, RewardConfig
from groupwise.config.recipe import read_recipe
from groupwise.errors import ConfigError
from groupwise.functions import check_function
from groupwise.places import is_run, recipe_file, shipped
from groupwise.recipe_file import with_overrides


def is_recipe(word: str) -> bool:
    """True for a recipe's file, folder or shipped name, or a run; a reward of that name comes before a recipe."""
    if word in registry.REWARDS or ":" in word:
        return False
    return word.endswith((".yaml", ".yml")) or Path(word).is_dir() or word in shipped()


def rewards_of(
    word: str, params: Sequence[str], *, timeout_seconds: float
) -> tuple[tuple[RewardConfig, ...], QuestionsConfig | None, int]:
    """The reward functions that a word stands for, the recipe's questions if it is one, and its seed.

    A recipe's rewards are composed as there, at step 0, but not normalised: a value would depend on what stands beside.
    params: `name=value`, for a function. timeout_seconds: limit of each call, at most the recipe's own. Raises
    ConfigError for a name that is not known, params of a recipe, or a recipe without rewards.
    """
    if not is_recipe(word):
        check_function(registry.REWARDS, word, f"reward {word!r}", ConfigError)
        try:
            config = RewardConfig(function=word, params=with_overrides({}, params), timeout_seconds=timeout_seconds)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(f"reward {word!r}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        return (config,), None, 0
    if params:
        raise ConfigError(
            f"--param {params[0]}: {word} is a recipe", hint="its rewards have their params; set them there"
        )
    recipe = read_recipe(Path(word) / "recipe.yaml" if is_run(Path(word)) else recipe_file(word))
    if not recipe.rewards:
        raise ConfigError(f"{word}: a recipe without rewards", hint="name a reward, or a recipe that has some")
    limited = tuple(
        reward.model_copy(update={"timeout_seconds": min(timeout_seconds, reward.timeout_seconds), "normalise": "none"})
        for reward in recipe.rewards
    )
    return limited, recipe.questions, recipe.seed
