"""Everything that needs a GPU, checked by one command in under nine minutes, without a package index.

    python -m benchmarks.gpu_check                        # the accelerator here; without one it says so and exits 0
    python -m benchmarks.gpu_check --device cpu --tiny    # every part at its smallest size: does the check itself run?

Each part is a process with its own time limit. A part that fails is recorded and the next one runs; the results are
written after each part.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from benchmarks.gpu_check.parts import PARTS, Part, Settings

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {"torch": "torch", "transformers": "transformers", "numpy": "numpy", "safetensors": "safetensors",
          "pydantic": "pydantic", "yaml": "PyYAML", "typer": "typer", "rich": "rich", "jinja2": "Jinja2"}  # fmt: skip
"""Module and package: without one of these no part runs."""
MINUTES = 8.8  # together; under nine with the script's own start
ON_A_CPU = 10  # times as long: nothing is lent there, and the machine may be busy
LAST_LINES = 12  # of a part's output, kept in the results


def main() -> None:
    arguments = _arguments()
    if arguments.wheels:
        _use_wheels(Path(arguments.wheels))
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        sys.exit(
            f"missing in {sys.executable}: {', '.join(missing)}; gather wheels (make gpu-wheels), add --wheels DIR"
        )
    machine = _machine(arguments.device)
    if machine["device"] is None:
        print("no accelerator here: nothing checked (to try the check itself: --device cpu --tiny)")
        return
    only = arguments.only.split(",") if arguments.only else [part.name for part in PARTS]
    if unknown := sorted(set(only) - {part.name for part in PARTS}):
        sys.exit(f"--only: {', '.join(unknown)} is not one of {', '.join(part.name for part in PARTS)}")
    on_gpu = machine["device"] != "cpu"
    folder = Path(arguments.out or ROOT / ("benchmarks/results" if on_gpu else "build/gpu-check"))
    results = Results(folder, machine | {"tiny": arguments.tiny})
    patience = 1 if on_gpu else ON_A_CPU
    deadline = time.monotonic() + 60 * arguments.minutes * patience
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(machine["device"], arguments.tiny, Path(scratch))
        for part in PARTS:
            if part.name in only:
                results.add(_ran(part, settings, seconds=min(part.seconds * patience, deadline - time.monotonic())))
    sys.exit(results.summed_up())


class Results:
    """The JSON file and the log beside it, whole after each part."""

    def __init__(self, folder: Path, machine: dict) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        card = re.sub(r"\W+", "-", str(machine["card"])).strip("-").lower()
        self._json = folder / f"gpu_check-{card}-{machine['date']}.json"
        self._log = self._json.with_suffix(".log")
        self._log.write_text("")
        self._held = machine | {"parts": []}
        print(f"{machine['card']}, torch {machine['versions']['torch']}; results in {self._json}", flush=True)

    def add(self, done: dict) -> None:
        output = done.pop("output")
        self._held["parts"].append(done)
        partial = self._json.with_suffix(".partial")
        partial.write_text(json.dumps(self._held, indent=1) + "\n")
        partial.replace(self._json)
        with self._log.open("a") as log:
            log.write(f"===== {done['name']}: {done['state']}, {done['seconds']} s\n$ {done['command']}\n{output}\n")
        print(f"{done['name']:<12} {done['state']:<10} {done['seconds']:>6} s  {_shown(done)}", flush=True)

    def summed_up(self) -> int:
        """0 if no part failed, else 1; says how many did."""
        states = [part["state"] for part in self._held["parts"]]
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        print(", ".join(f"{count} {state}" for state, count in counts.items()))
        return int(any(state in ("failed", "over time") for state in states))


def _ran(part: Part, settings: Settings, *, seconds: float) -> dict:
    """A part run in its own process: its name, state, seconds, figures (the JSON lines that it printed) and output."""
    done = {"name": part.name, "state": "left out", "seconds": 0, "command": "", "figures": [], "said": ""}
    if why := part.impossible(settings):
        return done | {"said": why, "output": why}
    if seconds < 5:
        return done | {"said": "no time left", "output": ""}
    command = [sys.executable, "-u", *part.words(settings)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                                "HF_HUB_OFFLINE": "1", "GROUPWISE_CACHE": str(settings.scratch / "models")}  # fmt: skip
    started = time.monotonic()
    try:
        ran = subprocess.run(
            command, cwd=ROOT, env=environment, text=True, timeout=seconds, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output, state = ran.stdout, "passed" if ran.returncode == 0 else "failed"
    except subprocess.TimeoutExpired as late:
        output = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
        state = "over time"
    lines = output.splitlines()
    return done | {
        "state": state,
        "seconds": round(time.monotonic() - started, 1),
        "command": " ".join(["python", *command[1:]]),
        "figures": [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")],
        "said": "" if state == "passed" else "\n".join(lines[-LAST_LINES:]),
        "output": output,
    }


def _shown(done: dict) -> str:
    """The last figures, or the last line of what a part said."""
    if done["state"] == "passed":
        return ", ".join(f"{name} {value}" for name, value in (done["figures"] or [{}])[-1].items())[:160]
    return done["said"].splitlines()[-1] if done["said"] else ""


def _machine(wanted: str) -> dict:
    """Card, date, versions; asked of another process, so that this one holds no memory of the card."""
    command = [sys.executable, "-m", "benchmarks.gpu_check.card", wanted]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"--device {wanted}: not to be had here")
    return json.loads(done.stdout.splitlines()[-1])


def _use_wheels(folder: Path) -> None:
    """Installs the wheels of a folder beside everything else for this check alone; no index is asked."""
    wheels = sorted(str(path) for path in folder.glob("*.whl"))
    if not wheels:
        sys.exit(f"--wheels {folder}: no wheels there")
    place = tempfile.mkdtemp(prefix="groupwise-wheels-")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    if subprocess.run([*pip, "--target", place, *wheels]).returncode:
        sys.exit(f"--wheels {folder}: not installed")
    sys.path.insert(0, place)
    os.environ["PYTHONPATH"] = os.pathsep.join([place, os.environ.get("PYTHONPATH", "")])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto", help="auto: the accelerator; cpu: to try the check itself")
    parser.add_argument("--tiny", action="store_true", help="every part at its smallest size")
    parser.add_argument("--only", default="", help=f"parts, separated by commas: {','.join(p.name for p in PARTS)}")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all parts together")
    parser.add_argument("--out", help="folder of the results; default: benchmarks/results, on a CPU build/gpu-check")
    parser.add_argument("--wheels", help="folder of wheels that this machine lacks (make gpu-wheels)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
