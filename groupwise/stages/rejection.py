"""Rejection sampling: G outputs of each question from any checkpoint; the good ones become a file of examples.

Sampled, rewarded and recorded step by step (groupwise.run.collect); selected at the end (groupwise.selection), from
the record alone. The file is what `stage: sft` reads: for the same model (DeepSeek-R1's third stage) or a student.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from groupwise import registry
from groupwise.config import RejectionRecipe
from groupwise.data import Group, Message, Output, Question, Reward
from groupwise.datasets.base import load_questions
from groupwise.datasets.turns import in_order
from groupwise.errors import ConfigError, RunError
from groupwise.model.memory import out_of_memory
from groupwise.record.read import Record, open_record
from groupwise.rollout.evaluate import RIGHT
from groupwise.run.collect import Collection, collect, open_collection
from groupwise.run.ending import memory_error
from groupwise.run.progress import Columns, Progress, shown_of
from groupwise.run.report import print_report
from groupwise.run.stall import watched
from groupwise.selection.filters import PER_OUTPUT, REASONS
from groupwise.selection.keeps import Candidate, reads_scores
from groupwise.selection.material import Material, load_material
from groupwise.selection.mixture import mixed_in
from groupwise.selection.rows import lines, row_of_example, row_of_kept, write_lines
from groupwise.selection.select import QUARTERS, Sampled, Selection, passing, select
from groupwise.stop import Stop
from groupwise.strict_json import write_json

FILE = "examples.jsonl"
COLUMNS: Columns = (
    ("reward", "reward/mean", 7, "{:.3f}"),
    ("right", "accuracy", 6, "{:.0%}"),
    ("format", "format", 6, "{:.0%}"),
    ("length", "length/mean", 6, "{:.1f}"),
    ("cut", "finish/length", 6, "{:.0%}"),
    ("passed", "selection/passed", 6, "{:.0f}"),
    ("tok/s", "tokens/per_second", 6, "{:.0f}"),
    ("s", "time/step", 6, "{:.1f}"),
)


@dataclass(frozen=True)
class Gathered:
    """What a run came to. seconds: of sampling and rewarding; tokens: sampled; right: share of the judged outputs.

    not_kept: outputs by reason (groupwise.selection.filters.REASONS). length: mean tokens of a kept output. quarters:
    kept outputs by the quarter of their question's share right, 0 the hardest. mixed: for each entry of `rejection.mix`
    its source, how many were put in, how many were wanted, and how many were left out as contaminated.
    """

    folder: Path
    examples: Path
    steps: int
    seconds: float
    tokens: int
    questions: int
    outputs: int
    right: float | None
    not_kept: dict[str, int]
    kept: int
    kept_questions: int
    length: float
    quarters: dict[int, int]
    mixed: list[dict[str, Any]]


@dataclass
class Count:
    """What passed by on its way to the selection: questions, outputs, how many were judged, and were right."""

    questions: int = 0
    outputs: int = 0
    judged: int = 0
    right: int = 0

    def of(self, sampled: Iterable[Sampled]) -> Iterator[Sampled]:
        """The same questions, counted."""
        for one in sampled:
            judged = [candidate.right for candidate in one.candidates if candidate.right is not None]
            self.questions += 1
            self.outputs += len(one.candidates)
            self.judged += len(judged)
            self.right += sum(judged)
            yield one


def train(recipe: RejectionRecipe, folder: Path, *, resume: bool = False) -> Gathered:
    """Sample outputs, keep the good ones, and write them as examples. Raises GroupwiseError."""
    check(recipe)
    questions = load_questions(recipe.questions, recipe.seed)
    for question in questions.train:
        in_order((*question.prompt, Message("assistant", "-")), f"question {question.id!r}")
    material = load_material(recipe.rejection, recipe.questions, seed=recipe.seed)
    stop = Stop()
    with (
        open_collection(recipe, folder, questions=questions, resume=resume) as run,
        stop.listening(),
        watched(folder, recipe.run.stall_seconds) as beat,
    ):
        progress = _progress(run)

        def measure(groups: Sequence[Group]) -> dict[str, float]:
            beat(f"step {run.step + 1}")
            return selection_metrics(recipe, groups, material)

        try:
            collect(run, stop, progress=progress, measure=measure)
            gathered = gather(run, material)
        except BaseException as error:
            with stop.kept("what is on record"):
                kept = f"all on record in {run.recorder.path}" if run.step else "no step was finished yet"
                progress.stopped(folder, run.step, kept)
            if out_of_memory(error):
                raise memory_error(error, step=run.step) from None
            raise
        facts = {**asdict(gathered), "folder": str(folder), "examples": str(gathered.examples)}
        write_json(folder / "summary.json", facts)
        run.recorder.set_info("state", "finished")
    return gathered


def gather(run: Collection, material: Material) -> Gathered:
    """Selects from the record and writes the file: a function of record, recipe and the files that it names.

    Raises RunError if nothing is kept, which leaves no file.
    """
    recipe, config, target = run.recipe, run.recipe.rejection, run.folder / FILE
    count = Count()
    with closing(open_record(run.folder)) as record:
        seconds, tokens = (_total(record, name) for name in ("time/step", "tokens/sampled"))
        sampled = count.of(sampled_of(record, recipe))
        selection = select(sampled, config, seed=recipe.seed, contaminated=material.contaminated)
    if not selection.kept:
        target.unlink(missing_ok=True)
        raise _nothing_kept(run.folder, selection)
    kept_fingerprints = [kept.fingerprint for kept in selection.kept]
    mixed = mixed_in(material.sources, kept=len(kept_fingerprints), fingerprints=kept_fingerprints, seed=recipe.seed)
    origin = {"model": recipe.model.path, "policy": run.policy, "seed": recipe.seed}
    rows = [row_of_kept(kept, origin) for kept in selection.kept]
    rows += [row_of_example(example, part.source) for part in mixed for example in part.examples]
    write_lines(target, lines(rows, seed=recipe.seed))
    quarters = Counter(kept.quarter for kept in selection.kept if kept.quarter is not None)
    return Gathered(
        folder=run.folder,
        examples=target,
        steps=run.steps,
        seconds=seconds,
        tokens=int(tokens),
        questions=count.questions,
        outputs=count.outputs,
        right=count.right / count.judged if count.judged else None,
        not_kept=selection.fallen,
        kept=len(selection.kept),
        kept_questions=len({kept.question.fingerprint for kept in selection.kept}),
        length=fmean(kept.candidate.tokens for kept in selection.kept),
        quarters={quarter: quarters[quarter] for quarter in range(QUARTERS)},
        mixed=[
            {
                "source": part.source,
                "mixed_in": len(part.examples),
                "wanted": part.wanted,
                "contaminated": part.contaminated,
            }
            for part in mixed
        ],
    )


def sampled_of(record: Record, recipe: RejectionRecipe) -> Iterator[Sampled]:
    """The questions of a record with their outputs, one after another, in the order in which they were asked.

    A question that asks the same as an earlier one comes with that one. Only one question's outputs are held.
    """
    alike: dict[str, list[Question]] = {}
    for question in record.questions("train"):
        alike.setdefault(question.fingerprint, []).append(question)
    for question in chain.from_iterable(alike.values()):
        own = tuple(
            replace(
                _candidate(recipe, question.id, found.output, found.reward, step=found.step, sample=found.sample),
                tokens=found.length,  # where the run keeps no tokens there are none to count
            )
            for found in record.outputs(question=question.id)
        )
        if own:
            yield Sampled(question, own)


def selection_metrics(recipe: RejectionRecipe, groups: Sequence[Group], material: Material) -> dict[str, float]:
    """Of a step's outputs how many pass the filters and the rule, and how many fall to which."""
    config = recipe.rejection
    passed, fallen = 0, Counter[str]()
    for group in groups:
        candidates = tuple(
            _candidate(recipe, group.question.id, sample.output, sample.reward, step=0, sample=number)
            for number, sample in enumerate(group.samples)
        )
        taken, why = passing(Sampled(group.question, candidates), config, contaminated=material.contaminated)
        passed, fallen = passed + len(taken), fallen + why
    counted = {f"selection/{reason}": float(fallen[reason]) for reason in PER_OUTPUT}
    return {"selection/passed": float(passed), **counted}


