"""Calls of other people's code in threads, side by side, each with a time limit; what is done is asked for."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
AT_ONCE = 64
"""Calls that run at the same time; the others wait for their turn."""


class SideBySide(Generic[Key]):
    """Calls by the caller's keys. A call past its limit is given up: its thread goes on and nobody hears of it.

    The threads are daemons: one that never ends does not hold up the end of the process. took: hears of each call, as
    it is given back, how many seconds it took; the limit if it was given up.
    """

    def __init__(
        self, seconds: float, *, at_once: int = AT_ONCE, took: Callable[[Key, float], None] = lambda key, seconds: None
    ) -> None:
        self._seconds, self._at_once, self._took = seconds, at_once, took
        self._numbers = count()
        self._waiting: deque[tuple[int, Key, Callable[[], Any]]] = deque()
        self._running: dict[int, tuple[Key, float]] = {}  # with the time at which each is given up
        self._done: queue.SimpleQueue[tuple[int, Any, Exception | None, float]] = queue.SimpleQueue()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    def submit(self, key: Key, call: Callable[[], Any]) -> None:
        """Calls without arguments, now or once there is a place."""
        self._waiting.append((next(self._numbers), key, call))
        self._start()

    def done(self, timeout: float) -> list[tuple[Key, Any, Exception | None]]:
        """Calls that have ended, each with what it returned or raised; one past its limit has raised TimeoutError.

        Waits so many seconds at most, and no longer than for all of them.
        """
        found: list[tuple[Key, Any, Exception | None]] = []
        until = time.monotonic() + timeout
        while len(self):
            found += self._overdue()
            left = until - time.monotonic()
            try:
                said = self._done.get(timeout=min(left, 0.5)) if left > 0 else self._done.get_nowait()
            except queue.Empty:
                if left <= 0:
                    break
                continue
            number, value, error, seconds = said
            if number in self._running:  # else it was given up
                key = self._running.pop(number)[0]
                self._took(key, seconds)
                found.append((key, value, error))
                self._start()
        return found

    def _overdue(self) -> list[tuple[Key, Any, Exception | None]]:
        now = time.monotonic()
        late = [number for number, (_, limit) in self._running.items() if limit < now]
        given_up = [self._running.pop(number)[0] for number in late]
        self._start()
        for key in given_up:
            self._took(key, self._seconds)
        return [(key, None, TimeoutError(f"no answer within {self._seconds:g} s")) for key in given_up]

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._at_once:
            number, key, call = self._waiting.popleft()
            self._running[number] = key, time.monotonic() + self._seconds
            threading.Thread(target=self._run, args=(number, call), name=f"environment-{number}", daemon=True).start()

    def _run(self, number: int, call: Callable[[], Any]) -> None:
        began = time.monotonic()
        value, error = None, None
        try:
            value = call()
        except Exception as raised:
            error = raised
        except BaseException as raised:  # sys.exit() in an environment ends its episode, not the run
            error = RuntimeError(f"{type(raised).__name__}: {raised}")
        self._done.put((number, value, error, time.monotonic() - began))
