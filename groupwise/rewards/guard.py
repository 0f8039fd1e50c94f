"""Beside a reward function's process: ends all that the function started, once that process or the run is gone.

It runs nothing of the user's, so that no regular expression or C code can hold it up. What belongs to the function is
known by a variable of its environment, which every process inherits: also one that calls setsid or has lost its parent.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
from types import FrameType

from groupwise.marked import end_all

MARK = "GROUPWISE_REWARD"
"""The variable; its value is that of one process of one reward function."""
_SET_PDEATHSIG = 1


class _Ended(Exception):
    """The process that is guarded has ended."""


def start(requests: int, replies: int) -> None:
    """Forks the guard of this process, where there is /proc to find processes by.

    requests, replies: this process's ends of its pipes; the run closing its end of the first ends all."""
    guarded = os.getpid()
    if sys.platform != "linux" or os.fork():
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _raise)
    os.setsid()
    os.close(replies)
    with contextlib.suppress(_Ended):
        ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        poll = select.poll()
        poll.register(requests, 0)  # reports the hang-up alone
        if os.getppid() == guarded:
            poll.poll()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_all(f"{MARK}={os.environ.get(MARK)}".encode())
    os._exit(0)


def _raise(number: int, frame: FrameType | None) -> None:
    raise _Ended
