"""Rows of what a recipe names: a file, files by a pattern, a folder, a data set on the hub. Knows no column's meaning.

A source is read twice, once for its columns and once for its rows, and never held in memory past KEPT rows.
"""

import glob
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from groupwise.config.questions import PicturesConfig
from groupwise.datasets import arrow_files, text_files
from groupwise.datasets.row import NO_PICTURES, QUESTIONS, Pictures, Row, Wanted, nothing
from groupwise.errors import DataError
from groupwise.registry import nearest

KEPT = 10_000
"""Rows that are kept from the first reading."""
KEPT_BYTES = 200_000_000
"""Bytes of pictures in these rows."""
_READERS: dict[str, Callable[[Path, Wanted], Iterator[Row]]] = {
    ".jsonl": text_files.jsonl,
    ".ndjson": text_files.jsonl,
    ".json": text_files.json_list,
    ".csv": text_files.csv_rows,
    ".tsv": text_files.tsv_rows,
    ".parquet": arrow_files.parquet,
}


@dataclass(frozen=True)
class Source:
    """Where rows are. subset, split: of a folder or a data set on the hub. ignore: what of a row is left out, a column
    or `column.key`, a key of the objects in it; strict: such a name that is not there is refused. images: where the
    rows' pictures are."""

    place: str
    subset: str | None = None
    split: str | None = None
    ignore: tuple[str, ...] = ()
    strict: bool = True
    images: Pictures = NO_PICTURES


@dataclass(frozen=True)
class Table:
    """Rows, any number of times. columns: names in the order of their first row, and whether any row has something."""

    columns: dict[str, bool]
    count: int
    again: Callable[[], Iterable[Row]]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.again())


def pictures_of(config: PicturesConfig, section: str) -> Pictures:
    """Where a section of a recipe says that pictures are. section: its place in the recipe."""
    return Pictures(config.image_column, config.image_dir, config.fetch_images, f"{section}.fetch_images")


def table(source: Source | Path, limit: int | None = None, *, wanted: Wanted = QUESTIONS) -> Table:
    """The first `limit` rows (None: all) of a source.

    Raises DataError if it is missing, unreadable, of an unknown kind or empty, if a row is not an object, or if there
    is nothing of what is to be ignored.
    """
    source = Source(str(source)) if isinstance(source, Path) else source
    columns: dict[str, bool] = {}
    ignored: set[str] = set()
    head: list[Row] = []
    count = held = 0
    for row in islice(_rows(source, wanted), limit):
        row = _as_asked(row, source, ignored)
        for name, cell in row.cells.items():
            columns[name] = columns.get(name, False) or not nothing(cell)
        count += 1
        if count <= KEPT and held <= KEPT_BYTES:
            head.append(row)
            held += sum(map(_bytes, row.cells.values()))
        elif head:
            head.clear()
    if not count:
        raise DataError(
            f"{wanted.name} {source.place!r}: no rows in it", hint=f"give a file with at least one {wanted.name[:-1]}"
        )
    strange = next((name for name in source.ignore if name not in ignored), None)
    if strange is not None and source.strict and limit is None:
        raise DataError(f"{source.place}: ignore_columns: no {strange!r} there", hint=nearest(strange, columns))
    column = source.images.column
    if column is not None and column not in columns and source.strict:
        there = f"columns: {', '.join(columns) or 'none'}"
        raise DataError(
            f"{source.place}: image_column = {column!r} is not there; {there}", hint=nearest(column, columns)
        )
    if head:
        return Table(columns, count, lambda: head)
    return Table(
        columns,
        count,
        lambda: (_as_asked(row, source, ignored) for row in islice(_rows(source, wanted), limit)),
    )


def rows(source: Source | Path, limit: int | None = None, *, wanted: Wanted = QUESTIONS) -> list[Row]:
    """The rows of a `table`, all in memory."""
    return list(table(source, limit, wanted=wanted))


def _rows(source: Source, wanted: Wanted) -> Iterator[Row]:
    path = Path(source.place)
    if _too_long(path):
        raise DataError(f"{wanted.name} {source.place[:60]!r}: no path is so long", hint="name a file")
    if path.is_dir() or (not path.exists() and arrow_files.is_hub_name(source.place)):
        yield from arrow_files.data_set(source.place, source.subset, source.split, wanted)
        return
    if source.subset is not None or source.split is not None:
        raise DataError(
            f"{wanted.name} {source.place!r}: subset and split are of a folder or a data set on the hub",
            hint="drop them, or name the folder",
        )
    for file in [path] if path.exists() else _matching(source.place, wanted):
        yield from _reader(file, wanted)(file, wanted)


def _too_long(path: Path) -> bool:
    try:
        path.exists()
    except (OSError, ValueError):
        return True
    return False


def _matching(place: str, wanted: Wanted) -> list[Path]:
    """Files whose names match a pattern, in the order of their names."""
    found = sorted(glob.glob(place, recursive=True)) if glob.has_magic(place) else []
    if not found and "://" in place:
        raise DataError(f"{wanted.name} {place!r}: addresses are not read", hint="download it, and name the file")
    if not found:
        raise DataError(
            f"{wanted.name} {place!r}: no such file or folder",
            hint=f"give {', '.join(_READERS)}, a `datasets` folder, a name on the hub (owner/name){wanted.besides}",
        )
    return [Path(name) for name in found]


def _reader(path: Path, wanted: Wanted) -> Callable[[Path, Wanted], Iterator[Row]]:
    ending = path.suffix.lower()
    if ending in text_files.COMPRESSED:
        ending = Path(path.stem).suffix.lower()
    if ending not in _READERS or (ending == ".parquet" and path.suffix.lower() != ending):
        hint = f"give a file in {', '.join(_READERS)}; text files may be {', '.join(text_files.COMPRESSED)}"
        raise DataError(f"{wanted.name} {str(path)!r}: unknown ending {path.suffix!r}", hint=hint)
    return _READERS[ending]


def _as_asked(row: Row, source: Source, found: set[str]) -> Row:
    """The row with its source's pictures, and without what is to be ignored; names of that are added to `found`."""
    row = row if source.images is NO_PICTURES else replace(row, images=source.images)
    return _without(row, source.ignore, found) if source.ignore else row


def _bytes(cell: Any) -> int:
    """Bytes of the pictures in a cell, and of long texts, which may be base64."""
    if isinstance(cell, bytes) or (isinstance(cell, str) and len(cell) > 10_000):
        return len(cell)
    if isinstance(cell, dict | list):
        return sum(map(_bytes, cell.values() if isinstance(cell, dict) else cell))
    return 0


def _without(row: Row, ignore: tuple[str, ...], found: set[str]) -> Row:
    cells = {name: cell for name, cell in row.cells.items() if name not in ignore}
    ignored = {name: cell for name, cell in row.cells.items() if name in ignore}
    found.update(ignored)
    for name in ignore:
        column, dot, key = name.partition(".")
        if dot and column in cells:
            cells[column] = _without_key(cells[column], key, name, found)
    return replace(row, cells=cells, ignored=ignored)


def _without_key(cell: Any, key: str, name: str, found: set[str]) -> Any:
    if isinstance(cell, list):
        return [_without_key(inner, key, name, found) if isinstance(inner, dict) else inner for inner in cell]
    if not isinstance(cell, dict):
        return cell
    if key in cell:
        found.add(name)
    return {inner: value for inner, value in cell.items() if inner != key}
