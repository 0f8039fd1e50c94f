"""The bar at the foot of a terminal: what is being done, how far it is, and how many tokens a second are sampled."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from groupwise.activity import heard_by, lines_on


@contextmanager
def bar(console: Console | None = None) -> Iterator[None]:
    """Shows a bar on standard error inside the block if that is a terminal. Lines printed meanwhile stand above it."""
    console = console or Console(file=sys.stderr, highlight=False, markup=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield
        return
    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
    ]
    columns += [TextColumn("{task.fields[text]}", markup=False), TimeElapsedColumn()]
    shown = Progress(*columns, console=console, transient=True, refresh_per_second=5, redirect_stdout=False)
    with shown, heard_by(_Bar(shown)), lines_on(console):
        yield


@dataclass
class _Part:
    """One part of the work: tokens since it began."""

    task: TaskID
    what: str
    total: int
    unit: str
    done: int = 0
    tokens: int = 0
    began: float = field(default_factory=time.perf_counter)

    def text(self) -> str:
        counted = f"{self.done}/{self.total} {self.unit}" if self.total else ""
        rate = f"{self.tokens / max(time.perf_counter() - self.began, 1e-9):.0f} tok/s" if self.tokens else ""
        return "  ".join(filter(None, (counted, rate)))


class _Bar:
    """Shows the innermost part of the work alone."""

    def __init__(self, shown: Progress) -> None:
        self._shown, self._parts = shown, list[_Part]()

    def begin(self, what: str, total: int, unit: str) -> None:
        if self._parts:
            self._shown.update(self._parts[-1].task, visible=False)
        whole = ": ".join([*(part.what for part in self._parts), what])
        part = _Part(self._shown.add_task(whole, total=total or None, text=""), what, total, unit)
        self._parts.append(part)
        self._shown.update(part.task, text=part.text(), refresh=True)  # long work says at once what it is

    def advance(self, done: int, tokens: int) -> None:
        if not self._parts:
            return
        part = self._parts[-1]
        part.done, part.tokens = part.done + done, part.tokens + tokens
        self._shown.update(part.task, completed=part.done, text=part.text())

    def end(self) -> None:
        self._shown.remove_task(self._parts.pop().task)
        if self._parts:
            self._shown.update(self._parts[-1].task, visible=True)
