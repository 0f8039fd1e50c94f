"""The first hour of a stranger: the wheel in an empty environment, in a folder without the repository.

python -m benchmarks.wheel

Builds the wheel, installs it with the pinned versions of its dependencies, and runs `groupwise init`, `train`, `eval`,
`list` and a shipped recipe by its name. Fails if one does, or if the model is not better afterwards.
"""

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BETTER = 0.3
"""Share of the held-out questions that the tiny model answers rightly at least, after about none before."""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="groupwise wheel ") as place:  # with blanks in it
        wheel = built(Path(place) / "dist")
        environment = Path(place) / "environment"
        venv.create(environment, with_pip=True)
        pip = (environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
        shown(*pip, wheel, "-c", ROOT / "constraints.txt", cwd=Path(place))
        first_hour(environment / "bin" / "groupwise", Path(place) / "a folder")


def built(folder: Path) -> Path:
    """The wheel of this repository."""
    shown(sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--wheel-dir", folder, ROOT, cwd=ROOT)
    [wheel] = folder.glob("*.whl")
    return wheel


def first_hour(groupwise: Path, folder: Path) -> None:
    """What a stranger does first, in a folder of its own. Raises SystemExit if the model is no better afterwards."""
    folder.mkdir()
    shown(groupwise, "init", "mine", cwd=folder)
    shown(groupwise, "train", "mine", "--run", "runs/mine", cwd=folder)
    summary = json.loads((folder / "runs" / "mine" / "summary.json").read_text(encoding="utf-8"))
    before, after = (summary[when]["accuracy"] for when in ("before", "after"))
    if after < BETTER or after <= before:
        sys.exit(
            f"held-out questions right: {before:.0%} before, {after:.0%} after; at least {BETTER:.0%} was expected"
        )
    shown(groupwise, "eval", "runs/mine", cwd=folder)
    shown(groupwise, "list", "recipes", cwd=folder)
    shown(groupwise, "train", "sft", "update.steps=2", cwd=folder)  # by its name, with the examples that it names
    shown(groupwise, "runs", cwd=folder)
    print(f"the wheel works: {before:.0%} -> {after:.0%} of the held-out questions right")


def shown(*words: str | Path, cwd: Path) -> None:
    """Runs a command, which is shown; ends with its exit code if it fails."""
    print("$", *words, flush=True)
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")  # what would bring the repository back
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    code = subprocess.run([str(word) for word in words], cwd=cwd, env=environment).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
