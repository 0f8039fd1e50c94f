"""DeepSeek-R1's claims, as far as they can be tried on a model of 135 million weights: the shipped pipelines, per seed.

    python -m benchmarks.reasoner [--seeds 0 1 2] [--only r1_zero r1 distill] [--folder runs/reasoner] [a.b=c ...]

Each pipeline has a folder for each seed and is taken up where it stopped, so that an hour can be spent now and another
one tomorrow. It prints each stage's table, mean over the seeds, and the claims with every seed's figures, and writes
results/reasoner.json from all seeds that are finished in the folder.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.machine import machine
from groupwise.markdown import table
from groupwise.record import open_record
from groupwise.statistics.seeds import Mean, mean_over_seeds

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "reasoner.json"
PIPELINES = ("r1_zero", "r1", "distill")
COLUMNS = ("accuracy", "format", "reward/english", "mean@4", "maj@4", "pass@4", "length")
FIRST_STEPS = 10
"""Steps of reinforcement over whose training accuracy the cold start's head start is told."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("overrides", nargs="*", metavar="a.b=c")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=PIPELINES, default=list(PIPELINES))
    parser.add_argument("--folder", type=Path, default=Path("runs") / "reasoner")
    words = parser.parse_args()
    for seed in words.seeds:
        for name in words.only:
            run(name, seed, words.folder, words.overrides)
    rows = [row for name in PIPELINES for row in found(words.folder, name)]
    RESULTS.write_text(json.dumps({"machine": machine({}), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print("\n\n".join([*tables(rows), claims(rows)]))


def run(name: str, seed: int, folder: Path, overrides: list[str]) -> None:
    """Runs a pipeline, or what is left of it."""
    place = folder / name / f"seed-{seed}"
    resume = ["--resume"] if (place / "pipeline.yaml").exists() else []
    words = [f"recipes/{name}.yaml", f"seed={seed}", *overrides, "--run", str(place.absolute()), *resume]
    done = subprocess.run([sys.executable, "-m", "groupwise", "pipeline", *words], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"{name}, seed {seed}: exit code {done.returncode}")


def found(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """A row for the base and each stage of every finished seed of a pipeline."""
    for place in sorted((folder / name).glob("seed-*")):
        if not (place / "pipeline.json").exists():
            continue  # it has only just begun
        values = json.loads((place / "pipeline.json").read_text(encoding="utf-8"))
        if values["to_do"]:
            continue
        for stage in values["stages"]:
            summary = stage["summary"]
            yield {
                "pipeline": name,
                "seed": int(place.name.removeprefix("seed-")),
                "stage": stage["name"],
                "steps": summary.get("steps"),
                "seconds": summary.get("seconds"),
                "tokens": summary.get("tokens"),
                "training_accuracy": training_accuracy(place / stage["name"]) if stage["stage"] == "rl" else None,
                **{
                    f"{measure}/{key}": value
                    for measure, figures in stage["measured"].items()
                    for key in COLUMNS
                    if (value := plain(figures.get(key))) is not None
                },
            }


def plain(figure: Any) -> float | None:
    return figure["value"] if isinstance(figure, dict) else figure


def training_accuracy(folder: Path) -> list[float | None]:
    """Share of right outputs of each step."""
    record = open_record(folder)
    values = [value for _, name, value in record.metrics() if name == "accuracy"]
    record.close()
    return values


def tables(rows: list[dict[str, Any]]) -> Iterator[str]:
    """For each pipeline and measure the stages' figures, mean over the seeds, accuracy with the least and the most."""
    for name in PIPELINES:
        own = [row for row in rows if row["pipeline"] == name]
        stages, seeds = list(dict.fromkeys(row["stage"] for row in own)), {row["seed"] for row in own}
        for measure in dict.fromkeys(key.partition("/")[0] for row in own for key in row if "/accuracy" in key):
            keys = [f"{measure}/{key}" for key in COLUMNS if any(f"{measure}/{key}" in row for row in own)]
            cells = []
            for stage in stages:
                of_stage = [row for row in own if row["stage"] == stage]
                if any(keys[0] in row for row in of_stage):
                    minutes = fmean((row["seconds"] or 0) / 60 for row in of_stage)
                    cells.append(
                        [stage, f"{minutes:.1f}", *(cell([row.get(key) for row in of_stage], key) for key in keys)]
                    )
            heads = ["after", "minutes", *(key.partition("/")[2] for key in keys)]
            yield f"{name}, {measure}, seeds {', '.join(map(str, sorted(seeds)))}:\n\n{table(heads, cells)}"


def cell(values: list[float | None], key: str) -> str:
    present = [value for value in values if value is not None]
    if not present:
        return "-"
    form = ("{:.1f}" if key.endswith("length") else "{:.1%}").format
    several = key.endswith("accuracy") and len(present) > 1
    ends = f" ({form(min(present))} to {form(max(present))})" if several else ""
    return form(fmean(present)) + ends


def claims(rows: list[dict[str, Any]]) -> str:
    """What R1's report says, and the difference found: each seed's, their mean, the 95 % interval by Student's t."""

    def at(pipeline: str, stage: str, key: str) -> Callable[[int], float | None]:
        chosen = {r["seed"]: r.get(key) for r in rows if (r["pipeline"], r["stage"]) == (pipeline, stage)}
        return chosen.get

    def first(pipeline: str) -> Callable[[int], float | None]:
        curve = at(pipeline, "reasoning", "training_accuracy")
        return lambda seed: fmean(found[:FIRST_STEPS]) if (found := curve(seed)) else None

    right, english, form = "reasoning/accuracy", "reasoning/reward/english", "reasoning/format"
    sentence = (
        ("reinforcement alone raises accuracy", at("r1_zero", "reasoning", right), at("r1_zero", "base", right)),
        (
            "reinforcement alone raises the mean of 4 samples",
            *(at("r1_zero", stage, "reasoning/mean@4") for stage in ("reasoning", "base")),
        ),
        ("a cold start: well formed after it", at("r1", "cold_start", form), at("r1", "base", form)),
        ("a cold start: well formed after RL", at("r1", "reasoning", form), at("r1_zero", "reasoning", form)),
        ("a cold start: English after RL", at("r1", "reasoning", english), at("r1_zero", "reasoning", english)),
        (f"a cold start: right in RL's first {FIRST_STEPS} steps", first("r1"), first("r1_zero")),
        ("a cold start: right after RL", at("r1", "reasoning", right), at("r1_zero", "reasoning", right)),
        ("after stage 3: other abilities", at("r1", "taught", "other/accuracy"), at("r1", "base", "other/accuracy")),
        (
            "after stage 4: other abilities",
            at("r1", "all_scenarios", "other/accuracy"),
            at("r1", "base", "other/accuracy"),
        ),
        ("after stage 4 over stage 2: right", at("r1", "all_scenarios", right), at("r1", "reasoning", right)),
        (
            "majority of 4 over the mean of 4, after stage 2",
            *(at("r1", "reasoning", f"reasoning/{key}@4") for key in ("maj", "mean")),
        ),
        ("a student: taught over RL of its own", at("distill", "taught", right), at("distill", "by_itself", right)),
        ("a student: RL of its own over none", at("distill", "by_itself", right), at("distill", "student", right)),
    )
    seeds = sorted({row["seed"] for row in rows})
    cells = []
    for claim, after, before in sentence:
        pairs = [(a, b) for seed in seeds if (a := after(seed)) is not None and (b := before(seed)) is not None]
        if pairs:
            each = ", ".join(f"{b:.1%} → {a:.1%}" for a, b in pairs)
            cells.append([claim, each, points(mean_over_seeds([a - b for a, b in pairs]))])
    return table(["claim", "each seed", "difference, points (95 %)"], cells)


def points(mean: Mean) -> str:
    if mean.value is None:
        return "-"
    ends = "" if mean.low is None or mean.high is None else f" ({100 * mean.low:+.1f} to {100 * mean.high:+.1f})"
    return f"{100 * mean.value:+.1f}{ends or ' (1 seed)'}"


if __name__ == "__main__":
    main()
