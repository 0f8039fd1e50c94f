"""The README's picture: seconds of one GRPO step, groupwise and TRL, from benchmarks/results/step.json alone.

    python -m benchmarks.picture --out docs/step.svg

Needs matplotlib (the extra `plot`).
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.table import medians

CASES = (("fixed", 100), ("fixed", 512), ("real", 100), ("real", 512))
NAMED = {"fixed": "128-token answers", "real": "57-token answers on average"}
SYSTEMS = {"groupwise": "groupwise", "trl": "TRL 1.16"}
COLOURS = {"sample_s": ("#56B4E9", "sampling"), "update_s": ("#0072B2", "update")}
"""Okabe and Ito's, which the common forms of colour blindness tell apart."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/step.json"))
    parser.add_argument("--out", type=Path, default=Path("docs/step.svg"))
    arguments = parser.parse_args()
    draw(json.loads(arguments.results.read_text(encoding="utf-8")), arguments.out)


def draw(results: dict[str, Any], file: Path) -> None:
    """Two bars for each case, sampling and update behind each other, with the seconds of the whole."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "step", "font.size": 9}  # the same file from the same figures
    from matplotlib import pyplot

    measured = medians([row for row in results["rows"] if not row.get("error")])
    figure, axes = pyplot.subplots(figsize=(7.6, 3.3), layout="constrained")
    places, names = [], []
    for number, (case, prompt) in enumerate(CASES):
        for offset, (system, name) in enumerate(SYSTEMS.items()):
            row = measured[system, case, prompt, 0.0, 2]
            place, left = -(number * 2.6 + offset), 0.0
            for part, (colour, label) in COLOURS.items():
                first = number == 0 and offset == 0
                axes.barh(place, row[part], left=left, height=0.85, color=colour, label=label if first else None)
                left += row[part]
            axes.text(left + 4, place, f"{left:.0f} s", va="center", fontweight="bold" if offset == 0 else "normal")
            places.append(place)
            names.append(name)
        axes.text(575, -(number * 2.6 + 0.5), f"{prompt}-token questions,\n{NAMED[case]}", ha="right", va="center")
    axes.set_yticks(places, names)
    axes.set(xlabel="seconds per GRPO step", xlim=(0, 580), xticks=range(0, 401, 100))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.3, 1.12), ncols=2)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
