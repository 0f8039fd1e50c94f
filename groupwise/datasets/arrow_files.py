"""Rows of Arrow tables: Parquet files, folders that `datasets` saved or can read, and data sets on the hub.

They are read in pieces of PIECE rows, from files that Arrow maps into memory: a million rows take no more than a few.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from groupwise import hub
from groupwise.datasets.row import Row, Wanted
from groupwise.errors import DataError

_INSTALL = 'pip install "groupwise[data]"'
PIECE, OF_PICTURES = 1000, 50
"""Rows of a piece, and of one with columns of bytes."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SAVED = ("state.json", "dataset_dict.json")  # what save_to_disk leaves, of one table and of a dict of splits


def is_hub_name(place: str) -> bool:
    """True for owner/name, unless the name ends as a file does."""
    endings = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz", ".txt", ".yaml")
    return _HUB_NAME.fullmatch(place) is not None and not place.lower().endswith(endings)


def parquet(path: Path, _wanted: Wanted) -> Iterator[Row]:
    """A Parquet file's rows."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(f"{path}: the package pyarrow cannot be imported: {error}", hint=_INSTALL) from None
    try:
        with ParquetFile(path) as file:
            names = file.schema_arrow.names
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise DataError(f"{path}: column {twice!r} is there twice", hint="give each column its own name")
            number = 0
            for piece in file.iter_batches(batch_size=_piece(file.schema_arrow)):
                for cells in piece.to_pylist():
                    number += 1
                    yield Row(number, f"{path}: row {number}", cells, path.stem, folder=str(path.parent))
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: not a whole Parquet file: {error}", hint="write or copy the file again") from None


def data_set(place: str, subset: str | None, split: str | None, wanted: Wanted) -> Iterator[Row]:
    """Rows of a folder, or of a data set on the hub: of the split, else of `train` or of the only one there is."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{place}: the package datasets cannot be imported: {error}", hint=_INSTALL) from None
    datasets.disable_progress_bars()
    saved = any((Path(place) / name).is_file() for name in _SAVED)
    if saved and subset is not None:
        raise DataError(f"{place}: subset {subset!r}: a saved folder has none", hint="name the right folder")
    if not Path(place).exists():
        hub.go_offline_if_unreachable()
    try:
        found = datasets.load_from_disk(place) if saved else datasets.load_dataset(place, subset)
    except Exception as error:  # of whatever reads the files: its own, Arrow's, the hub client's
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        where = f"{wanted.name} {place!r}"
        if not Path(place).exists():
            raise DataError(
                f"{where}: no such file or folder, and not to be had from the hub: {reason}",
                hint="check name, subset and network; or download it and name the folder",
            ) from None
        raise DataError(
            f"{place}: not a folder of {wanted.name}: {reason}", hint="save it with save_to_disk, or name a file in it"
        ) from None
    table, chosen = _split(found, split, place)
    name = Path(place).name if chosen is None else f"{Path(place).name}/{chosen}"
    number = 0
    for piece in table.with_format("arrow").iter(
        batch_size=_piece(table.features.arrow_schema)
    ):  # Arrow's own values: no image is decoded
        for cells in piece.to_pylist():
            number += 1
            yield Row(number, f"{place}{f' ({chosen})' if chosen else ''}: row {number}", cells, name, folder=place)


def _piece(schema: Any) -> int:
    return OF_PICTURES if "binary" in str(schema) else PIECE


def _split(found: Any, split: str | None, place: str) -> tuple[Any, str | None]:
    """The table of a split, and the split's name if it was asked for or there are several."""
    if not isinstance(found, dict):
        if split is not None:
            raise DataError(f"{place}: split {split!r}: it has none", hint="drop the split")
        return found, None
    names = ", ".join(sorted(found))
    if split is not None and split not in found:
        raise DataError(f"{place}: no split {split!r}; splits: {names}", hint="name one of them")
    chosen = split or ("train" if "train" in found else next(iter(found)) if len(found) == 1 else None)
    if chosen is None:
        raise DataError(
            f"{place}: no split 'train'; splits: {names}",
            hint=f"name one of them as split, or its folder: {Path(place) / min(found, default='')}",
        )
    return found[chosen], chosen if split is not None else None
