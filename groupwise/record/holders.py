"""Which other processes hold a file locked, by the kernel's own list (Linux). Knows no records."""

import os
from collections.abc import Sequence
from pathlib import Path


def holders(paths: Sequence[Path]) -> list[str]:
    """`process 123 (python train.py)` for each other process of this machine that locks one of the files.

    Empty where the kernel tells nothing. A container sees only its own processes.
    """
    wanted = set()
    for path in paths:
        try:
            wanted.add(path.stat().st_ino)
        except OSError:
            continue
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:  # 1: POSIX  ADVISORY  WRITE 123 fe:00:456 120 120
        fields = [field for field in line.split() if field != "->"]
        if (
            len(fields) > 5
            and int(fields[5].rpartition(":")[2]) in wanted
            and fields[4] not in ("-1", str(os.getpid()))
        ):
            found.append(f"process {fields[4]}{_command(fields[4])}")
    return list(dict.fromkeys(found))


def _command(pid: str) -> str:
    """What a process was started as, shortened; empty if that cannot be seen."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").replace("\0", " ").strip()
    except OSError:
        return ""
    return f" ({words[:60]})" if words else ""
