"""Reading the record, also while the run goes on: a read-only connection that sees whole steps. Never writes."""

import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from groupwise.data import Output, Part, Question, Reward, message_of_dict
from groupwise.errors import DataError, GroupwiseError, RunError
from groupwise.record.create import LOST, other_version
from groupwise.record.pictures import Picture, pictures, placed
from groupwise.record.schema import FILE, VERSION, Answer, restored, stored
from groupwise.record.turns import messages_from


@dataclass(frozen=True)
class RecordedOutput:
    """An output as it was recorded. group_index: place of its group in the step; sample: its place in the group.

    length: tokens of the output; where the run keeps less (`run.record`) its arrays are empty, or also its text.
    """

    step: int
    attempt: int
    group_index: int
    question_id: str
    sample: int
    length: int
    output: Output
    reward: Reward
    advantage: float | None


@dataclass(frozen=True)
class Evaluation:
    """The figures of one evaluation, made after `step` steps."""

    id: int
    name: str
    step: int
    attempt: int
    figures: dict[str, Any]


class Record:
    """A run's record, open for reading. A step that was run again is seen as its highest attempt wrote it.

    Every method raises DataError if the file turns out to be damaged.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection

    def info(self) -> dict[str, str]:
        """What is known of the whole run: recipe, stage, state, ..."""
        return {key: restored(value) for key, value in self._rows("SELECT key, value FROM run")}

    def steps(self) -> list[int]:
        """The recorded steps, in order."""
        return [step for (step,) in self._rows("SELECT step FROM latest_steps ORDER BY step")]

    def metrics(self, name: str | None = None) -> list[tuple[int, str, float | None]]:
        """(step, name, value) of one metric or of all, by step; None: it was nan or infinite."""
        query = "SELECT step, name, value FROM latest_metrics WHERE ?1 IS NULL OR name = ?1 ORDER BY step, name"
        return list(self._rows(query, (name,)))

    def questions(self, split: str | None = None) -> Iterator[Question]:
        """The questions of one split or of all, in the order they were added."""
        query = "SELECT id, messages, answer, meta FROM questions WHERE ?1 IS NULL OR split = ?1 ORDER BY rowid"
        for key, messages, answer, meta in self._rows(query, (split,)):
            turns = placed(map(message_of_dict, json.loads(restored(messages))), self._rows)
            yield Question(restored(key), turns, json.loads(restored(answer)), json.loads(restored(meta)))

    def pictures(self) -> Iterator[Picture]:
        """The pictures of questions and of what environments replied, each once."""
        return pictures(self._rows)

    def outputs(
        self, step: int | None = None, question: str | None = None, *, limit: int | None = None
    ) -> Iterator[RecordedOutput]:
        """The outputs of a step, of a question (its id), of both or of the run, by step, group and sample.

        What the run writes meanwhile is not seen; read it to the end, for until then the run's log cannot be folded in.
        """
        wanted = {"step": step, "question_id": None if question is None else stored(question)}
        given = {column: value for column, value in wanted.items() if value is not None}
        query = f"""SELECT id, step, attempt, group_index, question_id, sample, policy_version, text, turns, outcome,
            finish, length, question_tokens, tokens, sampled, logprobs, reward, reward_steps, advantage
            FROM latest_outputs WHERE {" AND ".join([f"{column} = ?" for column in given]) or "TRUE"}
            ORDER BY step, attempt, group_index, sample LIMIT ?"""
        for row in self._rows(query, (*given.values(), -1 if limit is None else limit)):
            yield self._output(row)

    def solved(self, label: str, right: float, *, before: int) -> Iterator[tuple[str, int, int]]:
        """Of each group of the steps before one, in order: its question's id, how many of its outputs the reward of
        that label gave at least `right`, and how many it judged; no row for a group that it judged nothing of."""
        query = """SELECT o.question_id, sum(p.value >= ?), count(p.value) FROM latest_outputs AS o
            JOIN reward_parts AS p ON p.output = o.id AND p.name = ? WHERE o.step < ?
            GROUP BY o.step, o.group_index HAVING count(p.value) > 0 ORDER BY o.step, o.group_index"""
        for name, solved, judged in self._rows(query, (right, stored(label), before)):
            yield restored(name), solved, judged

    def evaluations(self) -> list[Evaluation]:
        """The evaluations, in the order of their steps."""
        rows = list(self._rows("SELECT id, name, step, attempt FROM latest_evaluations ORDER BY step, id"))
        return [Evaluation(key, name, step, attempt, self._figures(key)) for key, name, step, attempt in rows]

    def answers(self, evaluation: Evaluation) -> list[Answer]:
        """The outputs of an evaluation, in the order they were written."""
        query = """SELECT question_id, sample, text, correct, format, finish, tokens, turns, outcome
            FROM evaluation_outputs WHERE evaluation = ? ORDER BY rowid"""
        found = [_answer(*row) for row in self._rows(query, (evaluation.id,))]
        return [replace(answer, messages=placed(answer.messages, self._rows)) for answer in found]

    def close(self) -> None:
        self._db.close()

    def _figures(self, evaluation: int) -> dict[str, Any]:
        rows = self._rows("SELECT key, value FROM figures WHERE evaluation = ? ORDER BY rowid", (evaluation,))
        return {key: json.loads(restored(value)) for key, value in rows}

    def _output(self, row: tuple[Any, ...]) -> RecordedOutput:
        key, step, attempt, group_index, question_id, sample, version, *others = row
        text, turns, outcome, finish, length, *arrays, reward, reward_steps, advantage = others
        kinds = ("<i4", "<i4", "?", "<f4")
        question_tokens, tokens, sampled, logprobs = (
            np.frombuffer(array or b"", kind) for array, kind in zip(arrays, kinds, strict=True)
        )
        if arrays[2] is None:
            sampled = np.ones(len(tokens), bool)
        messages, spans = messages_from(_parsed(turns))
        output = Output(
            *(question_tokens, tokens, sampled, logprobs, restored(text or ""), finish, version),
            messages=placed(messages, self._rows),
            spans=spans,
            outcome=_parsed(outcome) or {},
        )
        query = "SELECT name, state, value, detail FROM reward_parts WHERE output = ? ORDER BY rowid"
        parts = {
            restored(name): Part(state, value, restored(detail))
            for name, state, value, detail in self._rows(query, (key,))
        }
        pairs = json.loads(reward_steps)
        steps = None if pairs is None else tuple((token, value) for token, value in pairs)
        return RecordedOutput(
            step=step,
            attempt=attempt,
            group_index=group_index,
            question_id=restored(question_id),
            sample=sample,
            length=length,
            output=output,
            reward=Reward(reward, parts, steps),
            advantage=advantage,
        )

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._db.execute(query, values)
        except sqlite3.DatabaseError as error:
            raise _unreadable(self.path, error) from error


def _answer(key: Any, sample: int, text: Any, *rest: Any) -> Answer:
    correct, form, finish, tokens, turns, outcome = rest
    messages, spans = messages_from(_parsed(turns))
    plain = restored(key), sample, restored(text), correct, form, finish, tokens
    return Answer(*plain, messages=messages, spans=spans, outcome=_parsed(outcome) or {})


def _parsed(value: str | bytes | None) -> Any:
    return None if value is None else json.loads(restored(value))


def open_record(run_dir: str | Path) -> Record:
    """The record in a run directory. Raises DataError if there is none or it cannot be read."""
    path = Path(run_dir).resolve() / FILE
    if not os.path.isfile(path):
        raise DataError(f"{run_dir} holds no run: no {FILE}", hint="`groupwise runs` lists the runs")
    try:
        connection = _connect(path)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise _unreadable(path, error) from error
    if version != VERSION:
        connection.close()
        raise other_version(path, version)
    return Record(path, connection)


def _connect(path: Path) -> sqlite3.Connection:
    """A read-only connection, also in a folder that may not be written to.

    A reader in WAL mode makes files beside the record; where it may not and there is no log, nobody writes either.
    """
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.DatabaseError:
        connection.close()
        if os.access(path.parent, os.W_OK) or path.with_name(f"{FILE}-wal").exists():
            raise
        return sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)
    return connection


def _unreadable(path: Path, error: sqlite3.Error) -> GroupwiseError:
    """RunError where the machine refuses (room, rights, descriptors, a failing disk), DataError for a bad file."""
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_NOMEM")):
        hint = "look at the disk's free space, the folder's rights and the number of open files; then the same again"
        return RunError(f"record {path} cannot be read: {error} ({code})", hint=hint)
    return DataError(f"record {path} cannot be read: {error}", hint=f"it is damaged, or no record; {LOST}")
