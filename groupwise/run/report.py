"""What a finished run shows: held-out results before and after, answers side by side, where everything is."""

import json
from collections.abc import Sequence
from contextlib import closing
from functools import singledispatch
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from groupwise.data import Question
from groupwise.record.read import Record, open_record
from groupwise.record.schema import Answer
from groupwise.record.turns import conversation
from groupwise.rollout.evaluate import RIGHT
from groupwise.run.loop import Summary
from groupwise.run.progress import loss_text
from groupwise.statistics.intervals import figure_in, shown, wilson
from groupwise.terminal import printable

SHOWN = 3


@singledispatch
def print_report(summary: Any, console: Console | None = None) -> None:
    """The closing tables of a run, on stdout; each kind of summary registers its own."""
    raise TypeError(f"no report of {type(summary).__name__}")


@print_report.register
def print_results(summary: Summary, console: Console | None = None) -> None:
    """What training came to."""
    console = console or Console(highlight=False, markup=False)
    if "loss" in summary.before:
        before, after = (loss_text(figures["loss"]) for figures in (summary.before, summary.after))
        unit = summary.after["loss"].get("unit", "nats a token")
        console.print(f"held-out loss, {unit} (95 % intervals): {before} -> {after}")
    if "preferred" in summary.before:
        before, after = (shown(figures["preferred"]) for figures in (summary.before, summary.after))
        console.print(f"preferred rightly, of {summary.after['preferred']['n']} held out: {before} -> {after}")
    if "steps" in summary.before:
        before, after = (shown(figures["steps"]) for figures in (summary.before, summary.after))
        console.print(f"judged rightly, of {summary.after['steps']['n']} steps held out: {before} -> {after}")
    if "calibration" in summary.before:
        before, after = (f"{figures['calibration']['value']:.3f}" for figures in (summary.before, summary.after))
        console.print(f"expected calibration error: {before} -> {after}")
    if "accuracy" in summary.before:
        console.print(_results(summary))
        with closing(open_record(summary.folder)) as record:
            answers = {e.name: _greedy(record, e) for e in record.evaluations() if e.name in ("before", "after")}
            questions = {question.id: question for question in record.questions("heldout")}
            episodes = _episodes(record)
        console.print(_by_kind(questions, answers["before"], answers["after"]))
        console.print(_side_by_side(questions, answers["before"], answers["after"]))
        for line in episodes:
            console.print(printable(line))
    console.print(
        f"{summary.steps} steps, {summary.tokens:,} tokens {summary.tokens_are}, {summary.seconds:.0f} s of training"
    )
    for line in (
        f"record      {summary.folder}/record.sqlite   (every completion, reward, advantage and metric)",
        f"figures     {summary.folder}/summary.json",
        f"checkpoint  {summary.checkpoint}   ({_loader(summary.checkpoint)}.from_pretrained loads it)",
    ):
        console.print(printable(line), soft_wrap=True)  # a path is copied whole or not at all


def _loader(checkpoint: Path) -> str:
    """The class of transformers that loads a checkpoint, by what its config calls itself and what is beside it."""
    if (checkpoint / "processor_config.json").is_file():
        return "AutoModelForImageTextToText"
    [architecture] = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["architectures"]
    known = ("ForSequenceClassification", "ForTokenClassification")
    return f"AutoModel{next((ending for ending in known if architecture.endswith(ending)), 'ForCausalLM')}"


def _episodes(record: Record) -> list[str]:
    """Lines about the last step's episodes: turns, what ended them, seconds of environments, calls of tools."""
    steps = record.steps()
    found = {name: value for step, name, value in record.metrics() if value is not None and step == steps[-1]}
    if "turns/mean" not in found:
        return []
    ends = (("turn limit", "finish/turns"), ("token limit", "finish/length"), ("failure", "finish/error"))
    ended = ", ".join(f"{why} {found[name]:.0%}" for why, name in ends if found.get(name))
    lines = [
        f"last step: {found['turns/mean']:.1f} turns an episode, {found['turns/max']:.0f} at most; ended by "
        f"{ended or 'the policy or the environment alone'}; {found['time/environment']:.2g} s an episode in its "
        f"environment, slowest call {found['time/environment_slowest']:.2g} s"
    ]
    for name, count in found.items():
        if name.startswith("tools/calls/"):
            tool = name.removeprefix("tools/calls/")
            lines.append(f"last step: {count:.0f} calls of {tool}, {found[f'tools/failed/{tool}']:.0%} failed")
    return lines


