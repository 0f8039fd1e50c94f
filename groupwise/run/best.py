"""`run.keep_best`: which checkpoint is the best by a figure of the evaluations, kept beside the newest ones."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from groupwise.config import Recipe
from groupwise.errors import ConfigError
from groupwise.model.checkpoint import prune
from groupwise.model.saved import Best, best_checkpoint, best_of, mark_best


def check_keep_best(recipe: Recipe) -> None:
    """Raises ConfigError if the best of one checkpoint would be kept."""
    if recipe.run.keep_best is not None and not 0 < recipe.evaluate.every < recipe.update.steps:
        raise ConfigError(
            f"run.keep_best = {recipe.run.keep_best!r}, but evaluate.every = {recipe.evaluate.every} of "
            f"{recipe.update.steps} steps: only the last weights are evaluated",
            hint="set evaluate.every below update.steps, to 10 for one",
        )


def keep_best(recipe: Recipe, folder: Path, step: int, figures: Mapping[str, Any], save: Callable[[], Path]) -> None:
    """Saves the weights after `step` steps if they are the best so far by the recipe's figure. `save`: saves them.

    Of equal ones the earlier stays. Raises ConfigError if the evaluation has no such figure.
    """
    wanted = recipe.run.keep_best
    if wanted is None:
        return
    name = wanted.removeprefix("-")
    values = {key: number for key, figure in figures.items() if (number := _number(figure)) is not None}
    value = values.get(name)
    if value is None:
        known = ", ".join(values)
        raise ConfigError(
            f"run.keep_best = {wanted!r}: the evaluation has no such figure", hint=f"it has: {known or 'none'}"
        )
    if step == 0:  # the model as it came needs no checkpoint
        return
    sign = -1 if wanted.startswith("-") else 1
    best = best_of(folder)
    if best is not None and best.metric == wanted and best_checkpoint(folder) and sign * value <= sign * best.value:
        return
    save()
    mark_best(folder, Best(step, wanted, value))
    prune(folder, recipe.run.keep_checkpoints, spare=best_checkpoint(folder))


def _number(figure: Any) -> float | None:
    """A figure, or the value of one that has an interval; None: it is no number."""
    found = figure.get("value") if isinstance(figure, Mapping) else figure
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
