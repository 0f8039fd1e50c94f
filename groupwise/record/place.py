"""What a folder holds that is to be a run's: nothing, what a start left that was cut short, a run, something else."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal

from groupwise.atomic import write_whole
from groupwise.errors import DataError
from groupwise.places import OWN as RECIPE
from groupwise.record.create import ASIDE, LOGS
from groupwise.record.process import FILE as WRITER
from groupwise.record.read import open_record
from groupwise.record.schema import FILE, VERSION

Found = Literal["nothing", "started", "run", "no record", "other"]
"""nothing: no folder, or what a start left that was cut short before the run had a record. started: a run without a
step or a checkpoint. no record: checkpoints without the record that they belong to. other: what is no run."""


def found_in(folder: Path) -> Found:
    """What is in a folder. Reads no more of a record than whether it has a step; a damaged one is a run."""
    if not folder.is_dir():
        return "other" if os.path.lexists(folder) else "nothing"
    names = {name for name in os.listdir(folder) if not name.startswith(ASIDE)}
    checkpoints = any((folder / "checkpoints").glob("step-*"))
    if FILE in names and (folder / FILE).stat().st_size > 0:
        return "run" if checkpoints or _has_steps(folder / FILE) else "started"
    if checkpoints:
        return "no record"
    return "nothing" if names <= _LEFT or (WRITER in names and names <= _LEFT | {RECIPE}) else "other"


def recipe_there(folder: Path) -> Path:
    """The recipe of a run; written again from the record where it is missing. Raises DataError if there is no run."""
    file = folder / RECIPE
    if not file.is_file():
        if found_in(folder) not in ("run", "started"):
            raise DataError(f"--run {folder}: no run there to resume", hint="see `groupwise runs`")
        with closing(open_record(folder)) as record:
            write_whole(file, record.info()["recipe"])
    return file


_LEFT = {
    *(FILE, WRITER, f".{RECIPE}.partial", f".{FILE}.partial", "checkpoints"),
    *(f"{start}{FILE}{middle}{log}" for start, middle in (("", ""), (".", ".partial")) for log in LOGS),
}
"""What a start may leave that was cut short; the recipe is ours only beside the mark of who wrote it."""


def _has_steps(path: Path) -> bool:
    """True also where it cannot be seen: what cannot be read is not nothing."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                return bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
            return version != VERSION or bool(db.execute("SELECT EXISTS (SELECT 1 FROM steps)").fetchone()[0])
    except sqlite3.Error:
        return True