def _results(summary: Summary) -> Table:
    before, after = summary.before, summary.after
    table = Table(
        title=f"{after['n'] + after.get('unjudged', 0)} held-out questions, never trained on (95 % intervals)",
        title_justify="left",
    )
    for heading in ("", "before", "after"):
        table.add_column(heading)
    table.add_row("right, greedy", *(shown(figure_in(figures, "accuracy")) for figures in (before, after)))
    names = {"format": "well formed, greedy"} | {key: key for key in after if "@" in key}
    for key, name in names.items():
        if key in before and key in after:
            table.add_row(name, shown(before[key]), shown(after[key]))
    unjudged = [figures.get("unjudged", 0) for figures in (before, after)]
    if any(unjudged):
        table.add_row("not judged, left out above", *map(str, unjudged))
    table.add_row("mean length, tokens", f"{before['length']:.1f}", f"{after['length']:.1f}")
    if "turns" in before and "turns" in after:
        table.add_row("mean turns", f"{before['turns']:.1f}", f"{after['turns']:.1f}")
    table.add_row("cut at the limit", f"{before['truncated']:.1%}", f"{after['truncated']:.1%}")
    return table


def _by_kind(questions: dict[str, Question], before: dict[str, Answer], after: dict[str, Answer]) -> Table | Text:
    """Right answers by kind and level of question, where the questions say theirs."""
    kinds: dict[str, list[str]] = {}
    for question in questions.values():
        if "kind" in question.meta and question.id in after:
            level = question.meta.get("level")
            kinds.setdefault(f"{question.meta['kind']} {level if level is not None else ''}".strip(), []).append(
                question.id
            )
    if len(kinds) < 2:
        return Text("")
    table = Table(title="right, greedy, by kind and level", title_justify="left")
    for heading in ("kind", "questions", "before", "after"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    for kind in sorted(kinds):
        ids = kinds[kind]
        shares = [_share_right([answers.get(i) for i in ids]) for answers in (before, after)]
        table.add_row(printable(kind), str(len(ids)), *shares)
    return table


def _share_right(answers: Sequence[Answer | None]) -> str:
    """Of the answers that were judged; - where none was."""
    judged = [answer for answer in answers if answer is not None and answer.correct is not None]
    return f"{wilson(sum(map(_right, judged)), len(judged)).value:.0%}" if judged else "-"


def _side_by_side(questions: dict[str, Question], before: dict[str, Answer], after: dict[str, Answer]) -> Table:
    table = Table(title="the same questions before and after", title_justify="left", show_lines=True)
    for heading, ratio in (("question", 2), ("before", 3), ("after", 3)):
        table.add_column(heading, ratio=ratio, overflow="fold")
    for key in _chosen(list(questions), before, after):
        table.add_row(Text(printable(questions[key].text)), _cell(before[key]), _cell(after[key]))
    return table


def _chosen(keys: Sequence[str], before: dict[str, Answer], after: dict[str, Answer]) -> list[str]:
    """One question turned right, one still wrong, one lost or right all along: not only the best looking."""
    both = [key for key in keys if key in before and key in after]
    wanted = [(False, True), (False, False), (True, False), (True, True)]
    picked = [next((k for k in both if (_right(before[k]), _right(after[k])) == pair), None) for pair in wanted]
    chosen = [key for key in picked if key is not None]
    return [*chosen, *(key for key in both if key not in chosen)][:SHOWN]


def _cell(answer: Answer) -> Text:
    cut = " [cut at the limit]" if answer.finish == "length" else ""
    said = f"\n{conversation(answer.messages)}" if answer.messages else answer.text.strip()
    return Text(f"{_judgement(answer)}: {printable(said)}{cut}")


def _judgement(answer: Answer) -> str:
    if answer.correct is None:
        return "not judged"
    return "right" if _right(answer) else "wrong"


def _right(answer: Answer | None) -> bool:
    return answer is not None and answer.correct is not None and answer.correct >= RIGHT


def _greedy(record: Record, evaluation: Any) -> dict[str, Answer]:
    return {answer.question_id: answer for answer in record.answers(evaluation) if answer.sample < 0}
