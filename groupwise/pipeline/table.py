"""What a pipeline came to, as plain values for a program and as Markdown for a person. Runs and reads nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groupwise.markdown import table
from groupwise.pipeline.plan import Plan
from groupwise.statistics.intervals import figure_in

Measured = Mapping[str, dict[str, Any]]
"""Figures of an evaluation by the measure's name."""


@dataclass(frozen=True)
class Row:
    """The base or a finished stage. summary: of its run, {} for the base."""

    name: str
    stage: str
    origin: str
    summary: dict[str, Any]
    measured: Measured


@dataclass(frozen=True)
class Column:
    """A figure of an evaluation: its heading, its key, and how it is written."""

    heading: str
    key: str
    form: str = "{:.1%}"


def columns(plan: Plan, measure: str) -> list[Column]:
    """The figures that a measure's table shows: right, well formed, each other reward, samples', length, cut."""
    recipe = plan.measures[measure]
    samples, known = recipe.evaluate.samples, (recipe.correct_label, recipe.evaluate.format)
    found = [Column("right (95 %)", "accuracy")]
    if known[1] is not None:
        found.append(Column(known[1], "format"))
    found += [Column(r.label, f"reward/{r.label}", "{:.2f}") for r in recipe.rewards if r.label not in known]
    if samples:
        found += [Column(f"{name}@{samples}", f"{name}@{samples}") for name in ("mean", "maj", "pass")]
    return [*found, Column("length, tokens", "length", "{:.1f}"), Column("cut", "truncated")]


def content(plan: Plan, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything that pipeline.json holds."""
    return {
        "pipeline": plan.source,
        "folder": str(plan.folder),
        "base": plan.base,
        "seconds": sum(row.summary.get("seconds", 0.0) for row in rows),
        "stages": [
            {
                "name": row.name,
                "stage": row.stage,
                "from": row.origin,
                "summary": row.summary,
                "measured": dict(row.measured),
            }
            for row in rows
        ],
        "to_do": [stage.name for stage in plan.stages if stage.name not in {row.name for row in rows}],
    }


def markdown(plan: Plan, rows: Sequence[Row]) -> str:
    """A table of the stages, and one for each measure."""
    parts = [_stages(plan, rows)]
    for measure in plan.measures:
        shown = [row for row in rows if measure in row.measured]
        if shown:
            parts.append(_measure(plan, measure, shown))
    if plan.measures:
        parts.append("right: held-out questions answered right, greedy; mean, maj, pass @k: of k sampled answers.")
    return "\n\n".join(parts)


def _stages(plan: Plan, rows: Sequence[Row]) -> str:
    done = {row.name: row for row in rows}
    cells = []
    for stage in plan.stages:
        summary = done[stage.name].summary if stage.name in done else None
        cost = ["to do", "-", "-"] if summary is None else _cost(summary)
        cells.append([stage.name, stage.recipe.stage, stage.origin, *cost])
    return table(["stage", "kind", "from", "steps", "minutes", "tokens"], cells)


def _cost(summary: Mapping[str, Any]) -> list[str]:
    tokens = summary.get("tokens", 0)
    return [
        str(summary.get("steps", "-")),
        f"{summary.get('seconds', 0.0) / 60:.1f}",
        f"{tokens:,} {summary.get('tokens_are', 'sampled')}",
    ]


def _measure(plan: Plan, measure: str, rows: Sequence[Row]) -> str:
    wanted = columns(plan, measure)
    cells = [[row.name, *(_cell(row.measured[measure], column) for column in wanted)] for row in rows]
    n = max(row.measured[measure].get("n", 0) for row in rows)
    heads = ["after", *(column.heading for column in wanted)]
    return f"Measured by {measure}, {n} held-out questions:\n\n{table(heads, cells)}"


def _cell(figures: Mapping[str, Any], column: Column) -> str:
    found, form = figure_in(figures, column.key), column.form.format
    if found["value"] is None:
        return "-"
    ends = f" ({form(found['low'])} to {form(found['high'])})" if column.key == "accuracy" else ""
    return f"{form(found['value'])}{ends}"
