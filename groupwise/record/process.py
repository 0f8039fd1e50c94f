"""Which process writes a run, and whether it still lives. Knows nothing of records."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path


def this_process() -> dict[str, str]:
    """What tells this process from any other, also from a later one that is given its number again."""
    return {"pid": str(os.getpid()), "host": socket.gethostname(), "pid_started": _started(os.getpid())}


def is_alive(mark: Mapping[str, str]) -> bool:
    """True if the process of that mark lives, or is on another machine, where nothing can be seen of it."""
    if not mark.get("pid", "").isdigit():
        return False
    if mark.get("host") != socket.gethostname():
        return True
    pid = int(mark["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, as another user's
        pass
    return _started(pid) == mark.get("pid_started")


def _started(pid: int) -> str:
    """Clock ticks from the machine's boot to the start of a process; empty for a zombie or where there is no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return "" if state == "Z" else fields[18]
