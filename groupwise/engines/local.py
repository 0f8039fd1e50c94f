"""Sampling on the policy's own module: one copy of the weights, nothing to copy. Token ids in and out.

Rows (outputs on their way) advance by one token a step, side by side. A finished row leaves at once and a waiting one
takes its place; nothing in a step is done row by row but what ends a row.
"""

import math
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from groupwise.activity import advance
from groupwise.data import Output, Sampling
from groupwise.engines.base import Capabilities, Task
from groupwise.engines.choice import CACHES, choose_cache
from groupwise.engines.draw import next_tokens
from groupwise.engines.rows import Ends, Rows
from groupwise.errors import ConfigError, RunError
from groupwise.model.memory import out_of_memory
from groupwise.model.policy import Policy
from groupwise.model.products import multiplies_bf16
from groupwise.objective.logprobs import wide

ENTER_SHARE = 8  # waiting rows enter when an eighth of the places is free: a question is computed slowly by itself

Numbered = Sequence[tuple[int, Task]]
Precision = Literal["auto", "bf16"]


class LocalEngine:
    """Samples with the policy's own module; log-probabilities equal the policy's, up to fp32 rounding.

    With bf16 products they differ by some 0.02 nats per token (SmolLM2-135M), since each rounds in its own order.
    Where the model allows it, those are of the weights alone: what lies between the products stays fp32.

    It samples within `poll`, tasks of one distribution at a time; those of another wait until these are done.
    """

    capabilities = Capabilities(exact=True, keeps_questions=True, silent_seconds=math.inf)

    def __init__(
        self, policy: Policy, *, max_num_seqs: int = 256, precision: Precision = "auto", shared: bool = True
    ) -> None:
        """precision: of sampling's products; auto: that of the policy's. shared: sample with each question's keys and
        values kept once, where the model allows it."""
        self.policy = policy
        self.max_num_seqs = max_num_seqs
        self.precision = torch.bfloat16 if precision == "bf16" else policy.precision
        if precision == "bf16" and policy.device.type == "cpu" and not multiplies_bf16():
            raise ConfigError(
                "rollout.precision = 'bf16': this processor has no products of bf16", hint="set it to auto"
            )
        if self.precision != policy.precision:
            self.capabilities = replace(self.capabilities, exact=False)
        self.cache = choose_cache(replace(policy, precision=self.precision), shared=shared)
        self.version = 0
        self._ends: dict[tuple[str, ...], Ends] = {}  # by the stop strings
        self._numbers = count()
        self._submitted: deque[tuple[Sampling, Numbered]] = deque()
        self._kept: set[tuple[int, ...]] = set()  # questions of which later turns may follow
        self._session: _Session | None = None
        self._open = ExitStack()  # what a session holds

    def open(self) -> None:
        """Nothing: the policy is there."""

    def sync(self, policy: Policy, version: int) -> None:
        assert policy is self.policy, "the weights are the policy's own"
        assert not self._submitted, "tasks are on their way"
        assert self._session is None, "tasks are on their way"
        self.version = version

    def submit(self, tasks: Sequence[Task], sampling: Sampling) -> list[int]:
        numbers = [next(self._numbers) for _ in tasks]
        self._kept.update(task.question_tokens for task in tasks if task.keep)
        self._submitted.append((sampling, list(zip(numbers, tasks, strict=True))))
        return numbers

    def poll(self, timeout: float) -> list[tuple[int, list[Output]]]:
        """Samples until at least one task is done, however long that takes."""
        while self._begin():
            assert self._session is not None
            if done := self._session.step():
                return done
        return []

    def release(self, questions: Sequence[tuple[int, ...]] | None = None) -> None:
        if questions is not None:
            self._kept.difference_update(questions)
            return
        self._kept.clear()
        self._submitted.clear()
        self._session = None
        self._open.close()

    def close(self) -> None:
        self.release()

    @property
    def sampler(self) -> Policy:
        """The policy as it samples."""
        return replace(self.policy, precision=torch.float32 if self.cache == "fused" else self.precision)

    def _begin(self) -> bool:
        """Takes in what was submitted, if it is of the session's distribution; False if there is nothing to do."""
        while self._submitted:
            sampling, tasks = self._submitted[0]
            if self._session is not None and self._session.rows.sampling != sampling:
                if not self._session.idle:
                    return True
                self._session = None
                self._open.close()
            if self._session is None:
                self._open.enter_context(self.sampler.kept_weights(self.precision))
                self._session = _Session(self, sampling, self._ends_of(sampling.stop), self._kept)
            self._session.add(tasks)
            self._submitted.popleft()
        return self._session is not None and not self._session.idle

    def _ends_of(self, stop: tuple[str, ...]) -> Ends:
        if stop not in self._ends:
            self._ends[stop] = Ends(self.policy, stop)
        return self._ends[stop]


