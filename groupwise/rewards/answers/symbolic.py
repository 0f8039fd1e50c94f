"""What math-verify says of two answers that we do not read: sums, integrals, cases. Bounded in size and in seconds."""

import logging
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LONGEST = 300
"""Characters that its grammar is asked to read."""
SECONDS = 1.0
"""Of the processor; then two answers count as unequal."""
_TOWER = re.compile(r"\^\s*\{?[^{}^]*\^|\^\s*\{?\s*-?\d{4}|\d{4,}\s*\)?\s*!|\d{40}|binom\D{0,3}\d{5}|!\s*\)*\s*!")


_ITS_OWN = re.compile(r"\\(?:int|oint|sum|prod|lim|begin|det|partial|frac\{d|pmod|bmod)(?![a-z])")


class _Late(BaseException):
    """Its time is over; not an Exception, since math-verify goes on behind those."""


def same(gold: str, given: str) -> bool:
    """Whether math-verify finds two texts in LaTeX equal. False where it reads no more than we do, for what is long, a
    power tower, a factorial of thousands, and for what takes longer than SECONDS."""
    if not _ITS_OWN.search(gold + given):
        return False
    if max(len(gold), len(given)) > LONGEST or _TOWER.search(gold) or _TOWER.search(given):
        return False
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns that its own time limit is off
    try:
        with _limited(SECONDS):
            read: list[Any] = [
                parse(f"${text}$", fallback_mode="no_fallback", parsing_timeout=None) for text in (gold, given)
            ]
            return all(read) and bool(verify(*read, timeout_seconds=None))
    except (_Late, RecursionError, MemoryError):
        from sympy.core.cache import clear_cache

        clear_cache()  # what was cut short may have left half an answer there
        return False


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises _Late in the block after so many seconds of the processor; without a limit outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: Any) -> None:
        raise _Late

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.05)  # again and again: a bare except may swallow the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
