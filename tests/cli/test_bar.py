"""What a run is doing is shown at the foot of a terminal, and nowhere else."""

import io
import re
import time

from rich.console import Console
from rich.progress import TaskID

from groupwise.activity import advance, counted, doing, heard_by, line_console
from groupwise.cli.bar import _Part, bar


def shown(terminal):
    """What the work below showed, as plain text."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120, color_system=None, legacy_windows=False)
    with bar(console), doing("evaluating (before)"), doing("sampling", 64, "outputs"):
        advance(16, tokens=1000)
        with doing("rewards", 8, "questions"):
            console.print("a line")
    return file.getvalue()


def test_a_bar_says_what_is_being_done_and_of_what_it_is_a_part():
    text = shown(True)
    assert "evaluating (before): sampling" in text
    assert "0/64 outputs" in text
    assert "evaluating (before): sampling: rewards" in text
    assert "0/8 questions" in text
    assert "a line" in text


def test_a_part_says_how_far_it_is_and_how_fast():
    part = _Part(TaskID(0), "sampling", 64, "outputs", done=16, tokens=1000, began=time.perf_counter() - 10)
    assert re.fullmatch(r"16/64 outputs  (100|99) tok/s", part.text())
    assert _Part(TaskID(0), "loading the model", 0, "").text() == ""


def test_where_there_is_no_terminal_there_is_no_bar():
    assert shown(False) == "a line\n"


def test_what_is_counted_is_done_when_the_next_is_asked_for():
    class Heard:
        def __init__(self):
            self.events = []

        def begin(self, what, total, unit):
            self.events.append((what, total, unit))

        def advance(self, done, tokens):
            self.events.append(done)

        def end(self):
            self.events.append("end")

    heard = Heard()
    with heard_by(heard):
        assert list(counted([5, 6], "update", "micro-batches")) == [5, 6]
    assert heard.events == [("update", 2, "micro-batches"), 1, 1, "end"]
    advance(3)  # nobody listens
    assert heard.events[-1] == "end"


def test_lines_go_to_the_console_that_the_bar_is_on():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with bar(console):
        assert line_console() is console
    assert line_console() is None
    with bar(Console(file=io.StringIO(), force_terminal=False)):
        assert line_console() is None


def test_a_part_ends_where_its_work_fails():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, color_system=None)
    try:
        with bar(console), doing("update"):
            raise ValueError
    except ValueError:
        pass
    with bar(console), doing("again"):
        pass
    assert "update: again" not in file.getvalue()
