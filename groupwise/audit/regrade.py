"""What `groupwise regrade RUN` does: a run's recorded outputs scored by another reward, and both compared.

The record is read only, also while the run goes on."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from groupwise.activity import advance, doing
from groupwise.atomic import write_whole
from groupwise.audit.kept import require_texts
from groupwise.audit.named import rewards_of
from groupwise.audit.siege import why
from groupwise.data import Output, Question, Reward
from groupwise.errors import ConfigError, DataError, RunError
from groupwise.record.read import Record, open_record
from groupwise.record.turns import episode_row, shown
from groupwise.registry import nearest
from groupwise.rewards.base import RewardSet
from groupwise.rewards.pending import Pending
from groupwise.statistics.agreement import is_binary, kappa, pearson, ranks, spearman, within_groups
from groupwise.strict_json import json_line

TOGETHER = 256
"""Outputs that wait for their rewards at once, and no fewer than a group."""
DISAGREEMENTS = 10
_none = np.zeros(0, np.int32)
NOTHING = Output(_none, _none, _none.astype(bool), _none.astype(np.float32), text="", finish="stop")
SHOWN = 200
"""Characters of an output's text in the list of disagreements."""


@dataclass(frozen=True)
class Graded:
    """An output with its reward as recorded. step: from 1; of an evaluation, steps before it. group: what it is
    compared within, by the place in its step; sample: place in its group. trained: optimizer steps before it."""

    step: int
    trained: int
    group: str
    sample: int
    question: Question
    output: Output
    recorded: float | None


def regrade(
    run: Path,
    word: str,
    params: Sequence[str] = (),
    *,
    steps: str | None = None,
    split: str = "train",
    part: str | None = None,
    limit: int | None = None,
    timeout_seconds: float = 30.0,
    out: Path | None = None,
) -> tuple[dict[str, Any], str]:
    """Figures and text of a run's outputs under the reward that a word names, beside what they earned.

    steps: `A-B`, from 1. split: train, or heldout for the answers of its evaluations, whose recorded reward is
    `evaluate.correct`. part: compares with this reward function's value, not the sum. limit: groups are left out evenly
    until about so many outputs remain. out: a new file with a line for each output. Raises InputError for what cannot
    be read: no run, a record without texts, steps that it lacks; RunError if the reward fails on every output.
    """
    if split not in ("train", "heldout"):
        raise ConfigError(f"--split {split}: no such split", hint="train or heldout")
    if split == "heldout" and part is not None:
        raise ConfigError(f"--part {part}: answers of evaluations keep one value", hint="leave it out")
    if out is not None and out.exists():
        raise ConfigError(f"--out {out}: there already", hint="name a new file; nothing is overwritten")
    configs, _, _ = rewards_of(word, params, timeout_seconds=timeout_seconds)
    wanted = _range(steps)
    with closing(open_record(run)) as record:
        if split == "train":
            require_texts(record, run)
        found = list(_of_steps(record, wanted, part) if split == "train" else _of_evaluations(record, wanted))
    found = _thinned(found, limit)
    if not found:
        raise DataError(
            f"{run}: no outputs{f' of steps {steps}' if steps else ''} in split {split}",
            hint="`groupwise runs` shows how many steps it has",
        )
    with RewardSet(configs, folder=run) as rewards:  # what a judge said before is not paid for again
        rewards.require_columns(graded.question for graded in found)
        again = _scored(rewards, found)
        for line in rewards.paid():
            print(line, file=sys.stderr)
    if all(reward.failed for reward in again):
        raise RunError(f"reward {word!r} fails on all {len(again)} outputs: {why(again[0])}", hint="mend it")
    if out is not None:
        write_whole(out, "".join(f"{json_line(_line(*pair))}\n" for pair in zip(found, again, strict=True)))
    against = part or ("evaluate.correct" if split == "heldout" else "the recorded reward")
    content = {"run": str(run), "reward": word, "against": against, "split": split, **_figures(found, again)}
    return content, _text(content)


