"""recipes/vision.yaml over seeds, beside the same runs with blank pictures: curves, and ten questions before and after.

    python examples/vision.py --run runs/vision --seeds 3 --plot docs/vision.png --questions docs/vision_questions.png

A pipeline that has finished in the folder is not repeated.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import groupwise
from groupwise.datasets.base import load_questions
from groupwise.statistics.plot import COLOURS
from groupwise.statistics.seeds import mean_over_seeds

RECIPE = Path(__file__).parents[1] / "recipes" / "vision.yaml"
STAGES = ("start.examples.params.questions", "learned.questions")
KINDS: Mapping[str, list[str]] = {
    "seen": [],
    "blank": [f"stages.{stage}.params.blank=true" for stage in STAGES],
}
FIGURES = {"accuracy": "greedy", "mean@4.value": "sampled"}
CHANCE = (1 / 5 + 1 / 8 + 1 / 2 + 1 / 10) / 4  # of the best answer to each kind of question, whatever the picture


def main() -> None:
    parser = argparse.ArgumentParser(description="recipes/vision.yaml over seeds, with pictures and with blank ones.")
    parser.add_argument("--run", type=Path, default=Path("runs/vision"), help="the folder of all pipelines")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ..; at least 2")
    parser.add_argument("--plot", type=Path, default=Path("vision.png"), help="where the curves go")
    parser.add_argument(
        "--questions", type=Path, default=Path("vision_questions.png"), help="where the ten questions go"
    )
    chosen = parser.parse_args()
    for seed in range(chosen.seeds):
        for kind, overrides in KINDS.items():
            pipeline(chosen.run / f"{kind}-{seed}", [f"seed={seed}", *overrides])
    curves = {kind: [curve(chosen.run / f"{kind}-{seed}") for seed in range(chosen.seeds)] for kind in KINDS}
    for kind, runs in curves.items():
        for figure, name in FIGURES.items():
            before, after = ([run[figure][place] for run in runs] for place in (0, -1))
            print(f"{kind:<6} {name:<8} {interval(before)} -> {interval(after)}")
    plot(curves, chosen.plot)
    draw_questions(chosen.run / "seen-0" / "learned", chosen.questions)


def pipeline(folder: Path, overrides: Sequence[str]) -> None:
    """Runs the pipeline into the folder, or goes on with it, unless it is done."""
    if (folder / "learned" / "summary.json").exists():
        return
    words = ["--run", str(folder), *(["--resume"] if folder.exists() else overrides)]
    subprocess.run([sys.executable, "-m", "groupwise", "pipeline", str(RECIPE), *words], check=True)


def curve(folder: Path) -> dict[str, list[float]]:
    """Steps of the stage of reinforcement, and at each its figures on held-out questions."""
    with groupwise.open_run(folder / "learned") as run:
        rows = sorted(run.evaluations(), key=lambda row: row["step"])
        return {name: [row[name] for row in rows] for name in ("step", *FIGURES)}


def interval(values: Sequence[float]) -> str:
    mean = mean_over_seeds(values, lowest=0, highest=1)
    return f"{mean.value:.1%} ({mean.low:.1%} to {mean.high:.1%})"


def plot(curves: Mapping[str, Sequence[dict[str, list[float]]]], path: Path) -> None:
    """Means over seeds with their 95 % intervals: greedy answers as lines, sampled ones dashed."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for (kind, runs), colour in zip(curves.items(), COLOURS, strict=False):
        for (name, label), style in zip(FIGURES.items(), ("-", "--"), strict=True):
            steps = runs[0]["step"]
            means = [
                mean_over_seeds(values, lowest=0, highest=1) for values in zip(*[r[name] for r in runs], strict=True)
            ]
            axes.plot(steps, [100 * m.value for m in means], style, color=colour, label=f"{kind}, {label}")
            axes.fill_between(
                steps,
                [100 * m.low for m in means],
                [100 * m.high for m in means],
                color=colour,
                alpha=0.12,
                linewidth=0,
            )
    axes.axhline(100 * CHANCE, color="grey", linewidth=0.8, linestyle=":", label="best answer without looking")
    axes.set(xlabel="steps of reinforcement", ylabel="held-out questions right, %", ylim=(0, 100))
    axes.legend(loc="center right", fontsize=8)
    figure.savefig(path, dpi=120)


def draw_questions(folder: Path, path: Path) -> None:
    """Ten held-out questions with their pictures, and the greedy answers before and after reinforcement."""
    import matplotlib.pyplot as plt
    from PIL import Image

    with groupwise.open_run(folder) as run:
        recipe: Any = run.recipe
        answers = {name: greedy(run.answers(name)) for name in ("before", "after")}
    heldout = load_questions(recipe.questions, recipe.seed).heldout[:10]
    figure, axes = plt.subplots(2, 5, figsize=(10, 6.2), layout="constrained")
    for question, place in zip(heldout, axes.flat, strict=True):
        (image,) = question.messages[0].images
        place.imshow(Image.open(BytesIO(image.data or b"")), interpolation="nearest")
        place.set_axis_off()
        before, after = (answers[name][question.id] for name in ("before", "after"))
        asked = question.text.removeprefix("<image>")
        place.set_title(f"{asked}\nright: {question.answer}\nbefore: {before}\nafter: {after}", fontsize=8, loc="left")
    figure.savefig(path, dpi=120)


def greedy(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """By question, the greedy answer."""
    return {row["question"]: row["text"] for row in rows if row["sample"] == -1}


if __name__ == "__main__":
    main()
