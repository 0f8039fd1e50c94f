"""Functions that a recipe names: of a table, of an installed module, of a file of the user's. Loads no torch itself."""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from groupwise.errors import GroupwiseError
from groupwise.registry import instead, nearest

FORMS = "module:function or path/to/file.py:function"
"""How a function that no table has is named."""


def check_function(table: Mapping[str, str], name: str, where: str, error: type[GroupwiseError]) -> None:
    """Raises the error, with the nearest name, unless the table has the name or it names a function elsewhere.

    where: begins the message; `key = 'name'`, for one.
    """
    if name in table:
        return
    place, colon, function = name.rpartition(":")
    if not colon and (name.endswith(".py") or "/" in name):
        raise error(f"{where}: a file, and no function of it", hint=f"name the function too: {name}:function")
    if not colon:
        hint = instead(table, name, where.partition(" = ")[0])
        raise error(f"{where}: no such name", hint=f"{hint}; name your own function as {FORMS}")
    if not place or not function.isidentifier():
        raise error(f"{where}: not the name of a function", hint=f"write {FORMS}")


def find(table: Mapping[str, str], name: str, where: str, error: type[GroupwiseError]) -> Callable[..., Any]:
    """The function behind a table's name, `module:function` or `path/to/file.py:function`; imports it only now.

    where: begins the message of the error, which says what is wrong and what to do.
    """
    check_function(table, name, where, error)
    place, _, attribute = table.get(name, name).rpartition(":")
    of_file = place.endswith(".py") or "/" in place or os.sep in place
    module = _import_file(place, where, error) if of_file else _import_module(place, where, error)
    found = getattr(module, attribute, None)
    if found is None:
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise error(
            f"{where}: {place} has no {attribute!r}",
            hint=nearest(attribute, names) if names else "it defines no function",
        )
    if not callable(found):
        raise error(f"{where} is {type(found).__name__}, not a function", hint=f"name a function of {place}")
    return found


def own_file(name: str) -> str | None:
    """The file of a function that is named as `path/to/file.py:function`, or as a module of this folder; None: of
    neither, or it is not there."""
    place, colon, _ = name.rpartition(":")
    if not colon or not place:
        return None
    path = place if place.endswith(".py") else f"{place.replace('.', os.sep)}.py"
    return path if os.path.isfile(path) else None


def last_line(error: BaseException, frames: Sequence[traceback.FrameSummary] | None = None) -> str:
    """An error on one line, with where it was raised. frames: its traceback, if only a part of that matters."""
    if isinstance(error, SyntaxError):
        return f"{_words(error, -1)} ({error.filename}:{error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _imports(f)] if frames is None else frames
    return f"{_words(error, 0)} ({frames[-1].filename}:{frames[-1].lineno})" if frames else _words(error, 0)


def _words(error: BaseException, line: int) -> str:
    return " ".join(traceback.format_exception_only(error)[line].split())[:400]


def _imports(frame: traceback.FrameSummary) -> bool:
    """True for a frame of what imports, rather than of what is imported."""
    return frame.filename.startswith(("<frozen importlib", os.path.dirname(importlib.__file__), __file__))


def _import_file(place: str, where: str, error: type[GroupwiseError]) -> Any:
    path = os.path.abspath(place)
    if not os.path.isfile(path):
        raise error(f"{where}: no file {place!r}", hint=f"a path is relative to {os.getcwd()}")
    name = "own_file_" + os.path.basename(path).removesuffix(".py")
    source = importlib.util.spec_from_file_location(name, path)
    if source is None or source.loader is None:
        raise error(f"{where}: {place!r} is not a Python file", hint="its name must end in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(source)
    _search(os.path.dirname(path))  # for its sibling files, as if it were run as a script
    try:
        source.loader.exec_module(module)
    except BaseException as cause:
        raise _not_imported(where, cause, error) from None
    return module


def _import_module(place: str, where: str, error: type[GroupwiseError]) -> Any:
    if not place.startswith("groupwise."):
        _search(os.getcwd())
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as cause:
        if cause.name is None or not f"{place}.".startswith(f"{cause.name}."):
            raise _not_imported(where, cause, error) from None
        raise error(
            f"{where}: no module named {cause.name!r}",
            hint="modules are looked for here and among the installed; a file is named as path/to/file.py:function",
        ) from None
    except BaseException as cause:
        raise _not_imported(where, cause, error) from None


def _search(folder: str) -> None:
    if folder not in sys.path[:1]:
        sys.path.insert(0, folder)


def _not_imported(where: str, cause: BaseException, error: type[GroupwiseError]) -> GroupwiseError:
    if isinstance(cause, KeyboardInterrupt):
        raise cause
    return error(f"{where} cannot be imported: {last_line(cause)}", hint="fix it there and run again")