def _range(steps: str | None) -> range | None:
    if steps is None:
        return None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", steps.strip())
    if not match or int(match[1]) > int(match[2] or match[1]):
        raise ConfigError(f"--steps {steps}: not of the form A-B", hint="for example --steps 1-10, or --steps 5")
    return range(int(match[1]), int(match[2] or match[1]) + 1)


def _of_steps(record: Record, wanted: range | None, part: str | None) -> Iterator[Graded]:
    questions = {question.id: question for question in record.questions()}
    opening = record.info().get("opening", "")
    labels: set[str] = set()
    for step in record.steps():
        if wanted is not None and step + 1 not in wanted:
            continue
        for seen in record.outputs(step):
            labels |= seen.reward.parts.keys()
            if part is not None and part not in labels:
                raise ConfigError(f"--part {part}: the run has no such reward", hint=nearest(part, labels))
            output = replace(seen.output, opening=opening)
            if not len(output.tokens):
                output = replace(output, **_zeros(seen.length))
            recorded = seen.reward.value if part is None else seen.reward.value_of(part)
            question = questions[seen.question_id]
            yield Graded(step + 1, step, str(seen.group_index), seen.sample, question, output, recorded)


def _of_evaluations(record: Record, wanted: range | None) -> Iterator[Graded]:
    questions = {question.id: question for question in record.questions()}
    opening = record.info().get("opening", "")
    for evaluation in record.evaluations():
        if wanted is not None and evaluation.step not in wanted:
            continue
        for answer in record.answers(evaluation):
            said = replace(NOTHING, text=answer.text, finish=answer.finish, opening=opening, messages=answer.messages)
            output = replace(said, **_zeros(answer.tokens), spans=answer.spans, outcome=answer.outcome)
            question = questions[answer.question_id]
            group = f"{evaluation.name}/{answer.question_id}"
            yield Graded(evaluation.step, evaluation.step, group, answer.sample, question, output, answer.correct)


def _zeros(length: int) -> dict[str, Any]:
    """The arrays of an output whose tokens were not kept: as many zeros."""
    tokens = np.zeros(length, np.int32)
    arrays = {"sampled": np.ones(length, bool), "logprobs": np.zeros(length, np.float32)}
    return {"question_tokens": tokens[:0], "tokens": tokens, **arrays}


