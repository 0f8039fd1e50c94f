"""A comparison from beginning to end: its runs, and after each of them the table of what there is so far."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from groupwise.activity import counted
from groupwise.compare.figures import RunFigures, run_curves, run_figures
from groupwise.compare.plan import FILE, Plan
from groupwise.compare.table import content, markdown
from groupwise.errors import RunError
from groupwise.run.progress import event
from groupwise.statistics.plot import draw
from groupwise.strict_json import write_json
from groupwise.terminal import quoted
from groupwise.train_process import Signals, check_holder, check_place, holding, is_finished, make_holder, train_process

TEXT, PICTURE = "compare.md", "compare.png"
REASON_CHARACTERS = 200


@dataclass(frozen=True)
class Comparison:
    """What came out: as plain values, as text, and the error to end with if a run failed."""

    content: dict[str, Any]
    text: str
    error: RunError | None


def compare(plan: Plan, *, resume: bool) -> Comparison:
    """Does what is left to do of the plan's runs and writes the comparison into its folder.

    A run that fails is told and the others go on. Raises InputError before the first run; KeyboardInterrupt if stopped.
    """
    check_folder(plan, resume=resume)
    with holding(plan.folder):
        return _compared(plan)


def _compared(plan: Plan) -> Comparison:
    if plan.kept:
        message = ", ".join(f"{name} = {value}" for name, value in plan.kept.items())
        print(f"set by the recipe, and so the same under every preset: {message}", file=sys.stderr)
    if find_spec("matplotlib") is None:
        print("there will be no picture: matplotlib is missing; pip install 'groupwise[plot]'", file=sys.stderr)
    runs = {
        (pair.variant, pair.seed): run_figures(pair.folder, pair.recipe.rollout)
        for pair in plan.pairs
        if is_finished(pair)
    }
    failures: dict[tuple[str, int], str] = {}
    _written(plan, runs, failures)
    signals = Signals()
    try:
        with signals.listening():
            event("begin", run=str(plan.folder), runs=[pair.label for pair in plan.pairs])
            for number, pair in enumerate(counted(plan.pairs, "comparison", "runs"), 1):
                print(f"run {number} of {len(plan.pairs)}: {pair.folder}", file=sys.stderr)
                reason = train_process(pair, signals)
                if reason is None:
                    runs[pair.variant, pair.seed] = run_figures(pair.folder, pair.recipe.rollout)
                else:
                    failures[pair.variant, pair.seed] = reason[:REASON_CHARACTERS]
                    print(f"{pair.label}  failed: {reason}", file=sys.stderr)
                _written(plan, runs, failures)
    except BaseException as error:
        event("stopped", run=str(plan.folder), command=plan.command)
        print(f"stopped\nresume with: {plan.command}", file=sys.stderr)
        if isinstance(error, OSError):
            raise RunError(f"{plan.folder}: {error}", hint="free some space or repair the disk, then resume") from error
        raise
    return _closed(plan, runs, failures)


def check_folder(plan: Plan, *, resume: bool) -> None:
    """Raises DataError or ConfigError if the comparison's folder holds something else, or a run that is in the way."""
    check_holder(plan.folder, (FILE, f".{FILE}.partial"), what="comparison")
    for pair in plan.pairs:
        check_place(pair, resume=resume)
    make_holder(plan.folder)


def _written(
    plan: Plan, runs: dict[tuple[str, int], RunFigures], failures: dict[tuple[str, int], str], *, picture: bool = False
) -> tuple[dict[str, Any], str]:
    """The comparison as it stands, put into its folder: its values and its text."""
    values = {**content(plan, runs, failures), "picture": str(plan.folder / PICTURE) if picture else None}
    text = markdown(plan, runs, failures)
    write_json(plan.folder / FILE, values)
    shown = f"\n![reward against outputs sampled]({PICTURE})\n" if picture else ""
    heading = f"# {Path(plan.source).stem}: {', '.join(variant.name for variant in plan.variants)}"
    (plan.folder / TEXT).write_text(f"{heading}\n\n{text}\n{shown}", encoding="utf-8")
    return values, text


def _closed(plan: Plan, runs: dict[tuple[str, int], RunFigures], failures: dict[tuple[str, int], str]) -> Comparison:
    curves = {
        variant.name: [
            run_curves(pair.folder, pair.recipe.rollout)
            for pair in plan.pairs
            if pair.variant == variant.name and (pair.variant, pair.seed) in runs
        ]
        for variant in plan.variants
    }
    rollout = plan.pairs[0].recipe.rollout
    title = f"{Path(plan.source).stem}: {rollout.questions_per_step} questions x {rollout.group_size} outputs per step"
    curves = {name: found for name, found in curves.items() if found}
    drawn = bool(curves) and draw(curves, plan.folder / PICTURE, title=title)
    values, text = _written(plan, runs, failures, picture=drawn)
    files = [("table", TEXT), ("figures", FILE), *([("picture", PICTURE)] if drawn else [])]
    places = [f"{name:<9}{plan.folder / file}" for name, file in files]
    places += [f"runs     groupwise runs {quoted(plan.folder / variant.name)}" for variant in plan.variants]
    return Comparison(values, "\n".join([text, "", *places]), _error(plan, failures))


def _error(plan: Plan, failures: dict[tuple[str, int], str]) -> RunError | None:
    if not failures:
        return None
    message = "; ".join(f"{variant}/seed-{seed}: {reason}" for (variant, seed), reason in failures.items())
    return RunError(f"{len(failures)} of {len(plan.pairs)} runs failed: {message}", hint=f"try again: {plan.command}")
