"""Every preset's recipe, run to its end: does a model made on the spot learn under it, and in how long?

    python -m benchmarks.learning [--seeds 0 1 2] [--only grpo rloo]

The recipes of recipes/presets: two layers from random weights, the digit that comes next, 30 held-out questions. For
`distill` a teacher is trained first, by recipes/tiny.yaml. Each run has a process of its own. It prints a table, writes
results/learning.json, and ends with 1 if a preset's mean is less than LEARNED above where it began.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.machine import machine
from groupwise.registry import PRESETS

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "learning.json"
LEARNED = 0.3
"""Share of right answers, greedy, that a preset is to gain, mean over the seeds; a random digit is right in 0.1."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=list(PRESETS), default=list(PRESETS))
    words = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for preset in words.only:
            for seed in words.seeds:
                rows.append(run(preset, seed, Path(folder)))
                print(line(preset, [rows[-1]]), flush=True)
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []
    new = {(row["preset"], row["seed"]) for row in rows}
    rows = [row for row in kept if (row["preset"], row["seed"]) not in new] + rows
    RESULTS.write_text(json.dumps({"machine": machine({}), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print("\n| preset | seeds | right before | right after | reward at the end | seconds of training |")
    print("|---|---|---|---|---|---|")
    short = []
    for preset in words.only:
        own = [row for row in rows if row["preset"] == preset]
        print(line(preset, own))
        if fmean(row["after"] - row["before"] for row in own) < LEARNED:
            short.append(preset)
    if short:
        sys.exit(f"did not learn: {', '.join(short)}")


def run(preset: str, seed: int, folder: Path) -> dict[str, Any]:
    """What became of one run of a preset's recipe."""
    more = []
    if preset == "distill":
        teacher = folder / f"teacher-{seed}"
        if not teacher.exists():
            train("recipes/tiny.yaml", teacher, f"seed={seed}")
        more = [f"teacher.path={teacher}/checkpoints/step-000200"]
    summary = train(f"recipes/presets/{preset}.yaml", folder / f"{preset}-{seed}", f"seed={seed}", *more)
    return {
        "preset": preset,
        "seed": seed,
        "before": summary["before"]["accuracy"],
        "after": summary["after"]["accuracy"],
        "reward_at_the_end": last_rewards(folder / f"{preset}-{seed}"),
        "steps": summary["steps"],
        "tokens": summary["tokens"],
        "seconds": summary["seconds"],
    }


def train(recipe: str, folder: Path, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "groupwise", "train", recipe, *more, "--run", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return found


def last_rewards(folder: Path) -> float:
    """Mean reward of the last tenth of the steps."""
    from groupwise.record import open_record

    record = open_record(folder)
    rewards = [value for _, name, value in record.metrics() if name == "reward/mean"]
    record.close()
    return fmean(rewards[-max(1, len(rewards) // 10) :])


def line(preset: str, rows: list[dict[str, Any]]) -> str:
    """A preset's row of the table: mean over its seeds, with the least and the most."""
    after = [row["after"] for row in rows]
    spread = f" ({min(after):.0%} to {max(after):.0%})" if len(rows) > 1 else ""
    means = {key: fmean(row[key] for row in rows) for key in ("before", "after", "reward_at_the_end", "seconds")}
    return (
        f"| `{preset}` | {len(rows)} | {means['before']:.0%} | {means['after']:.0%}{spread} "
        f"| {means['reward_at_the_end']:.2f} | {means['seconds']:.0f} |"
    )


if __name__ == "__main__":
    main()
