"""Rewards and questions held against each other before a model is loaded: columns, and answers to compare with."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from groupwise import registry
from groupwise.config import RewardConfig
from groupwise.data import Output, Question
from groupwise.errors import ConfigError, DataError
from groupwise.objective.surrogate import Objective, reads
from groupwise.rewards.base import RewardSet, first_scored, scores
from groupwise.rewards.judging.rubric import reads_answer

ANSWERED = ("math", "exact", "number", "multiple_choice", "captured", "edit_similarity", "cosine_length")
"""Built-in rewards that compare with the question's answer."""
TESTED = ("code",)
"""Built-in rewards that judge by the question's tests."""
TRIED = 2000
"""Questions, evenly spaced, whose answers each of these rewards is asked to read."""
_REMEDY = {
    "answer": "give questions.answer_column or the reward's params their right values",
    "tests": "give the row its tests, drop it, or name the column with the tests: params.tests (docs/code.md)",
}


def require_answers(configs: Sequence[RewardConfig], rewards: RewardSet, *parts: Sequence[Question]) -> None:
    """Raises DataError for a column that a function wants and no question has, a question that no function scores, or
    an answer that a built-in reward cannot compare with, with its file and line.

    Every question's answer must be there and be one text or number; the reward itself is asked to read the answers of
    TRIED questions. parts: train and held-out questions.
    """
    questions = [part for part in parts if part]
    rewards.require_columns(_all(questions))
    _require_a_reward(configs, _all(questions))
    for config in configs:
        shown = reads_answer(config.function, config.params)
        if config.function not in (*ANSWERED, *TESTED) and not shown:
            continue
        own = (question for question in _all(questions) if scores(config, question))
        for question in own if config.function in ANSWERED or shown else ():
            wrong = _wrong(question.answer)
            if wrong is not None:
                raise DataError(
                    f"{_place(question)}: {wrong}, and reward {config.label!r} compares with it",
                    hint="fill it in, drop the row, or name the column with the answers: questions.answer_column",
                )
        if shown:  # a judge is not asked about so many questions
            continue
        for question, why in rewards.failed_on(config.label, _some(questions, config)):
            raise DataError(
                f"{_place(question)}: reward {config.label!r} cannot judge it: {why}",
                hint=_REMEDY["tests" if config.function in TESTED else "answer"],
            )


def check_functions(
    configs: Sequence[RewardConfig],
    rewards: RewardSet,
    questions: Sequence[Question],
    objective: Objective | None = None,
) -> None:
    """Raises DataError if a built-in reward cannot judge even an empty output: its answer or its params are wrong.

    A function of the user's own may have reasons to fail on one, or to see no steps in it, so it is not asked to pass
    this. Raises ConfigError if the advantage reads step rewards and all functions are built-ins that give none.
    """
    asked = [first_scored(config, questions, where=f"rewards[{index}]") for index, config in enumerate(configs)]
    distinct = {question.id: question for question in asked}
    nothing = np.zeros(0, np.int32)
    empty = Output(nothing, nothing, nothing.astype(bool), nothing.astype(np.float32), text="", finish="stop")
    judged = rewards.score(list(distinct.values()), [empty] * len(distinct), decode=lambda _: "")
    scored = dict(zip(distinct, judged, strict=True))
    for config, question in zip(configs, asked, strict=True):
        part = scored[question.id].parts[config.label]
        own = config.function in registry.REWARDS and config.function != "environment"  # which judges no output of none
        if own and part.state == "failed":
            why, where = part.detail.rpartition("\n")[2], f"{question.where}: " if question.where else ""
            raise DataError(
                f"{where}reward {config.label!r} cannot judge question {question.id!r}: {why}",
                hint=_REMEDY["tests" if config.function in TESTED else "answer"],
            )
    if objective is None:
        return
    built_in = all(config.function in registry.REWARDS for config in configs)
    stepless = all(reward.steps is None for reward in judged)
    if "step_rewards" in reads(objective.advantage) and stepless and built_in:
        raise ConfigError(
            f"objective.advantage = {objective.advantage.__name__!r} reads the "
            f"rewards of steps, and none of {', '.join(config.label for config in configs)} gives any",
            hint="choose a reward that does, for example equations, or another preset (docs/rewards.md)",
        )


def _require_a_reward(configs: Sequence[RewardConfig], questions: Iterable[Question]) -> None:
    """Raises DataError for a question that no function scores."""
    if any(not config.parts and not config.sources for config in configs):
        return
    for question in questions:
        if not any(scores(config, question) for config in configs):
            kinds = {name: question.meta[name] for name in ("part", "data_source") if name in question.meta}
            of = " of " + " and ".join(f"{name} {value!r}" for name, value in kinds.items()) if kinds else ""
            raise DataError(
                f"{_place(question)}{of}: no reward scores it",
                hint=f"add it to `parts` or `sources` of {', '.join(config.label for config in configs)}, or drop it",
            )


def _all(parts: Iterable[Sequence[Question]]) -> Iterator[Question]:
    return chain.from_iterable(parts)


def _some(parts: Sequence[Sequence[Question]], config: RewardConfig) -> list[Question]:
    """TRIED questions at most, evenly spaced over all."""
    every = max(1, -(-sum(map(len, parts)) // TRIED))
    some = [part[index] for part in parts for index in range(0, len(part), every)]
    return [question for question in some if scores(config, question)]


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
