"""What a run is doing at this moment, for whoever shows it. Those who work say so here; nobody need listen.

One thread says, the main one. A part within a part (sampling within an evaluation) is the one that is being done.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Listener(Protocol):
    """Is told of every part of a run's work as it goes on."""

    def begin(self, what: str, total: int, unit: str) -> None: ...
    def advance(self, done: int, tokens: int) -> None: ...
    def end(self) -> None: ...


_listeners: list[Listener] = []


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Inside the block the listener is told of what is done."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


_consoles: list[Any] = []


@contextmanager
def lines_on(console: Any) -> Iterator[None]:
    """Inside the block lines go to this console (rich's), which keeps them and what it shows below apart."""
    _consoles.append(console)
    try:
        yield
    finally:
        _consoles.remove(console)


def line_console() -> Any | None:
    """The console that lines go to, if a bar has one."""
    return _consoles[-1] if _consoles else None


@contextmanager
def doing(what: str, total: int = 0, unit: str = "") -> Iterator[None]:
    """Says that this is being done inside the block. total: pieces that it is made of, of that unit; 0: not known."""
    for listener in _listeners:
        listener.begin(what, total, unit)
    try:
        yield
    finally:
        for listener in _listeners:
            listener.end()


def advance(done: int = 0, *, tokens: int = 0) -> None:
    """Says that further pieces of what is being done are done, and tokens sampled."""
    for listener in _listeners:
        listener.advance(done, tokens)


def counted(pieces: Sequence[T], what: str, unit: str) -> Iterator[T]:
    """The pieces one by one, each said to be done when the next is asked for."""
    with doing(what, len(pieces), unit):
        for piece in pieces:
            yield piece
            advance(1)
