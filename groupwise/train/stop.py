"""Ctrl-C and SIGTERM: a step in progress is finished and saved, a wait is cut short. Knows signals only."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; the weights are those after the last finished step."""


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Inside the block Ctrl-C and SIGTERM call the handler; after it what they called before."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


class Stop:
    """Whether the run was asked to stop. The first signal asks; a second one ends the process as it would anyway.

    Weights change only while `guarded`; there a signal waits for the end of the block. Elsewhere it raises at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self._guarded = False

    def listening(self) -> AbstractContextManager[None]:
        """Handles the signals inside the block, as before after it."""
        return handled_by(self._handle)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Nothing is interrupted inside the block; a stop asked for meanwhile is raised at its end."""
        self._guarded = True
        try:
            yield
        finally:
            self._guarded = False
        if self.asked:
            raise Interrupted

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.asked = True
        if not self._guarded:
            raise Interrupted