def check(recipe: RejectionRecipe) -> None:
    """Raises ConfigError for settings that do not go together."""
    if recipe.run.record == "scores":
        raise ConfigError(
            "run.record = 'scores': stage 'rejection' selects texts from the record", hint="set it to texts"
        )
    config = recipe.rejection
    if config.by is not None and not reads_scores(registry.load(registry.KEEPS, config.keep)):
        raise ConfigError(
            f"rejection.by = {config.by!r}: the rule {config.keep!r} goes by no reward",
            hint="set rejection.keep to best or best_right, or drop it",
        )


@print_report.register
def print_gathered(gathered: Gathered, console: Console | None = None) -> None:
    """The closing table: what became of every output."""
    console = console or Console(highlight=False, markup=False)
    right = "" if gathered.right is None else f", {gathered.right:.1%} of the judged right"
    facts = f"{gathered.questions} questions, {gathered.outputs} outputs sampled{right}"
    table = Table(title=facts, title_justify="left")
    for heading in ("outputs", "number", "share"):
        table.add_column(heading, justify="left" if heading == "outputs" else "right")
    counts = {f"{reason}: {REASONS[reason]}": count for reason, count in gathered.not_kept.items()}
    for name, count in {**counts, "kept": gathered.kept}.items():
        table.add_row(name, str(count), f"{count / gathered.outputs:.1%}")
    console.print(table)
    hardness = ", ".join(str(count) for count in gathered.quarters.values())
    for line in (
        f"kept        {gathered.kept} outputs of {gathered.kept_questions} questions, {gathered.length:.1f} tokens on "
        f"average; by the quarter of the share right, the hardest first: {hardness}",
        *(_mixed_line(part) for part in gathered.mixed),
        f"sampled     {gathered.tokens:,} tokens in {gathered.seconds:.0f} s",
        f"examples    {gathered.examples}   (`stage: sft` reads it: examples.source)",
        f"record      {gathered.folder}/record.sqlite   (every output, kept or not, with its rewards)",
        f"figures     {gathered.folder}/summary.json",
    ):
        console.print(line, soft_wrap=True)  # a path is copied whole or not at all


