"""Held-out questions: greedy and sampled answers, how many are right, with intervals. Changes no weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from groupwise.config import Recipe
from groupwise.data import Question, Reward, Sample, Sampling
from groupwise.engines.base import Engine, Task, stream
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.record.schema import Answer
from groupwise.rewards.answer import extract
from groupwise.rewards.base import RewardSet, check_failures
from groupwise.train.intervals import bootstrap, majority, pass_at_k, wilson
from groupwise.train.rollout import score

RIGHT = 1.0 - 1e-9
"""A reward part of 1 says right (or well formed)."""
STREAMS_STEP = 2**40
"""Step number in the random streams of evaluation: the same in each evaluation, met by no step of training."""


@dataclass(frozen=True)
class Evaluation:
    """figures: see `evaluate`; answers: one row an output; tokens: sampled in all."""

    figures: dict[str, Any]
    answers: list[Answer]
    tokens: int


def evaluate(
    recipe: Recipe,
    questions: Sequence[Question],
    *,
    tokenizer: ChatTokenizer,
    engine: Engine,
    rewards: RewardSet,
    samples: int,
) -> Evaluation:
    """Answers each question greedily, and `samples` times at the recipe's sampling settings, and scores the answers.

    figures: accuracy, low, high, n (greedy, Wilson's 95 % interval); formed (with its own low, high); length (tokens);
    truncated (share); unjudged, the answers whose reward failed or abstained, left out of n; and for sampled answers
    mean@k, pass@j (j = 1, 2, 4 .. k, unbiased) and maj@k, each {value, low, high}, intervals by bootstrap.
    """
    rows: list[Answer] = []
    for greedy, count in ((True, 1), (False, samples)):
        if count:
            sampling = recipe.rollout.sampling(greedy=greedy)
            answered = _answered(recipe, questions, tokenizer, engine, rewards, sampling, count)
            for question, group in zip(questions, answered, strict=True):
                rows += [_row(recipe, question, -1 if greedy else i, sample) for i, sample in enumerate(group)]
    figures = _greedy_figures([row for row in rows if row.sample < 0])
    if samples:
        figures |= _sampled_figures([row for row in rows if row.sample >= 0], samples)
    return Evaluation(figures, rows, tokens=sum(row.tokens for row in rows))


def correct_label(recipe: Recipe) -> str:
    """The reward function that says whether an answer is right."""
    return recipe.evaluate.correct or recipe.rewards[0].label


def formed_label(recipe: Recipe) -> str | None:
    """The reward function that says whether an answer is well formed, if there is one."""
    others = [reward.label for reward in recipe.rewards if reward.label != correct_label(recipe)]
    return recipe.evaluate.formed or (others[0] if others else None)


def part_value(reward: Reward, label: str | None) -> float | None:
    """What the reward function of that label said; None if it had no value to give."""
    part = reward.parts.get(label) if label else None
    return part.value if part else None


def _answered(
    recipe: Recipe,
    questions: Sequence[Question],
    tokenizer: ChatTokenizer,
    engine: Engine,
    rewards: RewardSet,
    sampling: Sampling,
    count: int,
) -> list[tuple[Sample, ...]]:
    tasks = [
        Task(
            tuple(tokenizer.encode(q.messages)),
            tuple(stream(recipe.seed, STREAMS_STEP, q.id, number) for number in range(count)),
        )
        for q in questions
    ]
    outputs = engine.generate(tasks, sampling)
    scored = score(rewards, questions, outputs, step=STREAMS_STEP)
    check_failures([sample.reward for group in scored for sample in group], recipe.run.failed_rewards_limit)
    return scored


def _row(recipe: Recipe, question: Question, number: int, sample: Sample) -> Answer:
    return Answer(
        question_id=question.id,
        sample=number,
        text=sample.output.text,
        correct=part_value(sample.reward, correct_label(recipe)),
        formed=part_value(sample.reward, formed_label(recipe)),
        finish=sample.output.finish,
        tokens=len(sample.output.tokens),
    )


def _greedy_figures(rows: list[Answer]) -> dict[str, Any]:
    judged = [row.correct >= RIGHT for row in rows if row.correct is not None]
    accuracy = wilson(sum(judged), len(judged))
    figures: dict[str, Any] = {"accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high, "n": accuracy.n}
    formed = [row.formed >= RIGHT for row in rows if row.formed is not None]
    if formed:
        share = wilson(sum(formed), len(formed))
        figures["formed"] = {"value": share.value, "low": share.low, "high": share.high}
    return figures | {
        "length": float(np.mean([row.tokens for row in rows])) if rows else float("nan"),
        "truncated": float(np.mean([row.finish == "length" for row in rows])) if rows else float("nan"),
        "unjudged": len(rows) - len(judged),
    }


def _sampled_figures(rows: list[Answer], samples: int) -> dict[str, Any]:
    """mean@k, pass@j and maj@k over the questions whose every sample could be judged."""
    right: list[list[bool]] = []
    votes: list[float] = []
    for _, found in groupby(rows, key=lambda row: row.question_id):
        group = list(found)
        verdicts = [row.correct >= RIGHT for row in group if row.correct is not None]
        if len(verdicts) == len(group):
            right.append(verdicts)
            votes.append(majority([extract(row.text) for row in group], verdicts))
    values = {f"mean@{samples}": [float(np.mean(verdicts)) for verdicts in right]}
    for k in sorted({2**power for power in range(samples.bit_length()) if 2**power < samples} | {samples}):
        values[f"pass@{k}"] = [pass_at_k(sum(verdicts), samples, k) for verdicts in right]
    values[f"maj@{samples}"] = votes
    figures = {name: bootstrap(numbers) for name, numbers in values.items()}
    return {name: {"value": f.value, "low": f.low, "high": f.high} for name, f in figures.items()}
