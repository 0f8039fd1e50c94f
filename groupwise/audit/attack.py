"""What `groupwise attack REWARD` does: from its words to questions, figures, and a table. Writes no file."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groupwise.audit.cases import SAMPLES, cases_of, sample
from groupwise.audit.named import rewards_of
from groupwise.audit.siege import Found, Siege, besiege, score, why
from groupwise.config import QuestionsConfig, RewardConfig
from groupwise.data import Question
from groupwise.datasets.base import load_questions
from groupwise.errors import DataError
from groupwise.markdown import table_text
from groupwise.places import is_run
from groupwise.rewards.base import RewardSet
from groupwise.rewards.judging.cache import kept_in

SHOWN = 60
"""Characters of an attack's text in the table."""
NO_ANSWER = "I do not know."
"""What a question without a right answer is answered with to see whether the reward can judge it."""
SHOWN_ATTACKS = 25
"""Attacks in the table that earn something or fail, unless all are asked for."""
USUAL_QUESTIONS, USUAL_LIMIT, USUAL_SECONDS = 14, 0.1, 5.0


@dataclass(frozen=True)
class Attacked:
    """What came out. fell: the exploitability, or the share of calls that fail, is past the limit."""

    content: dict[str, Any]
    text: str
    fell: bool


def attack(
    word: str,
    params: Sequence[str] = (),
    *,
    data: str | None = None,
    questions: int = USUAL_QUESTIONS,
    limit: float = USUAL_LIMIT,
    timeout_seconds: float = USUAL_SECONDS,
    every: bool = False,
) -> Attacked:
    """Attacks the reward that a word names; see groupwise.audit.siege for the figures.

    data: a file or source of questions, in place of the recipe's or the sample; questions: how many of them.
    limit: the most that exploitability and share of failures may be, 0 to 1. every: shows every attack.
    Raises InputError for what cannot be read.
    """
    configs, own, seed = rewards_of(word, params, timeout_seconds=timeout_seconds)
    with RewardSet(configs, folder=kept_in(Path(word) if is_run(Path(word)) else None)) as rewards:
        asked, source, left_out = _questions(data, own, seed, questions, configs, rewards)
        siege = besiege(rewards, cases_of(asked))
        for line in rewards.paid():
            print(line, file=sys.stderr)
    content = _content(word, siege, asked=len(asked), source=source, left_out=left_out, limit=limit)
    return Attacked(content, _text(content, siege, every=every), bool(content["fell"]))


