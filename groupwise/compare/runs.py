"""One picture of runs that are there: reward and held-out accuracy against outputs sampled. Reads records alone."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from importlib.util import find_spec
from os.path import normpath
from pathlib import Path

from groupwise.compare.figures import run_curves
from groupwise.config import GroupsConfig, recipe_from
from groupwise.errors import ConfigError, DataError
from groupwise.recipe_file import tree_of
from groupwise.record.read import open_record
from groupwise.record.schema import FILE
from groupwise.statistics.curves import Curves
from groupwise.statistics.plot import draw


def draw_runs(folders: Sequence[Path], file: Path) -> None:
    """Draws a line for each run, finished or not, into a file whose ending says the format.

    Raises ConfigError without matplotlib or for an ending that it does not know; DataError for a folder without a run,
    or a run without rewards."""
    if find_spec("matplotlib") is None:
        raise ConfigError("plot: matplotlib is not installed", hint="pip install 'groupwise[plot]'")
    folders = list(dict.fromkeys(Path(normpath(folder)) for folder in folders))
    short = Counter(folder.name for folder in folders)
    curves = {folder.name if short[folder.name] == 1 else str(folder): [_curves(folder)] for folder in folders}
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        draw(curves, file, title=", ".join(curves) if len(curves) <= 3 else f"{len(curves)} runs")
    except ValueError as error:  # matplotlib's, of an ending that is no format
        raise ConfigError(f"--out {file}: {error}", hint="name a .png, .svg or .pdf file") from None
    except OSError as error:
        raise ConfigError(f"--out {file}: {error.strerror}", hint="name another file") from None


def _curves(folder: Path) -> Curves:
    if not (folder / FILE).exists():
        raise DataError(f"{folder}: no run there", hint="see `groupwise runs`")
    with closing(open_record(folder)) as record:
        recipe = recipe_from(tree_of(record.info()["recipe"]), where=str(folder))
        steps = record.steps()
    if not steps:
        raise DataError(f"{folder}: the run has no step yet", hint="leave it out, or wait")
    found = run_curves(folder, recipe.rollout) if isinstance(recipe.rollout, GroupsConfig) else None
    if found is None or not found.rewards:
        raise DataError(f"{folder}: a run of stage {recipe.stage!r} has no rewards to draw", hint="leave it out")
    return found
