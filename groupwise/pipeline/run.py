"""A pipeline from beginning to end: its stages one after the other, what each is measured by, and the table so far."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from groupwise.activity import counted, doing
from groupwise.atomic import write_whole
from groupwise.config import Recipe, dump_recipe
from groupwise.errors import DataError, RunError
from groupwise.model.checkpoint import drop_optimizer
from groupwise.pipeline.apart import check_apart
from groupwise.pipeline.plan import BASE, Plan, Stage
from groupwise.pipeline.plot import draw
from groupwise.pipeline.table import Row, content, markdown
from groupwise.pipeline.vocabulary import check_vocabularies
from groupwise.recipe_file import write_tree
from groupwise.run.progress import event
from groupwise.strict_json import write_json
from groupwise.terminal import command
from groupwise.train_process import (
    Signals,
    check_holder,
    check_place,
    groupwise_process,
    holding,
    is_finished,
    make_holder,
    train_process,
)

FILE, VALUES, TEXT, PICTURE = "pipeline.yaml", "pipeline.json", "pipeline.md", "pipeline.png"
MEASURED = "measured"
"""Folder of the evaluations: measured/<stage>/<measure>."""
_RESULT = "eval.json"


@dataclass(frozen=True)
class Outcome:
    """What came out: as plain values, and as text."""

    content: dict[str, Any]
    text: str


def run_pipeline(plan: Plan, *, resume: bool) -> Outcome:
    """Does what is left to do of the plan's stages and writes the summary into its folder, anew after each.

    Raises InputError before the first stage; RunError if a stage fails, since later ones begin with what it leaves;
    KeyboardInterrupt if stopped.
    """
    _check_folder(plan, resume=resume)
    check_vocabularies(plan)
    check_apart(plan)
    make_holder(plan.folder)
    with holding(plan.folder):
        return _run(plan)


def _run(plan: Plan) -> Outcome:
    write_whole(plan.folder / FILE, write_tree(plan.tree))
    if find_spec("matplotlib") is None:
        print("there will be no picture: matplotlib is missing; pip install 'groupwise[plot]'", file=sys.stderr)
    signals = Signals()
    try:
        with signals.listening():
            event("begin", run=str(plan.folder), runs=[stage.label for stage in plan.stages])
            _measure(plan, BASE, plan.base, tuple(plan.measures), signals)
            for number, stage in enumerate(counted(plan.stages, "pipeline", "stages"), 1):
                print(f"stage {number} of {len(plan.stages)}: {stage.folder}", file=sys.stderr)
                if not is_finished(stage):  # what was measured there was another model
                    shutil.rmtree(plan.folder / MEASURED / stage.name, ignore_errors=True)
                reason = train_process(stage, signals)
                if reason is not None:
                    raise RunError(
                        f"stage {stage.name!r}: {reason}", hint=f"fix it, then resume with: {_command(plan)}"
                    )
                if stage.leaves != "examples":
                    drop_optimizer(stage.left)  # four times what a later stage begins with, and nobody goes on from it
                _measure(plan, stage.name, str(stage.left), stage.measures, signals)
                _written(plan)
    except BaseException as error:
        event("stopped", run=str(plan.folder), command=_command(plan))
        if not isinstance(error, RunError):  # which says so itself
            print(f"stopped\nresume with: {_command(plan)}", file=sys.stderr)
        if isinstance(error, OSError):
            raise RunError(f"{plan.folder}: {error}", hint="free some space or repair the disk, then resume") from error
        raise
    values, text = _written(plan)
    return Outcome(values, "\n".join([text, "", *_places(plan)]))


def _command(plan: Plan) -> str:
    """What goes on; the folder's own file holds the recipe and its overrides."""
    return command("pipeline", "--run", plan.folder, "--resume")


