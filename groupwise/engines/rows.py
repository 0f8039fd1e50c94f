"""Outputs on their way, as arrays: what was drawn, how far each is, why it ended. Knows no model."""

from collections.abc import Sequence

import numpy as np

from groupwise.data import Sampling
from groupwise.engines.base import Task, uniforms
from groupwise.model.policy import Policy


class Rows:
    """Every output that the tasks ask for, one row each; tasks may be added at any time.

    task, length, limit: [M] index of the task, tokens drawn, tokens at most. tokens, logprobs: [M, max_new_tokens].
    finish: [M], "" while going on. Only what is finished is read by others.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._tasks: list[Task] = []
        self._begins = [0]  # the first row of each task, and the number of rows
        self._streams, self._drawn = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self.task, self.length, self.limit = (np.zeros(0, np.int64) for _ in range(3))
        self.tokens = np.zeros((0, sampling.max_new_tokens), np.int32)
        self.logprobs = np.zeros((0, sampling.max_new_tokens), np.float32)
        self.finish: np.ndarray = np.zeros(0, dtype=object)

    def add(self, tasks: Sequence[Task]) -> np.ndarray:
        """Takes in tasks; their rows [m] in the order in which they are to be sampled.

        Questions of like length are near each other; it changes no output, each has a random stream of its own.
        """
        most, before = self.sampling.max_new_tokens, len(self._tasks)
        counts = [len(task.streams) for task in tasks]
        limits = [limit for task in tasks for limit in (task.limits or [most] * len(task.streams))]
        assert len(limits) == sum(counts), "a limit for each output"
        self._tasks += tasks
        self._begins += (self._begins[-1] + np.cumsum(counts, dtype=np.int64)).tolist()
        streams = np.array([key for task in tasks for key in task.streams], dtype=np.uint64)
        self._streams = np.concatenate([self._streams, streams])
        drawn = [number for task in tasks for number in (task.drawn or [0] * len(task.streams))]
        self._drawn = np.concatenate([self._drawn, np.array(drawn, dtype=np.int64)])
        self.task = np.concatenate([self.task, before + np.repeat(np.arange(len(tasks), dtype=np.int64), counts)])
        self.limit = np.concatenate([self.limit, np.minimum(np.array(limits, dtype=np.int64), most)])
        self.length = np.concatenate([self.length, np.zeros(len(limits), np.int64)])
        more = ((0, len(limits)), (0, 0))
        self.tokens, self.logprobs = np.pad(self.tokens, more), np.pad(self.logprobs, more)
        self.finish = np.concatenate([self.finish, np.full(len(limits), "", dtype=object)])
        first = {task: place for place, task in reversed(list(enumerate(tasks)))}
        keys = [(len(task.question_tokens), first[task]) for task in tasks]
        rows = range(self._begins[before], len(self.task))
        return np.array(sorted(rows, key=lambda row: keys[self.task[row] - before]), dtype=np.int64)

    def question(self, row: int) -> tuple[int, ...]:
        return self._tasks[self.task[row]].question_tokens

    def before(self, row: int) -> tuple[int, ...]:
        """Tokens after the row's question: those that were there before it, and those drawn so far."""
        before = self._tasks[self.task[row]].before
        given = before[row - self._begins[self.task[row]]] if before else ()
        return (*given, *self.tokens[row, : self.length[row]].tolist())

    def of_task(self, task: int) -> range:
        """The rows of a task, in the order of its streams."""
        return range(self._begins[task], self._begins[task + 1])

    def draws(self, rows: np.ndarray) -> np.ndarray:
        """The next random number of each row's stream, [R] in [0, 1)."""
        return uniforms(self._streams[rows], self._drawn[rows] + self.length[rows])

    def newest(self, rows: np.ndarray) -> np.ndarray:
        """Ids of the tokens drawn last, [R]."""
        return self.tokens[rows, self.length[rows] - 1].astype(np.int64)

    def append(self, rows: np.ndarray, tokens: np.ndarray, logprobs: np.ndarray) -> None:
        self.tokens[rows, self.length[rows]] = tokens
        self.logprobs[rows, self.length[rows]] = logprobs
        self.length[rows] += 1


class Ends:
    """What ends an output: an end token, a stop string, its limit."""

    def __init__(self, policy: Policy, stop: tuple[str, ...]) -> None:
        self._decode, self._decode_all, self._stop = policy.tokenizer.decode, policy.tokenizer.decode_all, stop
        vocabulary = policy.model.get_output_embeddings().weight.shape[0]
        self._is_end = np.zeros(vocabulary, dtype=bool)
        self._is_end[[token for token in policy.tokenizer.end_tokens if token < vocabulary]] = True
        self._may_stop = self._tokens_that_may_stop(vocabulary) if stop else None
        # A token may be one byte of a character, or a special token without any text, hence bytes and the margin.
        self._tail = max((len(text.encode()) for text in self._stop), default=0) + 8

    def mark(self, rows: Rows, live: np.ndarray, tokens: np.ndarray) -> None:
        """Says of the live rows [R] that end with these tokens [R] why."""
        rows.finish[live[rows.length[live] >= rows.limit[live]]] = "length"
        rows.finish[live[self._is_end[tokens]]] = "stop"
        if self._may_stop is not None:
            for row in live[self._may_stop[tokens]]:
                newest = rows.tokens[row, max(0, rows.length[row] - self._tail) : rows.length[row]].tolist()
                # As text, which is what is kept, and with the tokens that are left out of it.
                tails = self._decode(newest), self._decode_all(newest)
                if any(text in tail for text in self._stop for tail in tails):
                    rows.finish[row] = "stop"

    def _tokens_that_may_stop(self, vocabulary: int) -> np.ndarray:
        """[V], True for tokens that hold the last character of a stop string, or bytes that are no character alone.

        Only rows that drew one of them are decoded. It takes a second, so an engine does it once.
        """
        lasts = {text[-1] for text in self._stop} | {"\ufffd"}
        # Also behind another token, since some tokenizers drop the space that the first one begins with.
        decode = self._decode_all
        before = decode([vocabulary - 1])
        texts = (decode([token]) + decode([vocabulary - 1, token])[len(before) :] for token in range(vocabulary))
        return np.array([not lasts.isdisjoint(text) for text in texts])
