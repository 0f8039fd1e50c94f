"""What reaches a terminal: no control characters of text from outside, and no error when its reader has left.

Model outputs, questions, tracebacks of reward functions and names of files may hold escapes that move the cursor, hide
lines or run what a terminal offers. They are shown as Python would write them.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from shlex import quote
from typing import Any, TextIO, cast

UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
"""Control characters but for tabs and line breaks, what turns the direction of writing, what is not seen at all."""


def printable(text: str) -> str:
    """The text with UNSAFE characters as their escapes: \\x1b for the one that begins a terminal's commands."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def quoted(path: str | os.PathLike[str]) -> str:
    """A path for a command that is shown: bash and zsh read it as it was, whatever its name holds."""
    text = os.fspath(path)
    if not UNSAFE.search(text) and "\n" not in text:
        return quote(text)
    plain = (32 <= byte < 127 and byte not in b"'\\" for byte in os.fsencode(text))
    message = (
        chr(byte) if as_it_is else rf"\x{byte:02x}" for byte, as_it_is in zip(os.fsencode(text), plain, strict=True)
    )
    return f"$'{''.join(message)}'"


def command(*words: str | os.PathLike[str]) -> str:
    """A `groupwise` command that is shown, its words quoted where a shell needs it."""
    return " ".join(["groupwise", *map(quoted, words)])


class Outlet:
    """A text stream in front of another, whose reader may leave: what is written then is lost without an error.

    shown: what is written of a text.
    """

    def __init__(self, stream: TextIO, shown: Callable[[str], str]) -> None:
        self._stream, self._shown, self._lost = stream, shown, False

    @property
    def rich_proxied_file(self) -> "Outlet":
        """Where rich writes, whose own codes must pass; what it shows is made printable before."""
        return Outlet(self._stream, str)

    def write(self, text: str) -> int:
        self._kept(lambda: self._stream.write(self._shown(text)))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._kept(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _kept(self, work: Callable[[], object]) -> None:
        if self._lost:
            return
        try:
            work()
        except (OSError, ValueError):  # a closed pipe, a lost terminal, a full disk; a stream that was closed
            self._lost = True
            with suppress(OSError, ValueError, io.UnsupportedOperation):
                # also for what writes to the descriptor itself, and for Python's own last flush
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def safe_streams() -> Iterator[None]:
    """While it holds, stdout and stderr are printable, stderr outlives its reader, and no file takes their numbers."""
    for number in (0, 1, 2):
        with suppress(OSError):
            os.fstat(number)
            continue
        # the lowest number that is free: a record must not become somebody's stderr, nor a pipe that of a child
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    with ExitStack() as held:
        out, err = sys.stdout or open(os.devnull, "w"), sys.stderr or open(os.devnull, "w")  # noqa: SIM115
        held.enter_context(redirect_stdout(cast(TextIO, _Printable(out))))
        held.enter_context(redirect_stderr(cast(TextIO, Outlet(err, printable))))
        yield


class _Printable(Outlet):
    """Printable, with errors as they come: who loses a command's result learns it from its exit code."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream, printable)

    @property
    def rich_proxied_file(self) -> Any:
        return self._stream

    def _kept(self, work: Callable[[], object]) -> None:
        work()