def _places(plan: Plan) -> list[str]:
    files = [("table", TEXT), ("figures", VALUES), ("picture", PICTURE)]
    listing = [f"{name:<9}{plan.folder / file}" for name, file in files if (plan.folder / file).exists()]
    last = next((stage for stage in reversed(plan.stages) if stage.leaves == "policy"), None)
    return [*listing, *([f"model    {last.left}"] if last else [])]


def _check_folder(plan: Plan, *, resume: bool) -> None:
    held = check_holder(plan.folder, (FILE, f".{FILE}.partial"), what="pipeline")
    if FILE in held and not resume:
        raise DataError(f"--run {plan.folder}: a pipeline is there already", hint="add --resume to continue it")
    for stage in plan.stages:
        check_place(stage, resume=resume)
    undone = {stage.name for stage in plan.stages if not is_finished(stage)}
    for stage in plan.stages:
        if stage.folder.exists() and any(stage.folder.iterdir()) and (gone := sorted(stage.reads & undone)):
            raise DataError(
                f"{stage.folder}: made from what stage {gone[0]!r} left, which is to be done again",
                hint=f"remove {stage.folder} too",
            )


def _measure(plan: Plan, name: str, model: str, measures: tuple[str, ...], signals: Signals) -> None:
    """Evaluates a model by each of the measures, unless it has been by the same; each in a process of its own."""
    for measure in measures:
        place = plan.folder / MEASURED / name / measure
        recipe = _of_model(plan.measures[measure], model)
        asked, text = place.with_name(f"{measure}.yaml"), dump_recipe(recipe)
        if (place / _RESULT).exists() and asked.exists() and asked.read_text(encoding="utf-8") == text:
            continue
        # In a folder of its own: the evaluation of a pipeline that was killed may still go on.
        partial = place.with_name(f".{measure}-{os.getpid()}")
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(asked, text)
        words = ["eval", str(asked), "--samples", str(recipe.evaluate.samples), "--out", str(partial)]
        print(f"{name}  measured by {measure}", file=sys.stderr)
        with doing(f"{name} measured by {measure}"):
            code, last = groupwise_process(words, name, signals)
        if signals.asked:
            raise KeyboardInterrupt
        if code:
            listing = last.removeprefix("error: ") or f"exit code {code}"
            raise RunError(
                f"{name}, measured by {measure!r}: {listing}", hint=f"fix it, then resume with: {_command(plan)}"
            )
        partial.rename(place)


def _of_model(recipe: Recipe, path: str) -> Recipe:
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"path": path})})


def _written(plan: Plan) -> tuple[dict[str, Any], str]:
    """The summary as it stands, put into the pipeline's folder: its values and its text."""
    rows = _rows(plan)
    drawn = draw(plan, rows, plan.folder / PICTURE)
    values, text = content(plan, rows), markdown(plan, rows)
    write_json(plan.folder / VALUES, values)
    shown = f"\n\n![what each stage came to]({PICTURE})" if drawn else ""
    write_whole(plan.folder / TEXT, f"# {plan.folder.name}\n\n{text}{shown}\n")
    return values, text


def _rows(plan: Plan) -> list[Row]:
    """The base and every finished stage."""
    rows = [Row(BASE, "", plan.base, {}, _measured(plan, BASE, tuple(plan.measures)))]
    for stage in plan.stages:
        if is_finished(stage):
            row = Row(stage.name, stage.recipe.stage, stage.origin, _summary(stage), {})
            rows.append(replace(row, measured=_measured(plan, stage.name, stage.measures)))
    return rows


def _summary(stage: Stage) -> dict[str, Any]:
    return dict(json.loads((stage.folder / "summary.json").read_text(encoding="utf-8")))


def _measured(plan: Plan, name: str, measures: tuple[str, ...]) -> Mapping[str, dict[str, Any]]:
    files = {measure: plan.folder / MEASURED / name / measure / _RESULT for measure in measures}
    return {measure: json.loads(file.read_text(encoding="utf-8")) for measure, file in files.items() if file.exists()}
