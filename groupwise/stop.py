"""Ctrl-C, SIGTERM and SIGHUP: a step's update is finished and saved, a wait is cut short. Knows signals only."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; the weights are those after the last finished step."""


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Inside the block the signals that ask to stop call the handler; after it what they called before.

    SIGHUP stays ignored where it was ignored (nohup). In another thread than the main one, where Python lets nobody
    handle signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = [number for number in ASKING if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in wanted}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


class Stop:
    """Whether the run was asked to stop, and whether its weights are those of a finished step.

    A first request raises Interrupted at once, or waits for the end of a `guarded` block. A second one also ends what
    is `abandonable` inside such a block: work whose result may be thrown away, since no weight has changed. A third
    one ends the process as the signal would anyway. What happens is said at once, on stderr.

    changed: weights have changed since the step began. torn: they are changing, or a change failed half way.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.changed = self.torn = False
        self._waits_for = ""
        self._abandonable = False

    def listening(self) -> AbstractContextManager[None]:
        """Handles the signals inside the block, as before after it."""
        return handled_by(self._handle)

    @contextmanager
    def guarded(self, what: str = "this step") -> Iterator[None]:
        """A request to stop waits for the end of the block, and is raised there."""
        with self.kept(what):
            yield
        if self.asked:
            raise Interrupted

    @contextmanager
    def kept(self, what: str) -> Iterator[None]:
        """A request to stop waits for the end of the block, and is not raised there."""
        before, self._waits_for = self._waits_for, what
        try:
            yield
        finally:
            self._waits_for = before

    @contextmanager
    def abandonable(self) -> Iterator[None]:
        """In a guarded block: a second request to stop raises Interrupted here at once."""
        self._abandonable = True
        try:
            if self.asked > 1:
                raise Interrupted
            yield
        finally:
            self._abandonable = False

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Weights change inside the block; if an error comes out of it, they are of no step at all."""
        self.torn = True
        yield
        self.torn, self.changed = False, True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1
        if self.asked > 2:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        waits = bool(self._waits_for) and not (self._abandonable and self.asked > 1)
        if not waits:
            _tell("stopping")
            raise Interrupted
        if self.asked == 1 and not self._waits_for.startswith("saving"):
            after = "once more: stop at once and save what was valid before it"
            _tell(f"stopping: finishes {self._waits_for}, then saves ({after})")
        else:
            _tell(f"stopping: {self._waits_for} comes to its end first (once more: end now, and lose it)")


def _tell(text: str) -> None:
    """On stderr at once, also where the signal came inside a write to it."""
    with suppress(OSError, ValueError):
        try:
            print(f"\n{text}", file=sys.stderr, flush=True)
        except RuntimeError:  # no write inside a write
            os.write(2, f"\n{text}\n".encode())
