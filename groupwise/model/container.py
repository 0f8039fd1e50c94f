"""The limits of this process's container, as its control groups tell them: version 2, and version 1 where that is used.

A limit may stand on any group above the process's own, so all are read, up to the one at the mount.
"""

from collections.abc import Iterator
from pathlib import Path

CGROUP, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def groups(controller: str, root: Path = CGROUP, own: Path = OWN_GROUPS) -> Iterator[Path]:
    """Folders of the process's control group and of those above it that can be seen here, the innermost first.

    controller: of version 1 (cpu, memory), whose groups lie in a folder of that name; version 2 has one tree.
    """
    for tree, path in ((root, _path(own, "")), (root / controller, _path(own, controller))):
        # inside a container the path may be the host's, which is not there: then the mount itself is the group
        place = tree / path.lstrip("/")
        while place != tree:
            if place.is_dir():
                yield place
            place = place.parent
        yield tree


def _path(own: Path, controller: str) -> str:
    """The process's group in the tree of a controller; "" is version 2's. Lines are `number:controllers:path`."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return "/"
    paths = [line[2] for line in lines if len(line) == 3 and controller in line[1].split(",") and ".." not in line[2]]
    return paths[0] if paths else "/"


def free_memory(root: Path = CGROUP, own: Path = OWN_GROUPS) -> int | None:
    """Bytes that the process may still take by the tightest of these limits; None if there is none.

    Pages of files that the kernel may drop count as free.
    """
    found = []
    for folder in groups("memory", root, own):
        for most, used, dropped in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.high", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, taken = _number(folder / most), _number(folder / used)
            if limit is not None and taken is not None and limit < 2**60:  # version 1 writes 2^63 for no limit
                found.append(max(0, limit - taken + _field(folder / "memory.stat", dropped)))
    return min(found, default=None)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # "max": no limit
        return None


def _field(file: Path, name: str) -> int:
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
        return next((int(line[1]) for line in lines if len(line) == 2 and line[0] == name), 0)
    except (OSError, ValueError):
        return 0
