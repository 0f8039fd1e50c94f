"""Settings that a stage does not read: a recipe that sets one means something else than it will get."""

from collections.abc import Sequence
from typing import Any

from groupwise.config import Recipe
from groupwise.errors import ConfigError

BY_EXAMPLES: Sequence[str] = (
    "update.updates_per_rollout",
    "update.outputs_per_update",
    "update.mask_truncated",
    "teacher",
    "objective",
)
"""What no stage reads that learns from examples."""


def refuse_unread(recipe: Recipe, names: Sequence[str] = BY_EXAMPLES) -> None:
    """Raises ConfigError for the first of these settings, or sections, that is not at its default."""
    for name in names:
        section: Any = recipe
        *places, last = name.split(".")
        for place in places:
            section = getattr(section, place)
        field = type(section).model_fields[last]
        if getattr(section, last) != field.get_default(call_default_factory=True):
            raise ConfigError(f"{name}: stage {recipe.stage!r} does not read it", hint="drop it, or take another stage")
