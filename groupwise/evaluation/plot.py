"""The picture of accuracy against sampled tokens, a line for each way to answer. Knows points only."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groupwise.statistics.plot import COLOURS, MARKS


def draw(points: Sequence[Mapping[str, Any]], file: Path, *, title: str) -> bool:
    """Draws the points of `groupwise.evaluation.curve.curve`. False, and no picture, without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")  # a file needs no screen
    from matplotlib import pyplot
    from matplotlib.ticker import PercentFormatter

    figure, axes = pyplot.subplots(figsize=(7.0, 4.6), layout="constrained")
    methods = list(dict.fromkeys(point["method"] for point in points))
    for number, method in enumerate(methods):
        own = [point for point in points if point["method"] == method]
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        tokens, values = [point["tokens"] for point in own], [point["value"] for point in own]
        axes.plot(tokens, values, color=colour, marker=mark, label=method, linewidth=1.6, markersize=5)
        axes.vlines(tokens, [p["low"] for p in own], [p["high"] for p in own], color=colour, alpha=0.35)
        for point in own[1:]:
            axes.annotate(
                str(point["n"]), (point["tokens"], point["value"]), (3, 4), textcoords="offset points", size=7
            )
    axes.set(xlabel="tokens sampled for an answer, mean", ylabel="right")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(methods), frameon=False)
    figure.suptitle(f"{title}\nnumbers: samples or simulations; lines: 95 % intervals", fontsize=9)
    figure.savefig(file, dpi=130)
    pyplot.close(figure)
    return True
