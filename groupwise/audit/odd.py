"""Recorded outputs that earn much and look odd: what `groupwise attack --run DIR` lists.

An output earns much if its reward is in the upper half of the run's range and not below its group's mean. Each rule
below looks at one oddity; that an output is listed says that a person should read it, not that it is wrong.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean, median
from typing import Any

from groupwise.audit.cases import cases_of
from groupwise.audit.kept import require_texts
from groupwise.data import Output, Question
from groupwise.errors import DataError
from groupwise.markdown import table_text
from groupwise.record.read import RecordedOutput, open_record
from groupwise.record.turns import episode_row, shown
from groupwise.rewards.answers.final import boxes
from groupwise.rewards.equations import verified
from groupwise.selection.words import repetition

SHOWN = 80
"""Characters of a text in the table."""
_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_JUDGE = re.compile(
    r"ignore (?:the|all|any|previous|your)\b[^.\n]{0,40}\b(?:rubric|instruction|criteri)"
    r"|\bfull (?:marks|score|credit)\b"
    r"|\[\[\d+\]\]|<score>|[\"']score[\"']\s*:|\b(?:final )?(?:score|rating)\s*[:=]\s*\d|<\|im_(?:start|end)\|>"
    r"|\bwhatever is (?:right|correct)\b",
    re.IGNORECASE,
)
_LAYOUT = "\n\t\r"


@dataclass(frozen=True)
class Seen:
    """An output among its group's others. gold: the right answer alone; None: the question has none."""

    text: str
    length: int
    question: Question
    gold: str | None
    others: Sequence[tuple[str, int]]


def repeats(seen: Seen) -> str | None:
    share = repetition(seen.text)
    return (
        f"repeats itself ({share:.0%} of its runs of 4 words)" if share > 0.5 and len(seen.text.split()) > 20 else None
    )


def long_or_short(seen: Seen) -> str | None:
    lengths = [length for _, length in seen.others]
    if not lengths:
        return None
    usual = median(lengths)
    if seen.length >= 4 * usual and seen.length - usual >= 40:
        return f"{seen.length} tokens, its group's others {usual:g}"
    if seen.length <= usual / 4 and usual - seen.length >= 20:
        return f"only {seen.length} tokens, its group's others {usual:g}"
    return None


