"""As many threads as the process may use: a container's share, where PyTorch would count the machine's cores."""

import math
import os
from pathlib import Path

import torch

from groupwise.model.container import CGROUP, OWN_GROUPS, groups


def use_own_cores() -> int:
    """Lowers PyTorch's threads to the cores that this process may use, unless OMP_NUM_THREADS says how many; returns
    the number in use. Threads beyond the share are stopped by the kernel while the others wait for them."""
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > own_cores():
        torch.set_num_threads(own_cores())
    return torch.get_num_threads()


def own_cores(cgroup: Path = CGROUP, own: Path = OWN_GROUPS) -> int:
    """Cores that this process may use: its affinity, and the tightest limit of its container's control groups."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [
        limit for folder in groups("cpu", cgroup, own) for limit in (_limit_v2(folder), _limit_v1(folder)) if limit
    ]
    return max(1, min([allowed, *map(math.ceil, limits)]))


def _limit_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max": no limit
        return None


def _limit_v1(folder: Path) -> float | None:
    try:
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
