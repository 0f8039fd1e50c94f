"""The processes of one reward function, and the calls that wait for one of them. Knows no weight and no other one.

Functions have pools of their own, so a slow judge holds up no fast rule; several workers of one function share its
calls, and what they say comes back in the order in which it was asked.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from groupwise.rewards.child import TOGETHER, Child
from groupwise.rewards.forms import Scored, by_questions
from groupwise.rewards.host import Terms
from groupwise.rewards.verdicts import Verdict
from groupwise.terminal import printable

if TYPE_CHECKING:
    from groupwise.config import RewardConfig

COUNTS = ("calls", "cached", "tokens_in", "tokens_out", "cost", "seconds", "unread")
"""What a function may count (groupwise/rewards/host.py); each is a metric, judge/<name>/<label>."""


class _Job(NamedTuple):
    samples: Sequence[Scored]
    step: int
    verdicts: "Future[list[Verdict]]"


class Pool:
    """`workers` processes of one function. Use `start`, `ready`, then `submit` any number of times, then `close`.

    folder: the run's, for functions that keep something; None: there is none."""

    def __init__(self, config: "RewardConfig", *, folder: Path | None = None) -> None:
        self._function, self.label = config.function, config.label
        terms = Terms(folder, config.timeout_seconds, config.concurrency)
        self._pauses = _Pauses(config.label)
        self._children = [
            Child(
                config.function,
                config.params,
                timeout_seconds=config.timeout_seconds,
                terms=terms,
                heard=partial(self._pauses.hear, number),
            )
            for number in range(config.workers)
        ]
        self._idle: SimpleQueue[Child] = SimpleQueue()
        for child in self._children:
            self._idle.put(child)
        self._jobs: deque[_Job] = deque()
        self._threads: ThreadPoolExecutor | None = None  # one waits for each process
        self._lock = threading.Lock()
        self._busy = 0.0

    @property
    def columns(self) -> frozenset[str]:
        """Columns that the function wants the questions to have; known once it is `ready`."""
        return self._children[0].columns

    def start(self) -> None:
        """Starts the processes; they import the function while we go on."""
        for child in self._children:
            child.start()

    def ready(self) -> None:
        """Waits until each has imported the function. Raises RewardError if it cannot be."""
        for child in self._children:
            child.ready()

    def submit(self, samples: Sequence[Scored], *, step: int) -> "list[Future[list[Verdict]]]":
        """Asks about samples; the verdicts of all futures in a row are theirs, in their order.

        One worker gets all of them, several share them by questions: outputs of one question stay in one call. Of an
        async function, whose calls are awaited at the same time, a worker takes all that wait when it is free.
        """
        if self._threads is None:
            self._threads = ThreadPoolExecutor(len(self._children), thread_name_prefix=f"reward {self.label}")
        alone = len(self._children) == 1 and not self._children[0].concurrent
        pieces = [samples] if alone else by_questions(samples, TOGETHER.get(self._function, 1))
        jobs = [_Job(piece, step, Future()) for piece in pieces if piece]
        self._jobs.extend(jobs)
        for _ in jobs:
            self._threads.submit(self._work)
        return [job.verdicts for job in jobs]

    def spent(self) -> dict[str, float]:
        """Seconds that its processes worked since this was last asked, and what the function counted, as metrics."""
        with self._lock:
            found, self._busy = {"time/reward_work": self._busy}, 0.0
            for child in self._children:
                counts, child.counts = child.counts, {}
                for name in (name for name in COUNTS if name in counts):
                    found[f"judge/{name}"] = found.get(f"judge/{name}", 0.0) + counts[name]
        return found

    def _work(self) -> None:
        child = self._idle.get()
        try:
            jobs = self._next(child)
            if not jobs:  # an earlier call took it along
                return
            started = time.perf_counter()
            try:
                found = child.verdicts([sample for job in jobs for sample in job.samples], step=jobs[0].step)
            except BaseException as error:
                for job in jobs:
                    job.verdicts.set_exception(error)
                return
            finally:
                with self._lock:
                    self._busy += time.perf_counter() - started
            for job in jobs:
                own, found = found[: len(job.samples)], found[len(job.samples) :]
                job.verdicts.set_result(own)
        finally:
            self._idle.put(child)

    def _next(self, child: Child) -> list[_Job]:
        """The job that is next; for an async function its share of those that wait, of one step."""
        with self._lock:
            share = -(-len(self._jobs) // len(self._children)) if child.concurrent else 1
            found: list[_Job] = []
            while self._jobs and len(found) < share and self._jobs[0].step == (found or self._jobs)[0].step:
                job = self._jobs.popleft()
                if job.verdicts.set_running_or_notify_cancel():
                    found.append(job)
            return found

    def halt(self) -> None:
        """For any thread: calls that are under way or waiting give up and raise RewardError, until `close`."""
        for child in self._children:
            child.halt()

    def close(self) -> None:
        """Ends the calls and the processes; `submit` may be called again, and starts them anew."""
        if self._threads is not None:
            self.halt()  # else a thread would start the process again that is ended here
            self._threads.shutdown(cancel_futures=True)
            self._threads = None
            for job in self._jobs:
                job.verdicts.cancel()
            self._jobs.clear()
        for child in self._children:
            child.close()
        self._pauses.clear()


class _Pauses:
    """What the processes of a function say of themselves, shown on stderr; that several wait for one service once."""

    def __init__(self, label: str) -> None:
        self._label, self._paused, self._lock = label, set[int](), threading.Lock()

    def hear(self, number: int, kind: str, said: str) -> None:
        with self._lock:
            alone = not self._paused - {number}
            if kind == "patience" and said:
                self._paused.add(number)
            elif kind == "resumed":
                self._paused.discard(number)
            if said and (alone or kind == "remark"):
                print(f"reward {self._label}: {printable(said)}", file=sys.stderr, flush=True)

    def clear(self) -> None:
        self._paused.clear()
