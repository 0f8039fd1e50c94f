"""Memory that a device has left for this process: its own, the container's share of it, a limit on the process."""

from pathlib import Path

import torch

from groupwise.model.container import free_memory

MEMINFO = Path("/proc/meminfo")


def free_bytes(device: torch.device) -> int | None:
    """Bytes that this process may still take on a device; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        most, taken = torch.mps.recommended_max_memory(), torch.mps.driver_allocated_memory()
        return max(0, int(most) - int(taken))
    if device.type != "cpu":
        return None
    return min(
        (free for free in (_of_the_machine(), free_memory(), _of_the_process()) if free is not None), default=None
    )


def _of_the_machine() -> int | None:
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def _of_the_process() -> int | None:
    """What `ulimit -v` leaves of the address space."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError, ValueError, IndexError):
        return None
    return None if limit == resource.RLIM_INFINITY else max(0, limit - pages * resource.getpagesize())
