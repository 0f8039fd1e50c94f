"""The list of a checkpoint's files with their sums: what makes it whole. Knows no model."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groupwise.atomic import write_whole
from groupwise.errors import CheckpointError

MANIFEST = "manifest.json"
DAMAGED = "not a whole checkpoint"


def write_manifest(folder: Path) -> None:
    """Lists every file of a folder, with its bytes and its sum."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sums = {file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": _sum(file)} for file in files}
    (folder / MANIFEST).write_text(json.dumps(sums, indent=1), encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """{name: {bytes, sha256}} of a checkpoint's files. Raises CheckpointError."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder / MANIFEST}: missing", hint=DAMAGED) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / MANIFEST}: not readable ({error})", hint=DAMAGED) from None
    if not isinstance(listed, dict) or not all(map(_describes_a_file, listed.values())):
        raise CheckpointError(f"{folder / MANIFEST}: not a list of files with their sums", hint=DAMAGED)
    return listed


def _describes_a_file(sums: Any) -> bool:
    return isinstance(sums, dict) and isinstance(sums.get("bytes"), int) and isinstance(sums.get("sha256"), str)


def checked(folder: Path, name: str) -> Path:
    """Path of a checkpoint's file, found to be what was saved."""
    file = folder / name
    expected = read_manifest(folder).get(name)
    if expected is None:
        raise CheckpointError(f"{file}: not part of this checkpoint", hint="saved without an optimizer, or by hand")
    if not file.is_file():
        raise CheckpointError(f"{file}: missing", hint=DAMAGED)
    try:
        size, found = file.stat().st_size, _sum(file)
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror}", hint=DAMAGED) from None
    if size != expected["bytes"]:
        raise CheckpointError(f"{file}: {size:,} bytes, {expected['bytes']:,} were saved", hint=DAMAGED)
    if found != expected["sha256"]:
        raise CheckpointError(f"{file}: its bytes are not those that were saved", hint=DAMAGED)
    return file


def _sum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def forget(folder: Path, names: Sequence[str]) -> None:
    """Takes files off the list, which is whole at any moment; what is not listed is no part of the checkpoint."""
    kept = {name: sums for name, sums in read_manifest(folder).items() if name not in names}
    write_whole(folder / MANIFEST, json.dumps(kept, indent=1))
