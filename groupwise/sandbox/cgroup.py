"""Memory control groups, where this user may make some: RLIMIT_AS binds one process's addresses, these its pages."""

import os
from contextlib import suppress
from pathlib import Path

from groupwise.sandbox.base import MIB

_SLACK = 96 * MIB
"""For the launcher, which is in the group, and for what the kernel holds for its programs."""
_TASKS = 256
_PREFIX = "groupwise-sandbox-"


def made(number: int, memory_mb: int) -> list[str]:
    """Folders of new groups with that limit, for this process's launcher of that number to join; [] where none can be.

    Groups that earlier processes left empty are removed."""
    name = f"{os.getpid()}-{number}"
    found = []
    for parent, memory, tasks in _parents():
        with suppress(OSError):
            for old in parent.glob(f"{_PREFIX}*"):
                maker = old.name.removeprefix(_PREFIX).partition("-")[0]
                if not Path("/proc", maker).exists():
                    with suppress(OSError):
                        old.rmdir()  # refused while it has processes
            folder = parent / f"{_PREFIX}{name}"
            folder.mkdir()
            found.append(str(folder))
            for file, value in ((memory, memory_mb * MIB + _SLACK), ("memory.swap.max", 0), (tasks, _TASKS)):
                if (folder / file).exists():
                    (folder / file).write_text(str(value))
    return found


def remove(folders: list[str]) -> None:
    """Removes groups whose processes have ended."""
    for folder in folders:
        with suppress(OSError):
            os.rmdir(folder)


def _parents() -> list[tuple[Path, str, str]]:
    """Folders in which a group may be made, with the names of the files that hold its limits."""
    rows = []
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if not controllers:
                own = Path("/sys/fs/cgroup") / place.lstrip("/")
                # beside ours: below it processes may not be, since it has some itself
                if (own / "memory.max").exists() and own != Path("/sys/fs/cgroup"):
                    rows.append((own.parent, "memory.max", "pids.max"))
            elif controllers in ("memory", "pids"):
                rows.append(
                    (Path("/sys/fs/cgroup") / controllers / place.lstrip("/"), "memory.limit_in_bytes", "pids.max")
                )
    return [row for row in rows if os.access(row[0], os.W_OK)]
