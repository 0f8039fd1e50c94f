"""The checkpoints of a run: the newest that is sound, and the best. Knows no model."""

import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from groupwise.atomic import write_whole
from groupwise.errors import CheckpointError
from groupwise.model.checkpoint import check_checkpoint, checkpoint_folder, latest_checkpoint, load_state

BEST = "best.json"
DAMAGED_NAME = "damaged-"


@dataclass(frozen=True)
class Best:
    """Which checkpoint is the best so far: after how many steps, by which figure, and its value."""

    step: int
    metric: str
    value: float


def sound_checkpoint(run_dir: Path, *, set_aside: bool = False) -> Path | None:
    """The newest checkpoint of a run whose every file is what was saved; None if none was ever saved.

    Names each damaged one on stderr and goes on to the one before. set_aside: gives them another name, so that they
    are neither kept in place of sound ones nor taken for saved. Raises CheckpointError if none is sound.
    """
    latest_checkpoint(run_dir)  # clears away what a killed save has left, and puts back what it had moved aside
    found = _found(run_dir)
    damaged: list[CheckpointError] = []
    for folder in reversed(found):
        try:
            check_checkpoint(folder)
            load_state(folder)
        except CheckpointError as error:
            damaged.append(error)
            continue
        for found_so in damaged:
            print(f"damaged checkpoint left out: {found_so.message}; using {folder}", file=sys.stderr)
        if set_aside:
            for other in found[len(found) - len(damaged) :]:
                other.rename(_free_name(other))
        return folder
    if not damaged:
        return None
    raise CheckpointError(
        f"{damaged[0].message}; none of the {len(damaged)} checkpoint(s) in {run_dir / 'checkpoints'} is whole",
        hint="restore a whole one, or start a new run",
    )


def best_checkpoint(run_dir: Path) -> Path | None:
    """The checkpoint that `run.keep_best` has kept; None if there is none."""
    best = best_of(run_dir)
    folder = None if best is None else checkpoint_folder(run_dir, best.step)
    return folder if folder is not None and folder.is_dir() else None


def best_of(run_dir: Path) -> Best | None:
    """What is known of the best checkpoint; None if none was kept, or the file that says so is damaged."""
    try:
        content = json.loads((run_dir / "checkpoints" / BEST).read_text(encoding="utf-8"))
        return Best(int(content["step"]), str(content["metric"]), float(content["value"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def mark_best(run_dir: Path, best: Best) -> None:
    """Says which checkpoint is the best; it must be there already."""
    write_whole(run_dir / "checkpoints" / BEST, json.dumps(asdict(best)) + "\n")


def _found(run_dir: Path) -> list[Path]:
    """Every folder that a checkpoint's name stands on, oldest first, whole or not."""
    folders = (run_dir / "checkpoints").glob("step-*")
    named = [(re.fullmatch(r"step-(\d+)", folder.name), folder) for folder in folders]
    return [folder for _, folder in sorted((int(match[1]), folder) for match, folder in named if match)]


def _free_name(folder: Path) -> Path:
    names = (folder.with_name(f"{DAMAGED_NAME}{folder.name}{end}") for end in ("", *(f"-{n}" for n in range(1, 1000))))
    return next(name for name in names if not name.exists())
