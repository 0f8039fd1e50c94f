"""How a verb that works for long shows what it does, and what it came to. Knows no verb."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

from groupwise.cli.bar import bar
from groupwise.run.progress import LINES, View, shown_as
from groupwise.stop import handled_by
from groupwise.strict_json import json_line
from groupwise.terminal import command


@contextmanager
def showing(as_json: bool, *, quiet: bool = False, both: bool = False) -> Iterator[View]:
    """Inside the block progress is shown as a verb's options say: with lines on stderr there is a bar below them."""
    view: View = "both" if both else "json" if as_json else "nothing" if quiet else "table"
    with shown_as(view), bar() if view in LINES else nullcontext():
        yield view


def print_result(content: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """What came out, on stdout: as the event `end` that holds it, or as text."""
    print(json_line({"event": "end", **content}) if as_json else text)


@contextmanager
def begun_again(words: Sequence[str]) -> Iterator[None]:
    """Of a verb that keeps nothing: a signal to stop ends the block, and the command that begins again is printed."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        with handled_by(stop):
            yield
    except KeyboardInterrupt:
        print(f"\nstopped, nothing is kept\nresume with: {command(*words)}", file=sys.stderr)
        raise
