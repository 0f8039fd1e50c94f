"""What a program or a notebook calls: `groupwise.train`, `evaluate`, `open_run`. The command line calls the same."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groupwise.config import Recipe, read_recipe, recipe_from
from groupwise.errors import ConfigError
from groupwise.openmp import let_threads_wait
from groupwise.places import name_of, new_folder, recipe_file
from groupwise.recipe_file import with_overrides
from groupwise.record.run import RecordedRun

if TYPE_CHECKING:
    from groupwise.evaluation.search import Settings
    from groupwise.run.loop import Summary
    from groupwise.run.progress import OnStep, View


def train(
    recipe: "Recipe | Mapping[str, Any] | str | Path",
    *overrides: str,
    run: str | Path | None = None,
    resume: bool = False,
    on_step: "OnStep | None" = None,
    show: "View" = "table",
) -> "Summary":
    """Trains a recipe's model, as `groupwise train` does, and returns what became of it.

    recipe: a file, a shipped recipe's name, a tree of plain values, or a Recipe. overrides: `"update.steps=5"`.
    run: the run directory; None: a new one under `run.root`. resume: go on from its last checkpoint. on_step: called
    with the number of steps done and the step's metrics, once it is on record; an error that it raises ends the run as
    any other does. show: the live table on stderr, nothing, or events as JSON lines on stdout. Raises GroupwiseError.

    >>> import groupwise
    >>> summary = groupwise.train("tiny", "update.steps=2", run=folder / "run", show="nothing")
    >>> summary.steps
    2
    """
    let_threads_wait()
    settings = recipe_of(recipe, *overrides)
    name = name_of(recipe) if isinstance(recipe, str | Path) else "run"
    folder = new_folder(Path(settings.run.root), name) if run is None else _path(run, "run")
    from groupwise import registry
    from groupwise.run.progress import event, shown_as

    stage = registry.load(registry.STAGES, settings.stage, "stage")
    with shown_as(show, on_step=on_step):
        summary: Summary = stage(settings, folder, resume=resume)
        event("end", **{key: str(v) if isinstance(v, Path) else v for key, v in asdict(summary).items()})
    return summary


def evaluate(
    source: str | Path,
    *overrides: str,
    samples: int = 0,
    questions: str | None = None,
    model: str | None = None,
    against: str | None = None,
    best_of: str | None = None,
    search: "Settings | None" = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Figures of a run's last checkpoint, or of a recipe's model, as `groupwise eval --json` prints them.

    samples: k sampled answers a question, beside the greedy one. questions: a file or an environment in place of the
    held-out ones. model: a run, a folder or a name in place of the recipe's. against: another one, on the same
    questions. best_of: the reward by which best@k chooses. out: folder for the files. Raises GroupwiseError.

    >>> import groupwise
    >>> figures = groupwise.evaluate("tiny", "questions.heldout_size=4")
    >>> figures["n"]
    4
    """
    let_threads_wait()
    from groupwise.evaluation.measure import Wanted, evaluate_source

    wanted = Wanted(samples, questions, model, best_of, search, against, None if out is None else _path(out, "out"))
    return evaluate_source(str(source), list(overrides), wanted).content


def open_run(path: str | Path) -> RecordedRun:
    """A run directory, open for reading, also while it trains: its recipe, and rows of what its record holds.

    Raises DataError if the folder holds no run.

    >>> import groupwise
    >>> with groupwise.open_run(folder / "run") as run:
    ...     metrics = run.metrics("reward/mean", "accuracy")
    ...     outputs = run.outputs(step=1)
    >>> [row["step"] for row in metrics]
    [1, 2]
    >>> sorted(outputs[0])[:4]
    ['advantage', 'finish', 'group', 'length']
    """
    return RecordedRun(_path(path, "path"))


def recipe_of(recipe: "Recipe | Mapping[str, Any] | str | Path", *overrides: str) -> Recipe:
    """The recipe that is meant, with `a.b=c` overrides. Raises ConfigError for whatever is wrong with it."""
    if isinstance(recipe, str | Path):
        return read_recipe(recipe_file(str(recipe)), overrides)
    tree = recipe.model_dump(mode="json") if isinstance(recipe, Recipe) else dict(recipe)
    return recipe_from(with_overrides(tree, overrides))


def _path(given: str | Path, name: str) -> Path:
    """Raises ConfigError for an empty text, which as a path would be the working folder."""
    if given == "":
        raise ConfigError(f"{name} = '': an empty text", hint="give a path")
    return Path(given)
