"""What a reward function may ask of the run, from inside its process: patience, a folder to keep things in, counts.

A function of your own may use it too: `patience` while an outside service is down, `count` for a figure of the step.
Outside such a process nothing listens, and every function here does nothing.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Terms:
    """On which terms a function runs. folder: the run's; None: there is none. timeout_seconds, concurrency: the
    recipe's."""

    folder: Path | None = None
    timeout_seconds: float = 30.0
    concurrency: int = 16


_lock = threading.Lock()
_terms = [Terms()]
_send: list[Callable[[Any], None]] = [lambda message: None]
_counts: dict[str, float] = {}


def begin(terms: Terms, send: Callable[[Any], None]) -> None:
    """Called once by the process, before it imports the function. send: a message to the run."""
    _terms[0], _send[0] = terms, send


def terms() -> Terms:
    """The terms of this process."""
    return _terms[0]


def patience(seconds: float, said: str = "") -> None:
    """The function is alive and may take so many seconds more than its limit until it next speaks.

    said: what it waits for; the run shows it on one line.
    """
    with _lock:
        _send[0](("patience", seconds, said))


def resumed(said: str) -> None:
    """What was waited for is back; the run shows the words."""
    with _lock:
        _send[0](("resumed", said))


def remark(line: str) -> None:
    """Shows a line on the run's stderr."""
    with _lock:
        _send[0](("remark", line))


def count(name: str, amount: float) -> None:
    """Adds to a figure of the step: calls, cached, tokens_in, tokens_out, cost, seconds or unread of a judge."""
    with _lock:
        _counts[name] = _counts.get(name, 0.0) + amount


def counted() -> dict[str, float]:
    """The figures since this was last asked."""
    with _lock:
        found = dict(_counts)
        _counts.clear()
    return found
