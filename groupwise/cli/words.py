"""What the words of a command stand for: a recipe, a run's folder, a run that is to be resumed. Loads no torch."""

import sys
from pathlib import Path

from groupwise.errors import ConfigError
from groupwise.places import OWN, is_run, recipe_file


def make_ready(run: Path, recipe: str | None, *, take_over: bool, accept_loss: bool) -> None:
    """Readies a run to be resumed: its recipe, and what stands in the way if the user says so."""
    from groupwise.record import place, process

    if take_over and (writer := process.take_over(run)) is not None:
        print(f"{run}: taken over from {writer}", file=sys.stderr)
    if accept_loss:
        from groupwise.run.place import accept_loss as accept

        accept(run)
    if recipe is None or "=" in recipe:
        place.recipe_there(run)


def source_of(
    verb: str,
    recipe: str | None,
    overrides: list[str] | None,
    run: Path | None,
    *,
    resume: bool,
    own: str,
    what: str,
    hint: str,
) -> tuple[str, list[str]]:
    """The recipe that a command means, the folder's own (a file of that name) if it was left out, and the overrides.

    what: is in the folder; hint: how to find one."""
    words = list(overrides or [])
    if resume and run is None:
        raise ConfigError(f"--resume without --run: which {what}?", hint=hint)
    if recipe is not None and "=" in recipe and not Path(recipe).exists():  # the recipe was left out
        words, recipe = [recipe, *words], None
    if recipe is not None:
        return recipe_file(recipe), words
    if not resume or run is None:
        if verb == "train" and Path(OWN).is_file() and not is_run(Path(".")):
            return OWN, words
        hint = "`groupwise init` creates one, `groupwise train tiny` uses a shipped one; or add --run DIR --resume"
        raise ConfigError(f"{verb}: no recipe given, and no {OWN} here", hint=hint)
    if not (run / own).is_file():
        raise ConfigError(f"--run {run}: no {what} there to resume", hint=hint)
    return str(run / own), words
