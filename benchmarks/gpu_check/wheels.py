"""Gathers wheels for a machine with a GPU that reaches no package index: of what groupwise needs, what it lacks.

    python3 -m pip list --format=freeze > there.txt                        # on that machine
    python -m benchmarks.gpu_check.wheels --have there.txt --python 3.12   # here; into build/gpu-wheels
    python -m benchmarks.gpu_check --wheels build/gpu-wheels               # on that machine

torch and what it needs are taken to be there in any case, without --have transformers too. Versions are those of
constraints.txt. A version of a package that is there may be too old for what is gathered; pip is asked nothing of it.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEBIBYTES = 64
THERE = ("torch", "transformers", "numpy")
PLATFORMS = [f"manylinux_2_{number}_x86_64" for number in range(39, 4, -1)] + ["manylinux2014_x86_64"]


def main() -> None:
    arguments = _arguments()
    folder = Path(arguments.into)
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["lora"], "pytest", "pytest-timeout"]
    wanted.append("hypothesis")
    needed = _resolved(wanted, arguments.python)
    listed = names(Path(arguments.have).read_text()) if arguments.have else set()
    have = listed | {_plain(name) for name, _ in _resolved(["torch"] if listed else list(THERE), arguments.python)}
    chosen = lacking(needed, have)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if chosen:
        wheels = [f"{name}=={version}" for name, version in chosen]
        _pip("download", "--no-deps", *_target(arguments.python), "--dest", str(folder), *wheels)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    print(f"{len(chosen)} wheels, {size:.1f} MiB, in {folder}: {', '.join(name for name, _ in chosen)}")
    if size > MEBIBYTES:
        sys.exit(f"that is more than {MEBIBYTES} MiB: name what is there already with --have")


def names(freeze: str) -> set[str]:
    """Packages of `pip list --format=freeze` or `pip freeze`, in their plain form."""
    found = (re.match(r"([A-Za-z0-9][\w.-]*?)\s*(==|@|$)", line.strip()) for line in freeze.splitlines())
    return {_plain(match[1]) for match in found if match}


def lacking(needed: Iterable[tuple[str, str]], have: set[str]) -> list[tuple[str, str]]:
    """(name, version) of what is needed and not there."""
    return [(name, version) for name, version in needed if _plain(name) not in have]


def _resolved(wanted: list[str], python: str) -> list[tuple[str, str]]:
    """What pip would install for these requirements on the other machine: (name, version)."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.json"
        _pip("install", "--dry-run", "--report", str(report), "--target", place, *_target(python), *wanted)
        found = json.loads(report.read_text())["install"]
    return [(item["metadata"]["name"], item["metadata"]["version"]) for item in found]


def _target(python: str) -> list[str]:
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    return ["--only-binary=:all:", "--python-version", python, "--implementation", "cp", *platforms]


def _pip(verb: str, *words: str) -> None:
    command = [sys.executable, "-m", "pip", verb, "--quiet", "--disable-pip-version-check"]
    constraints = ["-c", str(ROOT / "constraints.txt")]
    if subprocess.run([*command, *constraints, *words]).returncode:
        sys.exit(f"pip {verb} failed")


def _plain(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--have", help="file with that machine's `pip list --format=freeze`")
    parser.add_argument("--python", default="3.12", help="that machine's Python")
    parser.add_argument("--into", default="build/gpu-wheels")
    return parser.parse_args()


if __name__ == "__main__":
    main()
