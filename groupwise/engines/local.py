"""Sampling on the policy's own module: one copy of the weights, no sync. Token ids in and out.

Rows (outputs on their way) advance by one token a turn, side by side. A finished row leaves at once and a waiting one
takes its place; nothing in a turn is done row by row but what ends a row.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from groupwise.activity import advance
from groupwise.data import Output, Sampling
from groupwise.engines.base import Finished, Task
from groupwise.engines.choice import CACHES, Cache, choose_cache
from groupwise.engines.draw import next_tokens
from groupwise.engines.rows import Ends, Rows
from groupwise.errors import RunError
from groupwise.model.policy import Policy
from groupwise.objective.logprobs import wide

ENTER_SHARE = 8  # waiting rows enter when an eighth of the places is free: a question is computed slowly by itself


class LocalEngine:
    """The policy's own module as a sampler; its log-probabilities are the policy's to fp32's rounding. Where products
    are bf16 they are some 0.02 nats a token away (SmolLM2-135M), since each rounds its factors in its own order."""

    exact = True

    def __init__(self, policy: Policy, *, max_rows: int = 256, shared: bool = True) -> None:
        """shared: sample with each question's keys and values kept once, where the model allows it."""
        self.policy = policy
        self.max_rows = max_rows
        self.cache = choose_cache(policy, shared=shared)
        self._ends: dict[tuple[str, ...], Ends] = {}  # by the stop strings

    def generate(
        self,
        tasks: Sequence[Task],
        sampling: Sampling,
        *,
        policy_version: int = 0,
        finished: Finished = lambda task, outputs: None,
    ) -> list[list[Output]]:
        rows = Rows(tasks, sampling)
        outputs: list[list[Output]] = [[] for _ in tasks]
        missing = [len(task.streams) for task in tasks]
        with self.policy.kept_weights():
            cache = self._cache(min(self.max_rows, len(rows.task)), sampling.max_new_tokens)
            for done in self._finished_rows(rows, cache, sampling):
                for row in done.tolist():
                    task = int(rows.task[row])
                    missing[task] -= 1
                    if not missing[task]:
                        own = rows.of_task(task)
                        outputs[task] = [self._output(tasks[task], rows, row, policy_version) for row in own]
                        finished(task, outputs[task])
        return outputs

    def _cache(self, rows: int, tokens: int) -> Cache:
        return CACHES[self.cache](self.policy, rows, tokens)

    def _finished_rows(self, rows: Rows, cache: Cache, sampling: Sampling) -> Iterator[np.ndarray]:
        """Samples every row; yields the rows that are finished, turn by turn."""
        waiting = rows.entering_order()
        live = waiting[:0]
        if sampling.stop not in self._ends:
            self._ends[sampling.stop] = Ends(self.policy, sampling.stop)
        ends = self._ends[sampling.stop]
        while len(live) or len(waiting):
            free = self.max_rows - len(live)
            if len(waiting) and (not len(live) or (cache.enters_any_time and free * ENTER_SHARE >= self.max_rows)):
                number = _of_one_length(rows, waiting[:free]) if cache.of_one_length else free
                entering, waiting = waiting[:number], waiting[number:]
                self._draw(rows, entering, cache.enter([rows.question(row) for row in entering]), ends)
                live = np.concatenate([live, entering])
            else:
                newest = torch.from_numpy(rows.newest(live)).to(self.policy.device)
                self._draw(rows, live, cache.turn(newest), ends)
            going_on = rows.finish[live] == ""
            if not going_on.all():
                yield live[~going_on]
                live = live[cache.keep(going_on)]

    def _draw(self, rows: Rows, live: np.ndarray, logits: Tensor, ends: Ends) -> None:
        """Draws the next token of the live rows and writes it down; says of those that end with it why."""
        draws = torch.from_numpy(rows.draws(live)).to(wide(logits[:0]))
        found = next_tokens(self.policy.known(logits), rows.sampling, draws)
        tokens, logprobs = (values.cpu().numpy() for values in found)
        if np.isnan(logprobs).any():
            row = live[int(np.isnan(logprobs).argmax())]
            length = len(rows.question(row)) + int(rows.length[row])
            raise RunError(
                f"the policy's logits are nan after {length} token(s) of a conversation",
                hint="its weights have diverged: go back to an earlier checkpoint with a lower update.learning_rate",
            )
        rows.append(live, tokens, logprobs)
        ends.mark(rows, live, tokens)
        advance(int((rows.finish[live] != "").sum()), tokens=len(live))

    def _output(self, task: Task, rows: Rows, row: int, policy_version: int) -> Output:
        length = int(rows.length[row])
        tokens = rows.tokens[row, :length]
        return Output(
            question_tokens=np.array(task.question_tokens, dtype=np.int32),
            tokens=tokens.copy(),
            sampled=np.ones(length, dtype=bool),
            logprobs=rows.logprobs[row, :length].copy(),
            text=self.policy.tokenizer.decode(tokens.tolist()),
            finish=rows.finish[row],
            policy_version=policy_version,
            opening=self.policy.tokenizer.template.opening,
        )


def _of_one_length(rows: Rows, waiting: np.ndarray) -> int:
    """How many of the first waiting rows have questions as long as the first one's."""
    lengths = [len(rows.question(row)) for row in waiting.tolist()]
    return next((number for number, length in enumerate(lengths) if length != lengths[0]), len(lengths))
