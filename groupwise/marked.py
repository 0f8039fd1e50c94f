"""Processes known by a variable of their environment, which every process inherits: found, and ended with us.

Run as a program it waits for the end of its standard input, then ends every process with the mark of its argument.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

_PATIENCE = 10.0
"""Seconds to kill what goes on forking."""


def watcher(mark: str) -> "subprocess.Popen[bytes] | None":
    """A process that ends all that have the mark `NAME=value` once its standard input is closed, or we are gone.

    None where there is no /proc to find processes by.
    """
    if sys.platform != "linux":
        return None
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is ours to handle
    )


def end_all(mark: bytes) -> None:
    """Kills every other process with the mark, until none is left."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and (found := marked(mark)):
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def marked(mark: bytes) -> list[int]:
    """Ids of the other processes whose environment has the mark."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:  # a zombie's is empty
                if mark in file.read().split(b"\0"):
                    found.append(int(name))
    return found


if __name__ == "__main__":
    while os.read(0, 1):
        pass
    end_all(sys.argv[1].encode())
