"""Where recipes are: files, folders that `groupwise init` made, shipped ones by name; and the files that they name.

Loads nothing but text.
"""

import os
import re
import shutil
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Any

from groupwise.errors import ConfigError, DataError
from groupwise.registry import closest

RECORD = "record.sqlite"
"""The record of a run, which holds its recipe too."""
OWN = "recipe.yaml"
"""The recipe of a folder that `groupwise init` made; of a run too, beside its record."""
START = "start"
"""The folder among the shipped recipes that `groupwise init` copies."""
MODELINE = "# yaml-language-server:"
"""How a line begins that tells an editor the schema of a recipe."""
NAMING = (
    "image_dir",
    *("source", "heldout", "against", "path", "chat_template", "function", "engine", "environment"),
    *("advantage", "loss", "aggregate", "kl_estimator", "correction", "run", "command", "tools", "tool", "rubric"),
)
"""Keys of a recipe whose value may be a file."""


def shipped_folder() -> Path:
    """The shipped recipes: within an installed package, beside the package in a clone."""
    inside = Path(__file__).parent / "recipes"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "recipes"


def shipped() -> dict[str, Path]:
    """The shipped recipes by name: `tiny`, `presets/dapo`."""
    root = shipped_folder()
    files = {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}
    return {name: path for name, path in files.items() if not name.startswith(f"{START}/")}


def first_comment(path: Path) -> str:
    """What the comment at a recipe's head says first, up to a full stop."""
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith(MODELINE)]
    head = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return re.split(r"(?<!\bDr)\. ", " ".join(line.lstrip("# ") for line in lines[:head]))[0].rstrip(".")


def cache_folder() -> Path:
    """Where checkpoints, libraries and fetched pictures are kept: $GROUPWISE_CACHE, else $XDG_CACHE_HOME/groupwise,
    else ~/.cache/groupwise."""
    own = os.environ.get("GROUPWISE_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "groupwise"


def is_run(folder: Path) -> bool:
    """True if a run is in the folder, or what is left of one."""
    return (folder / RECORD).exists() or (folder / "checkpoints").exists()


def recipe_file(word: str) -> str:
    """The file of a recipe that is named by its path, its folder or, if it is a shipped one, its name."""
    path = Path(word)
    if _is_there(path) and not path.is_dir():
        return word
    if (path / OWN).is_file() and not is_run(path):
        return str(path / OWN)
    name = path.with_suffix("").as_posix() if path.suffix in (".yaml", ".yml") else path.as_posix()
    known = shipped()
    if name.removeprefix("recipes/") in known and not path.is_dir():
        return str(known[name.removeprefix("recipes/")])
    if path.is_dir() and is_run(path):
        raise ConfigError(f"recipe {word!r}: this is a run", hint=f"resume it with --run {word} --resume")
    if path.is_dir():
        raise ConfigError(f"recipe {word!r}: a folder without {OWN}", hint="groupwise init makes one")
    raise ConfigError(f"recipe {word!r}: no such file, and no shipped recipe has that name", hint=_hint(path, known))


def name_of(recipe: str | Path) -> str:
    """What a run is called after its recipe: the file's name, or that of its folder if it is called as all are."""
    path = Path(recipe)
    return path.resolve().parent.name if path.name == OWN else path.stem


def new_folder(root: Path, name: str) -> Path:
    """root/<recipe>-<date>-<time>, with a number behind it if two runs begin in one second."""
    base = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    candidates = (root / (base if not n else f"{base}-{n}") for n in range(1000))
    return next(folder for folder in candidates if not folder.exists())


def asked_file(word: str) -> str:
    """The recipe that `groupwise eval` is given: of a run's folder, else one that is named as for `recipe_file`.

    Of a run whose recipe is gone it is the record, which holds it.
    """
    folder = Path(word)
    if is_run(folder):
        return _of_run(folder)
    if (folder / "config.json").is_file():
        hint = f"it is a model: give a recipe, and --model {word}"
        raise ConfigError(f"{word}: neither a run directory nor a recipe", hint=hint)
    try:
        return recipe_file(word)
    except ConfigError as error:
        if folder.is_dir():
            raise ConfigError(f"{word}: neither a run directory nor a recipe", hint="see `groupwise runs`") from None
        hint = error.hint if error.hint.startswith("did") else "see `groupwise runs` and `groupwise list recipes`"
        raise ConfigError(f"{word}: no such run, recipe file or shipped recipe", hint=hint) from None


def _of_run(folder: Path) -> str:
    found = next((folder / name for name in (OWN, RECORD) if (folder / name).is_file()), None)
    if found is None:
        newest = max((folder / "checkpoints").glob("step-*"), default=folder / "checkpoints" / "step-...")
        hint = f"give a recipe, and --model {quote(str(newest))}"
        raise ConfigError(f"{folder}: {OWN} and {RECORD} are gone, so nothing says what to ask", hint=hint)
    return str(found)


def _hint(path: Path, known: dict[str, Path]) -> str:
    near = [file.name for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    beside = closest(path.name, near, cutoff=0.6)
    if beside:
        return f"did you mean {str(path.parent / beside)!r}?"
    by_end = {name.rpartition("/")[2]: name for name in reversed(known)}
    close = by_end.get(closest(path.stem, by_end, cutoff=0.6) or "")
    return f"did you mean {close!r}?" if close else "see `groupwise list recipes`; `groupwise init` writes one"


def beside(tree: Any, folder: Path, key: str = "") -> Any:
    """A recipe's tree, in which a file that is in the recipe's folder, and not in the working one, has its path."""
    if isinstance(tree, dict):
        return {name: beside(value, folder, str(name)) for name, value in tree.items()}
    if isinstance(tree, list):
        return [beside(value, folder, key) for value in tree]
    return _beside(tree, folder) if isinstance(tree, str) and key in NAMING else tree


def _beside(value: str, folder: Path) -> str:
    """value: a path, or path:function; what has neither a folder nor an ending is a name, not a file."""
    file, colon, function = value.partition(":")
    if not ("/" in file or Path(file).suffix) or Path(file).is_absolute() or _is_there(Path(file)):
        return value
    return f"{folder / file}{colon}{function}" if _is_there(folder / file) else value


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have
        return False


def write_start(folder: Path) -> list[str]:
    """Copies what a first run needs into a folder: a recipe, questions, a reward. Returns the files' names.

    Raises DataError if one of them is there already, or the folder cannot be written to."""
    files = sorted(path for path in (shipped_folder() / START).iterdir() if path.is_file())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = [file.name for file in files if os.path.lexists(folder / file.name)]
        if there:
            raise DataError(
                f"{folder}: {', '.join(there)} there already", hint="nothing was written; name another folder"
            )
        for file in files:
            shutil.copyfile(file, folder / file.name)
    except (FileExistsError, NotADirectoryError):
        raise DataError(f"{folder}: a file, not a folder", hint="name another folder") from None
    except OSError as error:
        raise DataError(f"{folder} cannot be written to: {error.strerror}", hint="name another folder") from None
    return [file.name for file in files]