def _thinned(found: list[Graded], limit: int | None) -> list[Graded]:
    """Whole groups, evenly spaced, so that about so many outputs are left."""
    if limit is None or len(found) <= limit:
        return found
    groups = [list(members) for _, members in groupby(found, key=lambda graded: (graded.step, graded.group))]
    every = -(-len(found) // limit)
    return [graded for members in groups[::every] for graded in members]


def _scored(rewards: RewardSet, found: Sequence[Graded]) -> list[Reward]:
    """As in training: the outputs of a group together, at its step, with the turns and outcomes of their episodes."""
    again: list[Reward] = []
    asked: list[Pending] = []

    def take() -> None:
        for pending in asked:
            again.extend(pending.result())
            advance(len(pending.outputs))
        asked.clear()

    with doing("scoring", len(found), "outputs"):
        for _, members in groupby(found, key=lambda graded: (graded.trained, graded.group)):
            own = list(members)
            questions, outputs = [graded.question for graded in own], [graded.output for graded in own]
            asked.append(rewards.submit(questions, outputs, step=own[0].trained))
            if sum(len(pending.outputs) for pending in asked) >= TOGETHER:
                take()
        take()
    return again


def _line(graded: Graded, reward: Reward) -> dict[str, Any]:
    return {
        "step": graded.step,
        "group": graded.group,
        "sample": graded.sample,
        "question": graded.question.id,
        "recorded": graded.recorded,
        "regraded": reward.value,
        "state": "failed" if reward.failed else "abstained" if reward.value is None else "value",
        "parts": {name: part.value for name, part in reward.parts.items()},
        "text": graded.output.text,
        **episode_row(graded.output),
    }


def _figures(found: Sequence[Graded], again: Sequence[Reward]) -> dict[str, Any]:
    both = [
        (graded, graded.recorded, reward.value)
        for graded, reward in zip(found, again, strict=True)
        if graded.recorded is not None and reward.value is not None
    ]
    first, second = [a for _, a, _ in both], [b for _, _, b in both]
    binary = bool(both) and is_binary(first) and is_binary(second)
    inside = within_groups(first, second, [(graded.step, graded.group) for graded, _, _ in both])
    failed = [reward for reward in again if reward.failed]
    return {
        "outputs": len(found),
        "compared": len(both),
        "recorded_none": sum(graded.recorded is None for graded in found),
        "failed": len(failed),
        "abstained": sum(reward.value is None and not reward.failed for reward in again),
        "first_failure": why(failed[0]) if failed else "",
        "mean_recorded": float(np.mean(first)) if both else None,
        "mean_regraded": float(np.mean(second)) if both else None,
        "agreement": float(np.mean([a == b for a, b in zip(first, second, strict=True)])) if binary else None,
        "kappa": kappa(first, second) if binary else None,
        "pearson": pearson(first, second),
        "spearman": spearman(first, second),
        "groups": inside.n,
        "groups_sign_changed": inside.sign,
        "groups_order_changed": inside.order,
        "groups_signal_recorded": inside.signal_first,
        "groups_signal_regraded": inside.signal_second,
        "disagreements": _disagreements(both, binary=binary),
    }


def _disagreements(both: Sequence[tuple[Graded, float, float]], *, binary: bool) -> list[Mapping[str, Any]]:
    """The largest: of two binary rewards by their difference, of others by the difference of their shares of ranks."""
    sides = [[a for _, a, _ in both], [b for _, _, b in both]]
    scaled = sides if binary else [[rank / max(1, len(both)) for rank in ranks(side)] for side in sides]
    apart = [abs(a - b) for a, b in zip(*scaled, strict=True)]
    order = sorted((index for index in range(len(both)) if apart[index] > 1e-12), key=lambda index: -apart[index])
    return [
        {
            "step": graded.step,
            "group": graded.group,
            "sample": graded.sample,
            "question": graded.question.id,
            "asked": graded.question.text,
            "answer": graded.question.answer,
            "recorded": recorded,
            "regraded": regraded,
            "text": graded.output.text,
            **episode_row(graded.output),
        }
        for graded, recorded, regraded in (both[index] for index in order[:DISAGREEMENTS])
    ]


def _text(content: Mapping[str, Any]) -> str:
    def told(name: str, form: str = ".3f") -> str:
        return "-" if content[name] is None else format(content[name], form)

    lines = [
        f"{content['run']}: {content['outputs']} outputs ({content['split']}) scored by {content['reward']}, "
        f"beside {content['against']}",
        f"compared      {content['compared']}; without a recorded reward {content['recorded_none']}, "
        f"failed {content['failed']}, abstained {content['abstained']}",
        f"mean          recorded {told('mean_recorded')}, regraded {told('mean_regraded')}",
        f"correlation   Pearson {told('pearson')}, Spearman {told('spearman')}",
    ]
    if content["agreement"] is not None:
        lines.insert(3, f"agreement     {told('agreement', '.1%')}, Cohen's kappa {told('kappa')}")
    if content["groups"]:
        lines.append(
            f"groups        {content['groups']}: an advantage changes its sign in "
            f"{told('groups_sign_changed', '.1%')}, the order changes in {told('groups_order_changed', '.1%')}; "
            f"with signal {content['groups_signal_recorded']} recorded, {content['groups_signal_regraded']} regraded"
        )
    if content["first_failure"]:
        lines.append(f"first failure {content['first_failure']}")
    if content["disagreements"]:
        lines += ["", "largest disagreements:"]
    for found in content["disagreements"]:
        lines.append(
            f"step {found['step']}, {found['question']}: recorded {found['recorded']:g}, "
            f"regraded {found['regraded']:g}, right answer {str(found['answer'])[:40]!r}"
        )
        lines += [f"    {line}" for line in shown(found, SHOWN)]
    return "\n".join(lines)
