"""The picture of runs side by side: reward and held-out accuracy against outputs sampled. Knows curves only."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from groupwise.statistics.curves import Curves, Point

# Okabe and Ito's palette, which the common forms of colour blindness tell apart; its yellow is too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
STYLES = ("-", "--", ":")
Line = dict[int, list[Point]]
"""The seeds' points by steps done."""


def draw(curves: Mapping[str, Sequence[Curves]], file: Path, *, title: str) -> bool:
    """Draws a line per variant, the mean over its seeds, with a band from the least to the greatest of them.

    Accuracy has its own axes where it was measured during training. False, and no picture, without matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")  # a file needs no screen
    from matplotlib import pyplot
    from matplotlib.ticker import PercentFormatter

    panels = [("mean reward of a step", {name: _line([c.rewards for c in runs]) for name, runs in curves.items()})]
    accuracies = {name: _line([c.accuracies for c in runs]) for name, runs in curves.items()}
    if any(len(line) > 2 for line in accuracies.values()):  # before and after alone are no curve
        panels.append(("held-out questions right, greedy", accuracies))
    figure, grid = pyplot.subplots(
        1, len(panels), figsize=(6.4 * len(panels), 4.6), layout="constrained", squeeze=False
    )
    for axes, (label, lines) in zip(grid[0], panels, strict=True):
        _draw_lines(axes, lines, with_marks=label.startswith("held-out"))
        axes.set(xlabel="outputs sampled in training", ylabel=label)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        if label.startswith("held-out"):
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    handles, names = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 3 * len(panels)), frameon=False)
    figure.suptitle(f"{title}\n{_caption([len(runs) for runs in curves.values()])}", fontsize=10)
    figure.savefig(file, dpi=130)
    pyplot.close(figure)
    return True


def _draw_lines(axes: Any, lines: Mapping[str, Line], *, with_marks: bool) -> None:
    for number, (name, line) in enumerate(lines.items()):
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number // len(COLOURS) % len(STYLES)]
        seeds = [line[steps] for steps in sorted(line)]
        # Where groups are sampled again, seeds reach a step after different numbers of outputs: the mean of both.
        places = [fmean(point.outputs for point in points) for points in seeds]
        means = [fmean(point.value for point in points) for points in seeds]
        marks = {"marker": MARKS[number % len(MARKS)], "markersize": 5} if with_marks else {}
        axes.plot(places, means, style, color=colour, label=name, linewidth=1.8, **marks)
        if any(len(points) > 1 for points in seeds):
            lows, highs = ([end(point.value for point in points) for points in seeds] for end in (min, max))
            axes.fill_between(places, lows, highs, color=colour, alpha=0.12, linewidth=0)
            for edge in (lows, highs):  # bands that overlap can still be told apart
                axes.plot(places, edge, style, color=colour, alpha=0.5, linewidth=0.6)


def _line(runs: Sequence[list[Point]]) -> Line:
    line: Line = {}
    for point in (point for run in runs for point in run):
        line.setdefault(point.steps, []).append(point)
    return line


def _caption(seeds: Sequence[int]) -> str:
    least, most = min(seeds), max(seeds)
    if most == 1:
        return "1 seed each"
    counted = f"{most}" if least == most else f"{least} to {most}"
    return f"line: mean of {counted} seeds; band: from the lowest seed to the highest"
