"""Rows of a file or folder: JSONL, JSON, CSV, Parquet, `datasets`. Knows where each row stands, not what it means."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from groupwise.errors import DataError
from groupwise.registry import ENVS

_INSTALL = 'pip install "groupwise[data]"'


@dataclass(frozen=True)
class Row:
    """One row: its number from 1 (in JSONL, the line's), where it stands in words, and its cells by column."""

    number: int
    where: str
    cells: dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What rows should be, in the words of an error: their name in the plural, one of them, what else may be given."""

    name: str
    row: str
    besides: str = ""


QUESTIONS = Wanted("questions", '{"prompt": ..., "answer": ...}', f", or an environment: {', '.join(sorted(ENVS))}")
EXAMPLES = Wanted("examples", '{"prompt": ..., "completion": ...}')


def rows(path: Path, limit: int | None = None, *, wanted: Wanted = QUESTIONS) -> list[Row]:
    """The first `limit` rows (None: all) of a file, by its ending, or of a folder that `datasets` saved.

    Raises DataError if the path is missing, unreadable, of an unknown kind or empty, or if a row is not an object.
    """
    if not path.exists():
        raise DataError(
            f"{wanted.name} {str(path)!r}: no such file or folder",
            hint=f"give {', '.join(_READERS)}, a `datasets` folder{wanted.besides}",
        )
    if path.is_dir():
        read: Callable[[Path, Wanted], Iterator[Row]] = _datasets_folder
    elif path.suffix.lower() in _READERS:
        read = _READERS[path.suffix.lower()]
    else:
        raise DataError(
            f"{wanted.name} {str(path)!r}: unknown ending {path.suffix!r}", hint=f"give a file in {', '.join(_READERS)}"
        )
    found = list(islice(read(path, wanted), limit))
    if not found:
        raise DataError(
            f"{wanted.name} {str(path)!r}: no rows in it", hint=f"give a file with at least one {wanted.name[:-1]}"
        )
    return found


def excerpt(value: Any, length: int = 60) -> str:
    """The value as an error message shows it: its repr, cut."""
    shown = repr(value)
    return shown if len(shown) <= length else shown[: length - 3] + "..."


def _text(path: Path, wanted: Wanted) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{wanted.name} {str(path)!r} cannot be read: {error.strerror}") from None
    try:
        text = content.decode("utf-8-sig")  # a byte order mark, as Excel writes it, is not part of the first cell
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise DataError(f"{path}:{line}: not UTF-8: byte 0x{byte:02x}", hint="save the file as UTF-8") from None
    if not text.strip():
        raise DataError(
            f"{wanted.name} {str(path)!r}: the file is empty", hint=f"give a file with at least one {wanted.name[:-1]}"
        )
    return text


def _jsonl(path: Path, wanted: Wanted) -> Iterator[Row]:
    # split("\n"), not splitlines(): a JSON string may hold U+2028 and its like unescaped.
    for number, line in enumerate(_text(path, wanted).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{where}: not JSON: {_why(error)}: {excerpt(line.strip())}", hint="write one JSON object a line"
            ) from None
        yield _row(number, where, cells, wanted)


def _json(path: Path, wanted: Wanted) -> Iterator[Row]:
    try:
        found = json.loads(_text(path, wanted))
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise DataError(
            f"{path}:{line}: not JSON: {_why(error)}",
            hint="give a list of objects; if each line is an object of its own, name the file .jsonl",
        ) from None
    if not isinstance(found, list):
        raise DataError(
            f"{wanted.name} {str(path)!r}: holds {_kind(found)}, not a list of rows", hint="write [{...}, {...}]"
        )
    for number, cells in enumerate(found, 1):
        yield _row(number, f"{path}: row {number}", cells, wanted)


def _csv(path: Path, wanted: Wanted) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(_text(path, wanted), newline=""), strict=True)
    try:
        header = list(reader.fieldnames or [])
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise DataError(f"{path}:1: column {twice[0]!r} is there twice", hint="give each column its own name")
        for number, cells in enumerate(reader, 1):
            where = f"{path}: row {number}"
            if None in cells or None in cells.values():
                found = sum(value is not None for key, value in cells.items() if key is not None)
                found += len(cells.get(None) or [])
                raise DataError(
                    f"{where} (line {reader.line_num}) has {found} cells, the header {len(header)}",
                    hint="put cells that hold a comma or a line break in double quotes",
                )
            yield Row(number, where, cells)
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.reader.line_num}: not CSV: {error}", hint="check the quotes on that line"
        ) from None


def _parquet(path: Path, _wanted: Wanted) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError(f"{path}: the package pyarrow cannot be imported: {error}", hint=_INSTALL) from None
    try:
        found = parquet.ParquetFile(path).read().to_pylist()
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: not a whole Parquet file: {error}", hint="write or copy the file again") from None
    for number, cells in enumerate(found, 1):
        yield Row(number, f"{path}: row {number}", cells)


def _datasets_folder(path: Path, wanted: Wanted) -> Iterator[Row]:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{path}: the package datasets cannot be imported: {error}", hint=_INSTALL) from None
    try:
        found = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not a folder of {wanted.name}: {error}", hint="save it with save_to_disk, or name a file in it"
        ) from None
    if isinstance(found, dict):
        if "train" not in found:
            names = ", ".join(sorted(found))
            raise DataError(
                f"{path}: no split 'train'; splits: {names}", hint=f"name one of them: {path / min(found, default='')}"
            )
        found = found["train"]
    for number, cells in enumerate(found.to_list(), 1):
        yield Row(number, f"{path}: row {number}", cells)


def _row(number: int, where: str, cells: Any, wanted: Wanted) -> Row:
    if not isinstance(cells, dict):
        raise DataError(f"{where}: {_kind(cells)}, not an object: {excerpt(cells)}", hint=f"write {wanted.row}")
    return Row(number, where, cells)


def _kind(value: Any) -> str:
    """What JSON calls it."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


_READERS: dict[str, Callable[[Path, Wanted], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