def _mixed_line(part: dict[str, Any]) -> str:
    few = "" if part["mixed_in"] == part["wanted"] else f" of {part['wanted']} wanted: there are no more"
    dirty = f"; {part['contaminated']} contaminated ones left out" if part["contaminated"] else ""
    return f"mixed in    {part['mixed_in']} from {part['source']}{few}{dirty}"


def _progress(run: Collection) -> Progress:
    rollout = run.recipe.rollout
    outputs = rollout.questions_per_step * rollout.group_size
    plan = (
        f"rejection: {rollout.questions_per_step} questions x {rollout.group_size} outputs = {outputs} outputs "
        "per step, each question once"
    )
    return Progress(plan=plan, steps=run.steps, columns=shown_of(run.recipe, COLUMNS))


def _candidate(
    recipe: RejectionRecipe, question_id: str, output: Output, reward: Reward, *, step: int, sample: int
) -> Candidate:
    value = reward.value_of(recipe.correct_label)
    return Candidate(
        question_id=question_id,
        step=step,
        sample=sample,
        text=output.text,
        finish=output.finish,
        tokens=len(output.tokens),
        rewards={label: part.value for label, part in reward.parts.items()},
        reward=reward.value,
        right=None if value is None else value >= RIGHT,
        failed=reward.failed,
    )


def _nothing_kept(folder: Path, selection: Selection) -> RunError:
    most = max(selection.fallen, key=lambda reason: selection.fallen[reason])
    return RunError(
        f"{folder}: none of {sum(selection.fallen.values())} outputs is kept; most, {selection.fallen[most]}, fell to "
        f"{most!r}: {REASONS[most]}",
        hint="they stay in the record: change rejection.* and add --resume to select again without sampling",
    )


def _total(record: Record, metric: str) -> float:
    return sum(value or 0.0 for _, _, value in record.metrics(metric))
