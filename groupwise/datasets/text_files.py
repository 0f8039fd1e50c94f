"""Rows of text files: JSONL, JSON, CSV, TSV, also compressed. Read line by line, each error with its line."""

import bz2
import csv
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from groupwise.datasets.row import Row, Wanted
from groupwise.errors import DataError, excerpt

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
COMPRESSED = tuple(_OPENERS)
_MARKS = (
    *((b"\xff\xfe\x00\x00", "UTF-32"), (b"\x00\x00\xfe\xff", "UTF-32")),
    *((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")),
)
_PACKED = (
    *((b"\x1f\x8b", ".gz"), (b"BZh", ".bz2"), (b"\xfd7zXZ\x00", ".xz")),
    *((b"PK\x03\x04", ".zip"), (b"\x28\xb5\x2f\xfd", ".zst")),
)
_CELL_BYTES = 2**31 - 1  # csv's own limit, 131072, is less than one long document


def jsonl(path: Path, wanted: Wanted) -> Iterator[Row]:
    """An object a line."""
    for number, line in _lines(path, wanted):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            cells = json.loads(line.rstrip("\r\n"), object_pairs_hook=_once_each)
        except (ValueError, RecursionError) as error:
            hint = "write one JSON object a line"
            if line.strip() in ("[", "{"):
                hint += "; a file that is one list of objects is named .json"
            if line.rstrip().endswith("},"):
                hint += ", without the comma at its end"
            raise DataError(f"{where}: not JSON: {_why(error)}: {excerpt(line.strip())}", hint=hint) from None
        if isinstance(cells, list) and cells and isinstance(cells[0], dict):
            raise DataError(f"{where}: a list of objects, not an object", hint="name the file .json")
        yield _row(number, where, cells, wanted, path)


def json_list(path: Path, wanted: Wanted) -> Iterator[Row]:
    """One list of objects."""
    try:
        text = "".join(line for _, line in _lines(path, wanted))
        found = json.loads(text, object_pairs_hook=_once_each)
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
        yield _row(number, f"{path}: row {number}", cells, wanted, path)


def csv_rows(path: Path, wanted: Wanted, delimiter: str = ",") -> Iterator[Row]:
    """A header, and a row of as many cells for each of its names; a cell in quotes may hold line breaks."""
    csv.field_size_limit(_CELL_BYTES)
    lines = (line for _, line in _lines(path, wanted))
    reader = csv.DictReader(lines, strict=True, delimiter=delimiter)
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
            yield Row(number, where, cells, stem(path), folder=str(path.parent))
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.reader.line_num}: not CSV: {error}", hint="check the quotes on that line"
        ) from None


def tsv_rows(path: Path, wanted: Wanted) -> Iterator[Row]:
    """As CSV, with tabs."""
    return csv_rows(path, wanted, "\t")


def stem(path: Path) -> str:
    """A file's name without its endings: `q` of `q.jsonl.gz`."""
    return Path(path.stem).stem if path.suffix.lower() in COMPRESSED else path.stem


def _lines(path: Path, wanted: Wanted) -> Iterator[tuple[int, str]]:
    """(number from 1, text with its end) of each line. Raises DataError if there is none, or for what is not UTF-8."""
    empty = True
    opened = _OPENERS.get(path.suffix.lower(), open)
    try:
        with opened(path, "rb") as file:
            # By "\n" alone, not splitlines(): a JSON string may hold U+2028 and its like unescaped.
            for number, line in enumerate(file, 1):
                text = _decoded(line, f"{path}:{number}", first=number == 1)
                empty = empty and not text.strip()
                yield number, text
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path}: not a whole {path.suffix} file: {error}", hint="copy it again") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{wanted.name} {str(path)!r} cannot be read: {reason}", hint="check the file") from None
    if empty:
        raise DataError(
            f"{wanted.name} {str(path)!r}: the file is empty", hint=f"give a file with at least one {wanted.name[:-1]}"
        )


def _decoded(line: bytes, where: str, *, first: bool) -> str:
    if first:
        packed = next((ending for mark, ending in _PACKED if line.startswith(mark)), None)
        if packed is not None:
            hint = f"name the file so, {Path(where.rpartition(':')[0]).name}{packed}"
            raise DataError(f"{where}: compressed, a {packed} file", hint=hint if packed in COMPRESSED else "unpack it")
        encoding = next((name for mark, name in _MARKS if line.startswith(mark)), None)
        if encoding is None and b"\0" in line[:64]:
            encoding = "UTF-16"  # without a mark, every other byte of it is 0 in Latin script
        if encoding is not None:
            raise DataError(f"{where}: {encoding}, not UTF-8", hint="save the file as UTF-8")
    try:
        # A byte order mark, as Excel writes it, is not part of the first cell.
        return line.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(f"{where}: not UTF-8: byte 0x{byte:02x}", hint="save the file as UTF-8") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError for a key that is there twice, of which one value would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {excerpt(twice)} is there twice")
    return found


def _row(number: int, where: str, cells: Any, wanted: Wanted, path: Path) -> Row:
    if not isinstance(cells, dict):
        raise DataError(f"{where}: {_kind(cells)}, not an object: {excerpt(cells)}", hint=f"write {wanted.row}")
    return Row(number, where, cells, stem(path), folder=str(path.parent))


def _kind(value: Any) -> str:
    """What JSON calls it."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
