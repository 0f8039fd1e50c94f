"""Replies of judges that were paid for, by content: a resumed run does not ask again. Knows text and counts alone.

The file is SQLite, so that several processes may write it and a killed one damages nothing.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groupwise.places import cache_folder
from groupwise.rewards import host

FILE = "judgements.sqlite"
"""Its name beside a run's record."""


@dataclass(frozen=True)
class Reply:
    """What a judge said. tokens_in, tokens_out: as it was billed; 0 if that is not known."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0


def key_of(identity: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> bytes:
    """Hash of who is asked (endpoint, model, sampling) and of what: the messages hold the rubric and the texts."""
    return hashlib.blake2b(json.dumps([identity, messages], sort_keys=True).encode(), digest_size=16).digest()


def kept_in(run: Path | None) -> Path:
    """The folder of the file: a run's own; for what is asked outside a run the cache folder, made if missing."""
    if run is not None:
        return run
    folder = cache_folder()
    with suppress(OSError):  # then replies stay in memory
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def told(spent: Mapping[str, float], files: Mapping[str, str | None], folder: Path) -> list[str]:
    """A line for each judge: what it was asked, and what its replies are kept in. spent: as RewardSet.spent.

    files: by label the file that a recipe names, None: FILE in the folder."""
    lines = []
    for label, file in files.items():
        calls, cached = (int(spent.get(f"judge/{name}/{label}", 0)) for name in ("calls", "cached"))
        if calls or cached:
            place = file or folder / FILE
            lines.append(f"judge {label!r}: {calls} requests, {cached} replies were known; they are kept in {place}")
    return lines


class Cache:
    """Replies in memory, and in a file once its folder is there: a new run's is made after its first checks."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: sqlite3.Connection | None = None
        self._held: dict[bytes, Reply] = {}
        self._unwritten: list[bytes] = []
        self._broken = False

    def get(self, key: bytes) -> Reply | None:
        if key not in self._held and (file := self._opened()) is not None:
            try:
                query = "SELECT text, tokens_in, tokens_out FROM replies WHERE key = ?"
                row = file.execute(query, (key,)).fetchone()
            except sqlite3.Error as error:
                self._give_up(error)
                row = None
            if row is not None:
                self._held[key] = Reply(*row)
        return self._held.get(key)

    def put(self, key: bytes, reply: Reply) -> None:
        self._held[key] = reply
        self._unwritten.append(key)
        if (file := self._opened()) is None:
            return
        try:
            with file:
                rows = [(k, *self._row(self._held[k]), time.time()) for k in self._unwritten]
                file.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?)", rows)
            self._unwritten.clear()
        except sqlite3.Error as error:
            self._give_up(error)

    def _row(self, reply: Reply) -> tuple[str, int, int]:
        return reply.text.encode("utf-8", "replace").decode(), reply.tokens_in, reply.tokens_out

    def _opened(self) -> sqlite3.Connection | None:
        if self._file is None and self._path is not None and not self._broken and self._path.parent.is_dir():
            try:
                self._file = sqlite3.connect(self._path, timeout=30.0)
                # A reply costs less than the disk's full word for it: a machine that loses power loses some.
                self._file.execute("PRAGMA journal_mode=WAL")
                self._file.execute("PRAGMA synchronous=NORMAL")
                self._file.execute(
                    "CREATE TABLE IF NOT EXISTS replies (key BLOB NOT NULL PRIMARY KEY, text TEXT NOT NULL, "
                    "tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, written REAL NOT NULL) WITHOUT ROWID"
                )
            except sqlite3.Error as error:
                self._give_up(error)
        return self._file

    def _give_up(self, error: sqlite3.Error) -> None:
        """Goes on in memory: what was judged is not lost for that."""
        self._file, self._broken = None, True
        host.remark(f"its replies are not kept, so a resumed run pays for them again: {self._path}: {error}")
