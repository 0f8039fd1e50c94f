"""What a measured script says of itself: seconds, CPU seconds, peak memory, as one JSON line. Linux; no torch."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.workload import Case

_TICKS = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM, _STARTED = 11, 12, 19  # places in /proc/PID/stat behind the command's name (proc(5): 14, 15, 22)


def since_start() -> float:
    """Seconds since the kernel started this process, imports included."""
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - int(_stat(os.getpid())[_STARTED]) / _TICKS


def cpu_seconds() -> float:
    """User and system seconds of this process and of the living ones below it."""
    stats = (_stat(pid) for pid in _tree(os.getpid()))
    return sum(int(stat[_USER]) + int(stat[_SYSTEM]) for stat in stats) / _TICKS


def peak_rss_bytes() -> int:
    """Most memory held so far, summed over this process and those below it.

    The kernel's own mark (VmHWM), not getrusage's, which a process inherits from the one that started it. With several
    processes the sum counts what they share once for each, and their peaks as if at one moment.
    """
    return sum(_high_water(pid) for pid in _tree(os.getpid()))


class Clock:
    """Wall and CPU seconds from one moment on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), cpu_seconds()

    @property
    def wall(self) -> float:
        return time.perf_counter() - self._wall

    @property
    def cpu(self) -> float:
        return cpu_seconds() - self._cpu


def print_row(
    system: str,
    case: Case,
    *,
    threads: int,
    startup_s: float,
    sample_s: float,
    wall_s: float,
    cpu_s: float,
    update_s: float | None,
    peak_bytes: int | None = None,
) -> None:
    """One line of JSON on stdout, for the driver to read. peak_bytes: of a device's memory, in place of the host's."""
    row = {
        "system": system,
        "case": case.name,
        "prompt_tokens": case.prompt_tokens,
        "beta": case.beta,
        "threads": threads,
        "sample_s": round(sample_s, 3),
        "update_s": None if update_s is None else round(update_s, 3),
        "wall_s": round(wall_s, 3),
        "cpu_s": round(cpu_s, 2),
        "tokens_per_s": round(case.sampled_tokens / sample_s, 1),
        "peak_rss_bytes": peak_rss_bytes() if peak_bytes is None else peak_bytes,
        "startup_s": round(startup_s, 2),
    }
    print(json.dumps(row), flush=True)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from _tree(int(child))


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _high_water(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
