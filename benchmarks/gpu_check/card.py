"""What the check runs on: card, memory, versions, date, as one JSON line. device: null without an accelerator."""

import json
import os
import platform
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version

import torch


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main(wanted: str) -> None:
    device = None if wanted == "auto" else torch.device(wanted)
    if wanted == "auto" and torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator()
    if device is not None:
        torch.ones(1, device=device).sum().item()
    found = {
        "device": None if device is None else device.type,
        "card": platform.machine() if device is None else device.type,
        "date": date.today().isoformat(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": {name: _version(name) for name in ("torch", "transformers", "numpy", "peft", "pytest", "triton")},
    }
    if device is not None and device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "card": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_bytes": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