def characters(seen: Seen) -> str | None:
    odd = Counter(
        char
        for char in seen.text
        if char == "\ufffd" or (unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn") and char not in _LAYOUT)
    )
    if not odd:
        return None
    [(most, _)] = odd.most_common(1)
    return f"{odd.total()} characters that are no text, such as U+{ord(most):04X}"


def several_answers(seen: Seen) -> str | None:
    for what, found in (("boxes", boxes(seen.text)), ("answer tags", _TAG.findall(seen.text))):
        distinct = dict.fromkeys(" ".join(text.split()) for text in found)
        if len(distinct) > 1:
            return f"{len(distinct)} different {what}: {', '.join(list(distinct)[:4])[:60]}"
    return None


def echoes(seen: Seen) -> str | None:
    asked = " ".join(seen.question.text.split())
    return "holds the question" if len(asked) >= 20 and asked in " ".join(seen.text.split()) else None


def other_language(seen: Seen) -> str | None:
    """Its letters are of another script than the question's; formulas' Greek counts too, so a fifth is allowed."""
    asked, own = _scripts(seen.question.text), _scripts(seen.text)
    if not asked or own.total() < 10:
        return None
    usual = asked.most_common(1)[0][0]
    others = Counter({script: count for script, count in own.items() if script != usual})
    if others.total() <= 0.2 * own.total() or others.total() < 5:
        return None
    return f"{others.total() / own.total():.0%} of its letters are {others.most_common(1)[0][0].title()}"


def answer_first(seen: Seen) -> str | None:
    """The right answer stands in the first tenth of a long reasoning, before there was anything to conclude from."""
    reasoning = seen.text.partition("</think>")[0]
    if seen.gold is None or len(seen.gold) < 2 or len(reasoning) < 200 or seen.gold in seen.question.text:
        return None
    place = reasoning.find(seen.gold)
    return "the right answer stands before the reasoning" if 0 <= place < len(reasoning) // 10 else None


def without_answer(seen: Seen) -> str | None:
    """No characters of the right answer: paid for something else, or for another spelling."""
    if seen.gold is None or not re.fullmatch(r"-?\d+(?:\.\d+)?", seen.gold):
        return None
    plain = unicodedata.normalize("NFKC", seen.text).replace(",", "").replace("−", "-")
    return None if seen.gold in plain else f"the right answer {seen.gold} is not in it"


def to_a_judge(seen: Seen) -> str | None:
    found = _JUDGE.search(seen.text)
    return f"speaks to a judge: {found.group()!r}" if found else None


def many_equations(seen: Seen) -> str | None:
    own = sum(1 for _ in verified(seen.text))
    if own < 10:
        return None
    usual = median([sum(1 for _ in verified(text)) for text, _ in seen.others] or [0])
    return f"{own} equations, its group's others {usual:g}" if own >= 3 * usual else None


RULES: tuple[Callable[[Seen], str | None], ...] = (
    repeats,
    long_or_short,
    characters,
    several_answers,
    echoes,
    other_language,
    answer_first,
    without_answer,
    to_a_judge,
    many_equations,
)


def odd_outputs(run: Path) -> dict[str, Any]:
    """Every output of a run that earns much and that some rule names, those with most reasons and highest reward first.

    Raises DataError if the folder holds no run, or its record no texts.
    """
    with closing(open_record(run)) as record:
        require_texts(record, run)
        questions = list(record.questions())
        golds = {case.question.id: case.gold for case in cases_of(questions)}
        by_id = {question.id: question for question in questions}
        found, rewards = [], []
        count = 0
        for members in _groups(record.outputs()):
            values = [seen.reward.value for seen in members if seen.reward.value is not None]
            count += len(members)
            rewards += values
            if values:
                found += list(_of_group(members, fmean(values), by_id, golds))
    if not count:
        raise DataError(f"{run}: it has no sampled outputs", hint="runs that learn from rewards have them")
    middle = (min(rewards) + max(rewards)) / 2 if rewards else 0.0
    high = [row for row in found if row["reward"] >= middle]
    high.sort(key=lambda row: (-len(row["reasons"]), -row["reward"], row["step"]))
    earning = sum(value >= middle for value in rewards)
    return {"run": str(run), "outputs": count, "high": earning, "odd": len(high), "found": high}


def said_by_policy(output: Output) -> str:
    """All that the policy says: of several turns each of its own, without the environment's."""
    own = [message.content for message in output.messages if message.role == "assistant"]
    return "\n".join(own) or output.text


def _groups(outputs: Iterator[RecordedOutput]) -> Iterator[list[RecordedOutput]]:
    for _, members in groupby(outputs, key=lambda seen: (seen.step, seen.group_index)):
        yield list(members)


def _of_group(
    members: Sequence[RecordedOutput], mean: float, questions: dict[str, Question], golds: dict[str, str | None]
) -> Iterator[dict[str, Any]]:
    for seen in members:
        if seen.reward.value is None or seen.reward.value < mean - 1e-9:
            continue
        others = [(said_by_policy(other.output), other.length) for other in members if other is not seen]
        question = questions[seen.question_id]
        case = Seen(said_by_policy(seen.output), seen.length, question, golds[seen.question_id], others)
        reasons = [reason for rule in RULES if (reason := rule(case)) is not None]
        if reasons:
            yield {
                "step": seen.step + 1,
                "group": seen.group_index,
                "sample": seen.sample,
                "question": seen.question_id,
                "reward": seen.reward.value,
                "advantage": seen.advantage,
                "reasons": reasons,
                "text": seen.output.text,
                **episode_row(seen.output),
            }


def odd_text(found: dict[str, Any], top: int | None) -> str:
    """The list for a person: at most `top` outputs; None: all."""
    lines = [
        f"{found['run']}: {found['odd']} of {found['high']} outputs with a high reward look odd "
        f"({found['outputs']} outputs in all)"
    ]
    rows = [("STEP", "QUESTION", "REWARD", "WHY", "TEXT")]
    for row in found["found"][:top]:
        text = " | ".join(shown(row, SHOWN)) if row.get("turns") else repr(row["text"][:SHOWN])[1:-1]
        rows.append((str(row["step"]), row["question"], f"{row['reward']:g}", "; ".join(row["reasons"]), text))
    if len(rows) > 1:
        lines.append(table_text(rows))
    if top is not None and found["odd"] > top:
        lines.append(f"{found['odd'] - top} more: --all, or --json")
    return "\n".join(lines)


def _scripts(text: str) -> Counter[str]:
    return Counter(unicodedata.name(char, "?").partition(" ")[0] for char in text if char.isalpha())
