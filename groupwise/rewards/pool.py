"""The processes of one reward function, and the calls that wait for one of them. Knows no weight and no other one.

Functions have pools of their own, so a slow judge holds up no fast rule; several workers of one function share its
calls, and what they say comes back in the order in which it was asked.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

from groupwise.rewards.adapters import Scored, Verdict
from groupwise.rewards.child import TOGETHER, Child, by_questions

if TYPE_CHECKING:
    from groupwise.config import RewardConfig


class Pool:
    """`workers` processes of one function. Use `start`, `ready`, then `submit` any number of times, then `close`."""

    def __init__(self, config: "RewardConfig") -> None:
        self._function, self.label = config.function, config.label
        self._children = [
            Child(config.function, config.params, timeout_seconds=config.timeout_seconds) for _ in range(config.workers)
        ]
        self._idle: SimpleQueue[Child] = SimpleQueue()
        for child in self._children:
            self._idle.put(child)
        self._threads: ThreadPoolExecutor | None = None  # one waits for each process

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

        One worker gets all of them, several share them by questions: outputs of one question stay in one call.
        """
        if self._threads is None:
            self._threads = ThreadPoolExecutor(len(self._children), thread_name_prefix=f"reward {self.label}")
        alone = len(self._children) == 1
        pieces = [samples] if alone else by_questions(samples, TOGETHER.get(self._function, 1))
        return [self._threads.submit(self._ask, piece, step) for piece in pieces if piece]

    def _ask(self, samples: Sequence[Scored], step: int) -> list[Verdict]:
        child = self._idle.get()
        try:
            return child.verdicts(samples, step=step)
        finally:
            self._idle.put(child)

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
        for child in self._children:
            child.close()
