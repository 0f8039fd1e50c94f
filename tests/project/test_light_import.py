"""What does not train does not load torch; and help comes at once."""

import json
import os
import resource
import subprocess
import sys

from tests.project.layers import TORCH_ALLOWED
from tests.project.sources import ROOT, package_sources

HEAVY = ("torch", "transformers", "pydantic")
LIGHT_PARTS = (
    "config",
    "statistics",
    "strict_json",
    "rewards",
    "datasets",
    "envs",
    "agents",
    "sandbox",
    "record",
    "selection",
    "audit",
    "dashboard",
    "cli",
)
LIGHT_MODULES = sorted(
    module
    for module in package_sources()
    if module.partition(".")[2].split(".")[0] in LIGHT_PARTS and module not in TORCH_ALLOWED
)
HELP_SECONDS = 0.3


def loaded_by(*modules: str) -> list[str]:
    """Which of the heavy libraries a new interpreter holds after importing these modules."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_groupwise_loads_nothing_heavy():
    assert loaded_by("groupwise") == []


def test_importing_what_does_not_train_loads_no_torch():
    assert "torch" not in loaded_by(*LIGHT_MODULES), f"one of {', '.join(LIGHT_MODULES)} loads torch"


def test_the_check_sees_a_heavy_import():
    assert loaded_by("pydantic") == ["pydantic"]


def test_help_takes_less_than_0_3_seconds_of_cpu():
    command = [sys.executable, "-c", "from groupwise.cli.main import main; main()", "--help"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # as a user has it: compiled once, then read
    seconds = []
    for _ in range(5):  # CPU time, and the least of five: wall time tells of what else the machine does
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime)
        assert done.returncode == 0, done.stderr
    assert min(seconds) < HELP_SECONDS, f"--help took {[round(s, 2) for s in seconds]} s of CPU"