def _questions(
    data: str | None,
    own: QuestionsConfig | None,
    seed: int,
    count: int,
    configs: Sequence[RewardConfig],
    rewards: RewardSet,
) -> tuple[list[Question], str, int]:
    """At most so many questions that the reward can judge, evenly spaced; their source; how many were left out."""
    if data is not None:
        own = QuestionsConfig(source=data, heldout_size=0)
    elif own is None and any(config.function == "reasoning_gym" for config in configs):
        own = QuestionsConfig(source="reasoning_gym", params={"name": "chain_sum"}, size=count, heldout_size=0)
    if own is not None:
        train, source = load_questions(own, seed).train, own.source
        found = [train[index] for index in range(0, len(train), max(1, len(train) // count))][:count]
    else:
        own_kind = [SAMPLES[config.function] for config in configs if config.function in SAMPLES]
        found, source = (own_kind[0] if own_kind else sample)(), "the built-in sample"
    rewards.require_columns(found)
    cases = cases_of(found)
    scored = score(rewards, cases, [case.gold or NO_ANSWER for case in cases])
    judged = [question for question, reward in zip(found, scored, strict=True) if not reward.failed]
    if not judged:
        raise DataError(
            f"the reward fails on the right answer of every question of {source}: {why(scored[0])}",
            hint="give questions that it can judge with --data, or mend it",
        )
    return judged[:count], source, len(found) - len(judged)


def _content(word: str, siege: Siege, *, asked: int, source: str, left_out: int, limit: float) -> dict[str, Any]:
    x, failing = siege.exploitability, siege.failing
    return {
        "reward": word,
        "questions": asked,
        "source": source,
        "left_out": left_out,
        "form": siege.form,
        "exploitability": x,
        "worst": siege.worst.name if siege.worst else None,
        "not_separated": siege.not_separated,
        "failing": None if failing is None else {"name": failing.name, "share": failing.failed_share},
        "limit": limit,
        "fell": (x is not None and x > limit) or (failing is not None and failing.failed_share > limit),
        "controls": [_row(found) for found in siege.controls],
        "attacks": [_row(found) for found in siege.attacks],
    }


def _row(found: Found) -> dict[str, Any]:
    names = ("name", "kind", "form", "mean", "exploit", "beats_wrong", "equals_wrong", "reaches_right")
    counted = ("failed", "late", "abstained", "seconds")
    row = {name: getattr(found, name) for name in (*names, *counted)}
    return {**row, "questions": len(found.rewards), "text": found.text[:1000], "detail": found.detail}


def _text(content: dict[str, Any], siege: Siege, *, every: bool) -> str:
    """The table, the figure, and what they come to."""
    attacks = sorted(siege.attacks, key=lambda found: (found.kind == "dressed", -(found.exploit or 0.0), -found.failed))
    earning = [found for found in attacks if every or found.exploit or found.failed or _earns(found)]
    silent = len(attacks) - len(earning)
    left_out = [] if every else earning[SHOWN_ATTACKS:]
    earning = earning[: len(earning) - len(left_out)]
    without = f" ({content['left_out']} left out, on whose right answer it fails)" if content["left_out"] else ""
    lines = [f"{content['reward']}: {content['questions']} questions of {content['source']}{without}"]
    lines.append(_table([*siege.controls, *earning]))
    if left_out:
        lines.append(f"{len(left_out)} more earn something or fail: --all, or --json")
    if silent:
        lines.append(f"{silent} other attacks earn no more than an honest wrong answer, and none fails")
    lines += ["", *_verdict(content, siege)]
    return "\n".join(lines)


def _earns(found: Found) -> bool:
    """Whether it earned anything where there is no honest answer to compare with."""
    return found.exploit is None and bool(found.mean and found.mean > 0)


def _table(rows: Sequence[Found]) -> str:
    heads = ("ANSWER", "KIND", "MEAN", ">=WRONG", ">WRONG", ">=RIGHT", "EXPLOIT", "FAILED", "LATE", "MS", "TEXT")
    cells: list[tuple[str, ...]] = [heads]
    for found in rows:
        shares = (found.equals_wrong, found.beats_wrong, found.reaches_right)
        exploit = "-" if found.exploit is None else f"{found.exploit:.2f}"
        start = repr(found.text[:SHOWN])[1:-1]
        name = f"{found.name} ({found.form})" if found.form and found.kind != "control" else found.name
        cells.append(
            (
                name,
                found.kind,
                "-" if found.mean is None else f"{found.mean:.3f}",
                *("-" if share is None else f"{share:.0%}" for share in shares),
                exploit,
                str(found.failed or "-"),
                str(found.late or "-"),
                f"{found.seconds * 1000:.0f}",
                start if len(start) <= SHOWN else f"{start[: SHOWN - 1]}…",
            )
        )
    return table_text(cells)


def _verdict(content: dict[str, Any], siege: Siege) -> list[str]:
    x, limit, failing = siege.exploitability, content["limit"], siege.failing
    lines = []
    if x is None:
        lines.append("exploitability: cannot be told, since no honest right answer got a reward")
    else:
        worst = f", by: {siege.worst.name}" if siege.worst and x > 0 else ""
        lines.append(f"exploitability {x:.3f} (limit {limit:g}){worst}")
    if siege.not_separated:
        lines.append(
            f"on {siege.not_separated} of {content['questions']} questions an honest right answer "
            f"earns no more than an honest wrong one; beside a reward that tells them apart, weigh this one below it"
        )
    if failing is not None:
        lines.append(
            f"fails on {failing.failed} of {len(failing.rewards)} answers of {failing.name!r} "
            f"(a failed output is left out of the update, so it escapes a low reward): {failing.detail}"
        )
    verdict = "no verdict" if x is None else "the reward holds"
    lines.append("the reward FALLS" if content["fell"] else verdict)
    return lines
