"""Between a run and a reward function's process: ends all that the function started when the run ends or asks for it.

The keeper forks the worker and waits. It runs nothing of the user's, so that no regular expression or C code can hold
it up. On Linux it is the subreaper of all descendants: one that calls setsid, or whose parent has ended, is found.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import time

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_PATIENCE = 10.0
"""Seconds to kill what goes on forking."""


def keep(requests: int, replies: int) -> None:
    """Runs groupwise.rewards.worker in a child; ends when it does, as it does, and with everything that it started.

    requests, replies: the worker's ends of its pipes; the parent closing its own end of the first, by dying too, or a
    SIGTERM ends all."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for name in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(name, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        _prctl(_SET_CHILD_SUBREAPER, 1)
    worker = os.fork()
    if worker == 0:
        _become_worker(requests, replies, (woken, wake))
    os.close(replies)
    poll = select.poll()
    poll.register(requests, 0)  # reports the hang-up alone
    poll.register(woken, select.POLLIN)
    status = None
    while status is None:
        events = dict(poll.poll())
        status = _reaped(worker)
        if requests in events or (woken in events and _terminated(woken)):
            break
    _end_all(worker)
    _leave(0 if status is None else status)


def _become_worker(requests: int, replies: int, pipe: tuple[int, int]) -> None:
    signal.set_wakeup_fd(-1)
    for name in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(name, signal.SIG_DFL)
    for end in pipe:
        os.close(end)
    os.setsid()  # a function that signals its own group does not reach the keeper
    if sys.platform == "linux":
        _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    from groupwise.rewards.worker import main

    main(requests, replies)
    os._exit(0)


def _terminated(woken: int) -> bool:
    return signal.SIGTERM in os.read(woken, 4096)


def _reaped(worker: int) -> int | None:
    """The worker's status if it has ended; reaps whatever else has."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found = ended[1] if ended[0] == worker else found
    return found


def _end_all(worker: int) -> None:
    """Kills the worker's group and every descendant, until none is left."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker, signal.SIGKILL)
        for pid in _descendants():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def _descendants() -> list[int]:
    """Processes below this one by /proc; none where there is no such folder."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    found: list[int] = []
    below = {os.getpid()}
    while below:
        below = {pid for pid, parent in parents.items() if parent in below}
        found += below
    return found


def _leave(status: int) -> None:
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
