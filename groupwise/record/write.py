"""Writing the record: one writer, one transaction a step. Knows SQLite and the run's data; computes nothing."""

import json
import math
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from groupwise import metrics as catalogue
from groupwise.data import Group, Question, Sample
from groupwise.errors import DataError, RunError
from groupwise.record.process import is_alive, this_process
from groupwise.record.schema import FILE, TABLES, VERSION, Answer, stored

LOCK_SECONDS = 30.0
"""How long to wait for another program that holds the record locked; readers never do."""


class Recorder:
    """The one writer of a run's record.

    A method returns when what it wrote is on the disk, and survives kill -9 and a power cut. Each raises RunError
    if the disk is full or the record locked; what was written before stays readable.
    """

    def __init__(self, path: Path, attempt: int) -> None:
        self.path = path
        self.attempt = attempt
        with _told(path):
            self._db = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
            for pragma in ("page_size = 16384", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._db.execute(f"PRAGMA {pragma}")

    @classmethod
    def create(cls, run_dir: str | Path, info: Mapping[str, str]) -> "Recorder":
        """A new record in a run directory, made if missing. Raises DataError if it holds a run already."""
        run_dir = Path(run_dir)
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"run directory {run_dir}: {error.strerror}", hint="choose another with --run") from error
        recorder = cls(run_dir / FILE, attempt=0)
        with recorder._closed_on_error(), recorder._transaction():
            if recorder._version() != 0:
                raise DataError(f"{run_dir} already holds a run", hint="resume it, or choose another directory")
            for statement in TABLES:
                recorder._db.execute(statement)
            recorder._db.execute(f"PRAGMA user_version = {VERSION}")
            recorder._start(first_step=0, info={"started": _now(), **info})
        return recorder

    @classmethod
    def resume(cls, run_dir: str | Path, next_step: int) -> "Recorder":
        """The record of an interrupted run, as a new attempt that begins with next_step.

        Raises DataError if there is no record, if another version wrote it, or if a living process writes it.
        """
        path = Path(run_dir) / FILE
        if not os.path.isfile(path):
            raise DataError(f"{run_dir} holds no run to resume: no {FILE}", hint="start the run without resuming")
        recorder = cls(path, attempt=0)
        with recorder._closed_on_error(), recorder._transaction():
            if recorder._version() != VERSION:
                raise DataError(
                    f"{path} is a record of version {recorder._version()}, this is version {VERSION}",
                    hint="start a new run in another directory",
                )
            known = dict(recorder._db.execute("SELECT key, value FROM run"))
            ours = all(known[key] == value for key, value in this_process().items())
            if known["state"] == "running" and not ours and is_alive(known):
                raise DataError(
                    f"{run_dir} is being written by process {known['pid']} on {known['host']}",
                    hint="end that run first",
                )
            recorder.attempt = 1 + recorder._db.execute("SELECT max(attempt) FROM attempts").fetchone()[0]
            recorder._start(first_step=next_step, info={})
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
                "INSERT INTO evaluation_outputs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        evaluation,
                        stored(a.question_id),
                        a.sample,
                        stored(a.text),
                        _finite(a.correct),
                        _finite(a.formed),
                        a.finish,
                        int(a.tokens),
                    )
                    for a in answers
                ],
            )

    def close(self) -> None:
        """Closes the record; a run that was not set to finished is stopped."""
        try:
            with self._transaction():
                self._db.execute("UPDATE run SET value = 'stopped' WHERE key = 'state' AND value = 'running'")
        finally:
            self._db.close()

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _start(self, *, first_step: int, info: Mapping[str, str]) -> None:
        self._db.execute("INSERT INTO attempts VALUES (?, ?, ?)", (self.attempt, int(first_step), _now()))
        for key, value in {**info, "state": "running", **this_process()}.items():
            self._put(key, value)

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
            messages = [{"role": m.role, "content": m.content} for m in question.messages]
            fields = ((messages, "messages"), (question.answer, "answer"), (dict(question.meta), "meta"))
            texts = [_json(value, f"{name} of question {question.id!r}") for value, name in fields]
            self._db.execute("INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?)", (key, fingerprint, split, *texts))

    def _add_sample(self, place: tuple[Any, ...], sample: Sample, *, advantage: float | None) -> None:
        output, reward = sample.output, sample.reward
        arrays = (
            np.asarray(output.question_tokens, "<i4").tobytes(),
            np.asarray(output.tokens, "<i4").tobytes(),
            np.asarray(output.sampled, "u1").tobytes(),
            np.asarray(output.logprobs, "<f4").tobytes(),
        )
        steps = None if reward.steps is None else [[int(token), float(value)] for token, value in reward.steps]
        row = (*place, int(output.policy_version), stored(output.text), output.finish, *arrays)
        key = self._db.execute(
            f"INSERT INTO outputs VALUES (NULL{', ?' * 15})",
            (*row, _finite(reward.value), json.dumps(steps), _finite(advantage)),
        ).lastrowid
        self._db.executemany(
            "INSERT INTO reward_parts VALUES (?, ?, ?, ?, ?)",
            [(key, stored(n), p.state, _finite(p.value), stored(p.detail)) for n, p in reward.parts.items()],
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block or nothing of it, whatever goes wrong inside."""
        with _told(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
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
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as ours: RunError for a full disk, a failing one or a lock; DataError for what is no record."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            hint = "free space there, then resume the run"
        elif "locked" in str(error):
            hint = "end the program that holds it, then resume the run"
        else:
            hint = "check that disk and its permissions, then resume the run"
        raise RunError(f"record {path} cannot be written: {error}", hint=hint) from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:  # a broken constraint is our own bug
            raise
        raise DataError(f"{path} is not a record: {error}", hint="choose another run directory") from error


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _json(value: Any, what: str) -> str | bytes:
    """A value as JSON; a date, or what else JSON has no form for, as its repr. DataError for a tuple as a key."""
    if isinstance(value, float):
        value = _finite(value)
    try:
        return stored(json.dumps(value, ensure_ascii=False, default=_plain))
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} cannot be recorded as JSON: {error}", hint="keep it to plain values") from error


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
