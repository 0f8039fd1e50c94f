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

    The threads are daemons: one that never ends does not hold up the end of the process.
    """

    def __init__(self, seconds: float, *, at_once: int = AT_ONCE) -> None:
        self._seconds, self._at_once = seconds, at_once
        self._numbers = count()
        self._waiting: deque[tuple[int, Key, Callable[[], Any]]] = deque()
        self._running: dict[int, tuple[Key, float]] = {}  # with the time at which each is given up
        self._done: queue.SimpleQueue[tuple[int, Any, Exception | None]] = queue.SimpleQueue()

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
                number, value, error = self._done.get(timeout=min(left, 0.5)) if left > 0 else self._done.get_nowait()
            except queue.Empty:
                if left <= 0:
                    break
                continue
            if number in self._running:  # else it was given up
                found.append((self._running.pop(number)[0], value, error))
                self._start()
        return found

    def _overdue(self) -> list[tuple[Key, Any, Exception | None]]:
        now = time.monotonic()
        late = [number for number, (_, limit) in self._running.items() if limit < now]
        given_up = [self._running.pop(number)[0] for number in late]
        self._start()
        return [(key, None, TimeoutError(f"no answer within {self._seconds:g} s")) for key in given_up]

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._at_once:
            number, key, call = self._waiting.popleft()
            self._running[number] = key, time.monotonic() + self._seconds
            threading.Thread(target=self._run, args=(number, call), name=f"environment-{number}", daemon=True).start()

    def _run(self, number: int, call: Callable[[], Any]) -> None:
        try:
            self._done.put((number, call(), None))
        except Exception as error:
            self._done.put((number, None, error))
        except BaseException as error:  # sys.exit() in an environment ends its episode, not the run
            self._done.put((number, None, RuntimeError(f"{type(error).__name__}: {error}")))
