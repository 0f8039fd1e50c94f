"""A questions section inside the params of another section: checked and loaded as the recipe's own is."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from groupwise import registry
from groupwise.config import QuestionsConfig
from groupwise.config.errors import message_of
from groupwise.datasets.base import Questions, load_questions
from groupwise.errors import ConfigError, DataError

_KEYS = re.compile(rf"(?<![\w./])questions\.(?=(?:{'|'.join(QuestionsConfig.model_fields)})\b)")


def section(tree: Any, *, where: str, **defaults: Any) -> QuestionsConfig:
    """The section at a place in a recipe. Raises ConfigError that names the place for what is wrong with it."""
    if not isinstance(tree, Mapping):
        raise ConfigError(
            f"{where} = {tree!r}: not a section", hint="give it keys, as questions has: source, params, size"
        )
    try:
        found = QuestionsConfig.model_validate({**defaults, **tree})
    except ValidationError as error:
        raise ConfigError(
            "; ".join(f"{where}.{message_of(item, QuestionsConfig)}" for item in error.errors())
        ) from None
    registry.check_source(registry.ENVS, found.source, f"{where}.source")
    return found


def load_section(config: QuestionsConfig, seed: int, *, where: str) -> Questions:
    """Its questions, in two parts: those of any section with the same values and seed.

    Raises what `load_questions` raises, with the section's own place in place of `questions`."""
    try:
        return load_questions(config, seed)
    except (ConfigError, DataError) as error:
        message, count = _KEYS.subn(f"{where}.", error.message)
        hint = error.hint and _KEYS.sub(f"{where}.", error.hint)
        raise type(error)(message if count else f"{where}: {message}", hint=hint) from None


def bare(config: QuestionsConfig) -> QuestionsConfig:
    """The section without system prompt and template, also those of a mixture's parts."""
    params = dict(config.params)
    if config.source == "mixture" and isinstance(params.get("parts"), dict):
        none = {"system": None, "template": None}
        params["parts"] = {
            name: {**part, **none} if isinstance(part, dict) else part for name, part in params["parts"].items()
        }
    return config.model_copy(update={"system": None, "template": None, "params": params})
