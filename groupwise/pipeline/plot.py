"""The picture of a pipeline: what the base and each stage came to, by each measure. Knows figures only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groupwise.pipeline.plan import Plan
from groupwise.pipeline.table import Column, Row, columns
from groupwise.statistics.intervals import figure_in
from groupwise.statistics.plot import COLOURS, MARKS


def draw(plan: Plan, rows: Sequence[Row], file: Path) -> bool:
    """Draws for each measure the shares (right with its interval) and the mean length, from stage to stage.

    False, and no picture, without matplotlib or where nothing was measured.
    """
    measures = {name: [row for row in rows if name in row.measured] for name in plan.measures}
    measures = {name: found for name, found in measures.items() if found}
    if not measures:
        return False
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")  # a file needs no screen
    from matplotlib import pyplot
    from matplotlib.ticker import PercentFormatter

    size = (11, 3.8 * len(measures))
    figure, grid = pyplot.subplots(len(measures), 2, figsize=size, layout="constrained", squeeze=False)
    for (left, right), (measure, found) in zip(grid, measures.items(), strict=True):
        _draw_shares(left, plan, measure, found)
        left.yaxis.set_major_formatter(PercentFormatter(1))
        left.set(title=f"measured by {measure}", ylim=(-0.02, 1.02))
        right.bar([row.name for row in found], [row.measured[measure]["length"] for row in found], color="0.6")
        right.set(title="mean length of an answer, tokens")
        for axes in (left, right):
            axes.tick_params(axis="x", labelrotation=20)
            axes.grid(color="0.9", axis="y")
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{Path(plan.source).stem}, seed {plan.tree.get('seed', 0)}", fontsize=11)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return True


def _draw_shares(axes: Any, plan: Plan, measure: str, rows: Sequence[Row]) -> None:
    shares = [column for column in columns(plan, measure) if _is_share(column, measure, rows)]
    for number, column in enumerate(shares):
        found = [(row.name, figure_in(row.measured[measure], column.key)) for row in rows]
        found = [(name, figure) for name, figure in found if figure["value"] is not None]
        places, values = [name for name, _ in found], [figure["value"] for _, figure in found]
        mark, colour = MARKS[number % len(MARKS)], COLOURS[number % len(COLOURS)]
        axes.plot(places, values, marker=mark, color=colour, label=column.heading, linewidth=1.6)
        if column.key == "accuracy":
            lows, highs = ([figure[end] for _, figure in found] for end in ("low", "high"))
            axes.vlines(places, lows, highs, color=colour, alpha=0.5)
    axes.legend(frameon=False, fontsize=8)


def _is_share(column: Column, measure: str, rows: Sequence[Row]) -> bool:
    """True if every value is from 0 to 1, as a reward model's need not be."""
    values = [value for row in rows if (value := figure_in(row.measured[measure], column.key)["value"]) is not None]
    return column.key not in ("length", "truncated") and bool(values) and all(0 <= value <= 1 for value in values)
