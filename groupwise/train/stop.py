"""Ctrl-C and SIGTERM: a step in progress is finished and saved, a wait is cut short. Knows signals only."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; the weights are those after the last finished step."""


class Stop:
    """Whether the run was asked to stop. The first signal asks; a second one ends the process as it would anyway.

    Weights change only while `guarded`; there a signal waits for the end of the block. Elsewhere it raises at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self._guarded = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handles the signals inside the block, as before after it."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

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
