"""A file that is there as a whole or not at all, whatever kills the process or the machine. Knows bytes only."""

import os
from pathlib import Path


def write_whole(path: Path, data: bytes | str) -> None:
    """Writes a file beside its place (`.NAME.partial`), puts it onto the disk and renames it over what was there.

    data: text is written as UTF-8 with its line ends as they are. Raises OSError; what was there then stays.
    """
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)  # the new name is an entry of the folder, which reaches the disk by itself, later


def sync(path: Path) -> None:
    """Returns when a file, or a folder's entries, are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
