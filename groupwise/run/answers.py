"""Rewards and questions held against each other before a model is loaded: columns, and answers to compare with."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from groupwise.config import RewardConfig
from groupwise.data import Question
from groupwise.errors import DataError
from groupwise.rewards.base import RewardSet, scores

ANSWERED = ("math", "exact", "number")
"""Built-in rewards that compare with the question's answer."""
TRIED = 2000
"""Questions, evenly spaced, whose answers each of these rewards is asked to read."""


def require_answers(configs: Sequence[RewardConfig], rewards: RewardSet, *parts: Sequence[Question]) -> None:
    """Raises DataError for a column that a function wants and no question has, or an answer that a built-in reward
    cannot compare with, with its file and line.

    Every question's answer must be there and be one text or number; the reward itself is asked to read the answers of
    TRIED questions. parts: train and held-out questions.
    """
    questions = [part for part in parts if part]
    rewards.require_columns(_all(questions))
    for config in configs:
        if config.function not in ANSWERED:
            continue
        own = (question for question in _all(questions) if scores(config.parts, question))
        for question in own:
            wrong = _wrong(question.answer)
            if wrong is not None:
                raise DataError(
                    f"{_place(question)}: {wrong}, and reward {config.label!r} compares with it",
                    hint="fill it in, drop the row, or name the column with the answers: questions.answer_column",
                )
        for question, why in rewards.failed_on(config.label, _some(questions, config.parts)):
            raise DataError(
                f"{_place(question)}: reward {config.label!r} cannot judge it: {why}",
                hint="give questions.answer_column or the reward's params their right values",
            )


def _all(parts: Iterable[Sequence[Question]]) -> Iterator[Question]:
    return chain.from_iterable(parts)


def _some(parts: Sequence[Sequence[Question]], wanted: Sequence[str]) -> list[Question]:
    """TRIED questions at most, evenly spaced over all."""
    every = max(1, -(-sum(map(len, parts)) // TRIED))
    some = [part[index] for part in parts for index in range(0, len(part), every)]
    return [question for question in some if scores(wanted, question)]


def _place(question: Question) -> str:
    return f"{question.where}: question {question.id!r}" if question.where else f"question {question.id!r}"


def _wrong(answer: Any) -> str | None:
    """What is wrong with an answer that is to be compared with; None: nothing that its kind tells."""
    if answer is None or (isinstance(answer, str) and not answer.strip()):
        return "it has no answer"
    if isinstance(answer, float) and (answer != answer or answer in (float("inf"), float("-inf"))):
        return f"its answer {answer!r} is no finite number"
    alone = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
    if isinstance(alone, dict | list | bytes):
        return f"its answer {repr(answer)[:60]} is {type(answer).__name__}, not one text or number"
    return None
