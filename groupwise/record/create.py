"""A record's file: made whole or not at all, looked at before it is written to, set aside. Knows no steps."""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from groupwise.atomic import sync
from groupwise.errors import DataError, RunError
from groupwise.record.holders import holders
from groupwise.record.schema import FILE, TABLES, VERSION, stored

LOGS = ("-wal", "-shm", "-journal")
ASIDE = "record.aside-"
LOST = "add --resume --accept-loss to go on from the checkpoint with a new record; the damaged one is kept beside it"
"""What goes on where a record is gone or damaged."""


def make_record(path: Path, info: Mapping[str, str], *, began: str) -> None:
    """A record with one attempt from step 0, under its name only once it is on the disk. began: UTC, ISO 8601.

    Raises RunError.
    """
    partial = path.with_name(f".{FILE}.partial")
    try:
        for left in (partial, *(path.with_name(f"{partial.name}{log}") for log in LOGS)):
            left.unlink(missing_ok=True)
        with file_errors(path, begun=False), closing(sqlite3.connect(partial, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            for statement in TABLES:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("INSERT INTO attempts VALUES (0, 0, ?)", (began,))
            db.executemany("INSERT INTO run VALUES (?, ?)", [(key, stored(value)) for key, value in info.items()])
            db.execute("COMMIT")
        set_aside(path.parent)  # the log of a record that is gone would be read as the new one's
        partial.rename(path)
        sync(path.parent)
    except OSError as error:
        raise RunError(
            f"record {path} cannot be made: {error.strerror}", hint="free some space there, then start the run again"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def set_aside(run_dir: Path) -> Path | None:
    """Gives a record and its logs another name (ASIDE, a number, `.sqlite`); returns the record's, None if none is."""
    path = run_dir / FILE
    found = [path.with_name(f"{FILE}{end}") for end in ("", *LOGS) if os.path.lexists(path.with_name(f"{FILE}{end}"))]
    if not found:
        return None
    taken = {name for name in os.listdir(run_dir) if name.startswith(ASIDE)}
    names = (f"{ASIDE}{number}.sqlite" for number in range(1, len(taken) + 2))
    name = next(name for name in names if not any(other.startswith(name) for other in taken))
    for file in found:
        file.rename(run_dir / f"{name}{file.name.removeprefix(FILE)}")
    return run_dir / name


def check_version(path: Path) -> None:
    """Raises DataError if a file is no record, or one of another version."""
    with file_errors(path), closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        found = db.execute("PRAGMA user_version").fetchone()[0]
    if found != VERSION:
        raise other_version(path, found)


def other_version(path: Path, found: int) -> DataError:
    hint = "nothing was recorded yet" if found == 0 else "read it with the groupwise that wrote it"
    return DataError(f"{path} is a record of version {found}, this groupwise reads version {VERSION}", hint=hint)


def check_whole(path: Path) -> None:
    """Raises DataError if SQLite finds a record damaged; reads all of it."""
    with file_errors(path), closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        found = [str(line) for (line,) in db.execute("PRAGMA integrity_check(1)")]
        found += [f"row {row} of {table}" for table, row, *_ in db.execute("PRAGMA foreign_key_check").fetchmany(1)]
    if found != ["ok"]:
        raise DataError(f"record {path} is damaged: {'; '.join(found)}", hint=LOST)


@contextmanager
def file_errors(path: Path, *, begun: bool = True) -> Iterator[None]:
    """SQLite's errors as ours: RunError for a full disk, a failing one or a lock; DataError for what is no record.

    begun: whether there is a run to resume.
    """
    then = "then resume the run" if begun else "then start the run again"
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            hint = f"free space there, {then}"
        elif "locked" in str(error):
            hint = f"end the program that holds it, {then}"
        else:
            hint = f"check that disk and its permissions, {then}"
        by = holders([path, *(path.with_name(f"{path.name}{log}") for log in LOGS)]) if "locked" in str(error) else []
        who = f" by {', '.join(by)}" if by else ""
        raise RunError(f"record {path} cannot be written: {error}{who}", hint=hint) from error
    except sqlite3.IntegrityError as error:
        check_whole(path)  # a broken rule in a sound record is our own bug
        raise error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise
        raise DataError(f"{path} is not a record, or damaged: {error}", hint=LOST) from error
