"""Writing the record: one writer, one transaction a step. Knows SQLite and the run's data; computes nothing."""

import hashlib
import json
import math
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from groupwise import metrics as catalogue
from groupwise.data import Group, Output, Question, Sample
from groupwise.errors import DataError, RunError
from groupwise.record.create import check_version, file_errors, make_record
from groupwise.record.pictures import add_pictures
from groupwise.record.process import Hold, hold
from groupwise.record.schema import FILE, Answer, Keep, stored
from groupwise.record.turns import bounded, turns_of

LOCK_SECONDS = 30.0
"""How long to wait for another program that holds the record locked; readers never do."""
FOLD_SECONDS = 0.5
"""How long to wait for readers that hold an older state of the record."""
NO_INFO: Mapping[str, str] = MappingProxyType({})


class Recorder:
    """The one writer of a run's record.

    A method returns when what it wrote is on the disk, and survives kill -9 and a power cut. Each raises RunError
    if the disk is full, the record locked, or another process has taken the run over; what was written before stays
    readable. keep: what is kept of each output.
    """

    def __init__(self, path: Path, attempt: int, held: Hold, *, keep: Keep = "full") -> None:
        self.path = path
        self.attempt = attempt
        self.keep = keep
        self.picture_ids: tuple[int, int] | None = None
        """(first, token): ids from `first` on are those of pictures in this process, and are kept as `token`."""
        self._held = held
        self._prompts: dict[bytes, int] = {}
        with file_errors(path):
            self._db = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._db.execute(f"PRAGMA {pragma}")

    @classmethod
    def create(
        cls, run_dir: str | Path, info: Mapping[str, str], *, keep: Keep = "full", held: Hold | None = None
    ) -> "Recorder":
        """A new record in a run directory, made if missing. Raises DataError if it holds a run already.

        The file has its name only once it is whole. held: the right to write there, if it is had already.
        """
        path = Path(run_dir) / FILE
        held = held or hold(path.parent)
        with _released_on_error(held):
            if os.path.lexists(path):
                raise DataError(f"{run_dir} already holds a run", hint="add --resume to continue it")
            make_record(path, {"started": _now(), **info, **_running()}, began=_now())
            return cls(path, 0, held, keep=keep)

    @classmethod
    def resume(
        cls,
        run_dir: str | Path,
        next_step: int,
        *,
        info: Mapping[str, str] = NO_INFO,
        keep: Keep = "full",
        held: Hold | None = None,
    ) -> "Recorder":
        """The record of an interrupted run, as a new attempt that begins with next_step.

        Raises DataError if there is no record, if another version wrote it, if it is damaged, or if a living process
        writes it.
        """
        path = Path(run_dir) / FILE
        if not os.path.isfile(path):
            raise DataError(f"{run_dir} holds no run to resume: no {FILE}", hint="start the run without resuming")
        held = held or hold(path.parent)
        with _released_on_error(held):
            check_version(path)
            recorder = cls(path, 0, held, keep=keep)
            with recorder._closed_on_error(), recorder._transaction(first=True):
                recorder.attempt = recorder._last_attempt() + 1
                row = "INSERT INTO attempts VALUES (?, ?, ?)"
                recorder._db.execute(row, (recorder.attempt, int(next_step), _now()))
                for key, value in {**info, **_running()}.items():
                    recorder._put(key, value)
            return recorder

    def set_info(self, key: str, value: str) -> None:
        """Sets what is known of the whole run, such as state = finished."""
        with self._transaction():
            self._put(key, value)

    def add_questions(self, split: str, questions: Iterable[Question]) -> None:
        """Adds the questions that the record lacks. Raises DataError if one id names two different questions."""
        with self._transaction():
            self._add_questions(split, questions)

    def write_step(
        self,
        step: int,
        groups: Sequence[Group],
        *,
        advantages: Sequence[Sequence[float | None]],
        metrics: Mapping[str, float],
    ) -> None:
        """A step: its groups, with advantages[g][i] of sample i in group g, and its metrics (nan, inf become NULL).

        Questions not seen before are added to the split `train`. Raises KeyError for a metric not in the catalogue.
        """
        catalogue.check(metrics)
        at = (int(step), self.attempt)
        self._prompts.clear()  # ids of a transaction that was rolled back
        with self._transaction():
            self._db.execute("INSERT INTO steps VALUES (?, ?, ?)", (*at, time.time()))
            self._add_questions("train", (group.question for group in groups))
            for index, (group, values) in enumerate(zip(groups, advantages, strict=True)):
                for number, (sample, advantage) in enumerate(zip(group.samples, values, strict=True)):
                    self._add_sample((*at, index, number, stored(group.question.id)), sample, advantage=advantage)
            rows = [(name, *at, _finite(value)) for name, value in metrics.items()]
            self._db.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?)", rows)

    def write_evaluation(
        self, name: str, step: int, *, figures: Mapping[str, Any], answers: Sequence[Answer] = ()
    ) -> None:
        """An evaluation (`before`, `after`, `step`) made after `step` steps; its questions must be in the record."""
        with self._transaction():
            row = "INSERT INTO evaluations (name, step, attempt) VALUES (?, ?, ?)"
            evaluation = self._db.execute(row, (name, int(step), self.attempt)).lastrowid
            self._db.executemany(
                "INSERT INTO figures VALUES (?, ?, ?)",
                [(evaluation, key, _json(value, f"figure {key!r}")) for key, value in figures.items()],
            )
            self._db.executemany(
                f"INSERT INTO evaluation_outputs VALUES ({', '.join('?' * 10)})",
                [
                    (
                        evaluation,
                        stored(a.question_id),
                        a.sample,
                        stored(a.text),
                        _finite(a.correct),
                        _finite(a.format),
                        a.finish,
                        int(a.tokens),
                        *self._episode(a),
                    )
                    for a in answers
                ],
            )

    def require_ours(self) -> None:
        """Raises RunError if another process has taken the run over."""
        with file_errors(self.path):
            if self._last_attempt() != self.attempt:
                raise RunError(
                    f"{self.path.parent}: another process has taken this run over",
                    hint="this process stops here and writes nothing more",
                )

    def fold(self, seconds: float = FOLD_SECONDS) -> str:
        """Moves what was written from the log (`-wal`) into the record itself, so that this file alone holds all.

        Empty if it does now; else why not: a reader still holds an older state after so many seconds, or the disk.
        """
        until = time.monotonic() + seconds
        self._db.execute("PRAGMA busy_timeout = 0")
        try:
            while True:
                busy, logged, folded = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy or logged == folded:
                    return ""
                if time.monotonic() >= until:
                    return "a program is reading it"
                time.sleep(0.05)
        except sqlite3.OperationalError as error:  # what was written stays in the log, where it is as safe
            return str(error)
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {int(LOCK_SECONDS * 1000)}")

    def close(self) -> str:
        """Closes the record; a run that was not set to finished is stopped. Returns what `fold` does."""
        try:
            with self._transaction():
                self._db.execute("UPDATE run SET value = 'stopped' WHERE key = 'state' AND value = 'running'")
            return self.fold()
        finally:
            self._db.close()
            self._held.release()

    def _last_attempt(self) -> int:
        return int(self._db.execute("SELECT max(attempt) FROM attempts").fetchone()[0])

    def _put(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (key, stored(value)))

    def _add_questions(self, split: str, questions: Iterable[Question]) -> None:
        for question in questions:
            key = stored(question.id)
            found = self._db.execute("SELECT fingerprint FROM questions WHERE id = ?", (key,)).fetchone()
            fingerprint = question.fingerprint
            if found and found[0] != fingerprint:
                raise DataError(
                    f"question id {question.id!r} names two different questions", hint="give each its own id"
                )
            if found:
                continue
            add_pictures(self._db, (image for message in question.messages for image in message.images))
            messages = [message.as_dict() for message in question.messages]
            fields = ((messages, "messages"), (question.answer, "answer"), (dict(question.meta), "meta"))
            texts = [_json(value, f"{name} of question {question.id!r}") for value, name in fields]
            self._db.execute("INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?)", (key, fingerprint, split, *texts))

    def _add_sample(self, place: tuple[Any, ...], sample: Sample, *, advantage: float | None) -> None:
        output, reward = sample.output, sample.reward
        texts = (None,) * 3 if self.keep == "scores" else (stored(output.text), *self._episode(output))
        prompt, tokens, sampled, logprobs = self._arrays(output) if self.keep == "full" else (None,) * 4
        arrays = (tokens, sampled, logprobs)
        steps = None if reward.steps is None else [[int(token), float(value)] for token, value in reward.steps]
        row = (*place, int(output.policy_version), prompt, *texts, output.finish, len(output.tokens), *arrays)
        key = self._db.execute(
            f"INSERT INTO outputs VALUES (NULL{', ?' * 18})",
            (*row, _finite(reward.value), json.dumps(steps), _finite(advantage)),
        ).lastrowid
        self._db.executemany(
            "INSERT INTO reward_parts VALUES (?, ?, ?, ?, ?)",
            [(key, stored(n), p.state, _finite(p.value), stored(p.detail)) for n, p in reward.parts.items()],
        )

    def _episode(self, output: Output | Answer) -> tuple[str | bytes | None, str | bytes | None]:
        """The turns of an episode of several, and its outcome, as JSON; the pictures in them are added."""
        add_pictures(self._db, (image for message in output.messages for image in message.images))
        turns = _json(turns_of(output.messages, output.spans), "the turns of an episode") if output.messages else None
        return turns, _json(bounded(output.outcome), "the outcome of an episode") if output.outcome else None

    def _arrays(self, output: Output) -> tuple[int, bytes, bytes | None, bytes]:
        """Id of the question's tokens, which are kept once, and the output's arrays."""
        prompt = self._plain(output.question_tokens).tobytes()
        digest = hashlib.blake2b(prompt, digest_size=16).digest()
        if digest not in self._prompts:
            self._db.execute("INSERT OR IGNORE INTO prompts (digest, tokens) VALUES (?, ?)", (digest, prompt))
            found = self._db.execute("SELECT id FROM prompts WHERE digest = ?", (digest,))
            self._prompts[digest] = found.fetchone()[0]
        tokens = self._plain(output.tokens).tobytes()
        sampled = np.asarray(output.sampled, "u1")
        return (
            self._prompts[digest],
            tokens,
            None if sampled.all() else sampled.tobytes(),
            np.asarray(output.logprobs, "<f4").tobytes(),
        )

    def _plain(self, tokens: np.ndarray) -> np.ndarray:
        found = np.asarray(tokens, "<i4")
        first, token = self.picture_ids or (None, 0)
        return found if first is None else np.where(found >= first, np.int32(token), found).astype("<i4")

    @contextmanager
    def _transaction(self, *, first: bool = False) -> Iterator[None]:
        """All of the block or nothing of it, whatever goes wrong inside. first: of an attempt, which it begins."""
        with file_errors(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                if not first:
                    self.require_ours()
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._db.close()
            raise


@contextmanager
def _released_on_error(held: Hold) -> Iterator[None]:
    try:
        yield
    except BaseException:
        held.release()
        raise


def _running() -> dict[str, str]:
    return {"state": "running", "pid": str(os.getpid()), "host": socket.gethostname()}


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _json(value: Any, what: str) -> str | bytes:
    """A value as JSON; a date, or what else JSON has no form for, as its repr. DataError for a tuple as a key."""
    if isinstance(value, float):
        value = _finite(value)
    try:
        return stored(json.dumps(value, ensure_ascii=False, default=_plain))
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} cannot be recorded as JSON: {error}", hint="use only plain values") from error


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
