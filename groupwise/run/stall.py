"""A run that does not move: the stacks of all its threads, on stderr and in a file. Ends nothing."""

import faulthandler
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import UnsupportedOperation
from pathlib import Path

FILE = "stacks.txt"


@contextmanager
def watched(folder: Path, seconds: float) -> Iterator[Callable[[str], None]]:
    """Gives a function that is called at every sign of life, with what begins then.

    After so many seconds without one (0: never) the stacks are dumped, once until the next; the run goes on, since what
    it waits for has limits of its own. The file is written by a thread that needs no interpreter, so also where C code
    holds it; it is removed at the end if nothing was dumped.
    """
    path, timers = folder / FILE, list[threading.Timer]()
    try:
        file = path.open("a", encoding="utf-8") if seconds else None
    except OSError:  # a full disk is no reason not to train
        file = None
    if file is None:
        yield lambda what: None
        return

    def dump(what: str) -> None:
        print(f"no progress in {what} for {seconds:g} s; the stacks of all threads are in {path}", file=sys.stderr)
        with suppress(UnsupportedOperation, OSError, ValueError):
            faulthandler.dump_traceback(file=sys.stderr)

    def beat(what: str) -> None:
        for timer in timers:
            timer.cancel()
        timers[:] = [threading.Timer(seconds, dump, [what])]
        timers[0].daemon = True
        timers[0].start()
        faulthandler.dump_traceback_later(seconds, file=file)

    try:
        beat("the first evaluation")
        yield beat
    finally:
        faulthandler.cancel_dump_traceback_later()
        for timer in timers:
            timer.cancel()
        file.close()
        with suppress(OSError):
            if not path.stat().st_size:
                path.unlink()