class _Session:
    """Tasks of one distribution on their way: their rows, and the cache of those that are live."""

    def __init__(self, engine: LocalEngine, sampling: Sampling, ends: Ends, kept: set[tuple[int, ...]]) -> None:
        self.policy, self._max_rows, self._version = engine.sampler, engine.max_num_seqs, engine.version
        self.rows, self._ends = Rows(sampling), ends
        self._engine, self._tried = engine, 0  # rows that the last pass was tried with
        self._new_cache = partial(CACHES[engine.cache], self.policy, sampling.max_new_tokens, kept)
        self._cache = self._new_cache()
        self._tasks: list[tuple[int, Task]] = []  # with the numbers that `submit` gave them
        self._missing: list[int] = []  # outputs of each task that are not done
        self._empty: list[int] = []  # numbers of tasks that want no output
        self._waiting = self._live = np.zeros(0, np.int64)

    @property
    def idle(self) -> bool:
        return not (len(self._live) or len(self._waiting) or self._empty)

    def add(self, tasks: Numbered) -> None:
        self._tasks += tasks
        self._missing += [len(task.streams) for _, task in tasks]
        self._empty += [number for number, task in tasks if not task.streams]
        order = self.rows.add([task for _, task in tasks])
        # Later turns go first, so that few questions are kept at a time.
        later = np.array([bool(self.rows.before(row)) for row in order.tolist()], dtype=bool)
        self._waiting = np.concatenate([order[later], self._waiting, order[~later]])

    def step(self) -> list[tuple[int, list[Output]]]:
        """One token more of each live row, or the first of those that enter; the tasks that are done with it."""
        if self._empty:
            done, self._empty = [(number, list[Output]()) for number in self._empty], []
            return done
        try:
            return self._advance()
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        self._retreat()  # outside of the except block, whose traceback holds what was computed
        return []

    def _retreat(self) -> None:
        """After memory ran out: all rows leave the cache and wait, with what they drew, for half as many places."""
        if self._max_rows == 1:
            raise RunError("one output alone does not fit into memory", hint="lower rollout.max_new_tokens")
        self._max_rows = self._engine.max_num_seqs = max(1, min(self._max_rows, self._tried) // 2)
        self._waiting, self._live = np.concatenate([self._live, self._waiting]), np.zeros(0, np.int64)
        self._cache = self._new_cache()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        limit = f"from here on at most {self._max_rows} side by side (rollout.max_num_seqs)"
        print(f"outputs on their way did not fit into memory: {limit}", file=sys.stderr)

    def _advance(self) -> list[tuple[int, list[Output]]]:
        rows, cache = self.rows, self._cache
        free = self._max_rows - len(self._live)
        may_enter = cache.enters_any_time and free * ENTER_SHARE >= self._max_rows
        if len(self._waiting) and (not len(self._live) or may_enter):
            number = _of_one_length(rows, self._waiting[:free]) if cache.of_one_length else free
            entering = self._waiting[:number]
            self._tried = len(self._live) + len(entering)
            asked, before = [rows.question(row) for row in entering], [rows.before(row) for row in entering]
            logits = cache.enter(asked, before)
            self._waiting, self._live = self._waiting[len(entering) :], np.concatenate([self._live, entering])
            self._draw(entering, logits)
        else:
            self._tried = len(self._live)
            newest = torch.from_numpy(rows.newest(self._live)).to(self.policy.device)
            self._draw(self._live, cache.decode(newest))
        going_on = rows.finish[self._live] == ""
        if going_on.all():
            return []
        finished = self._live[~going_on]
        self._live = self._live[cache.keep(going_on)]
        return self._done(finished)

    def _done(self, finished: np.ndarray) -> list[tuple[int, list[Output]]]:
        """The tasks whose last outputs these rows are."""
        done = []
        for row in finished.tolist():
            place = int(self.rows.task[row])
            self._missing[place] -= 1
            if not self._missing[place]:
                number, task = self._tasks[place]
                done.append((number, [self._output(task, own) for own in self.rows.of_task(place)]))
        return done

    def _draw(self, live: np.ndarray, logits: Tensor) -> None:
        """Draws the next token of the live rows and writes it down; says of those that end with it why."""
        rows = self.rows
        draws = torch.from_numpy(rows.draws(live)).to(wide(logits[:0]))
        found = next_tokens(self.policy.known(logits), rows.sampling, draws)
        tokens, logprobs = (values.cpu().numpy() for values in found)
        if np.isnan(logprobs).any():
            row = live[int(np.isnan(logprobs).argmax())]
            length = len(rows.question(row)) + len(rows.before(row))
            raise RunError(
                f"the policy's logits are nan after {length} token(s) of a conversation",
                hint="its weights have diverged: go back to an earlier checkpoint with a lower update.learning_rate",
            )
        rows.append(live, tokens, logprobs)
        self._ends.mark(rows, live, tokens)
        advance(tokens=len(live))

    def _output(self, task: Task, row: int) -> Output:
        rows = self.rows
        length = int(rows.length[row])
        tokens = rows.tokens[row, :length]
        return Output(
            question_tokens=np.array(task.question_tokens, dtype=np.int32),
            tokens=tokens.copy(),
            sampled=np.ones(length, dtype=bool),
            logprobs=rows.logprobs[row, :length].copy(),
            text=self.policy.tokenizer.decode(tokens.tolist()),
            finish=rows.finish[row],
            policy_version=self._version,
            opening=self.policy.tokenizer.template.opening,
        )


def _of_one_length(rows: Rows, waiting: np.ndarray) -> int:
    """How many of the first waiting rows begin with as many tokens as the first one."""
    lengths = [len(rows.question(row)) + len(rows.before(row)) for row in waiting.tolist()]
    return next((number for number, length in enumerate(lengths) if length != lengths[0]), len(lengths))
