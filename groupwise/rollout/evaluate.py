"""Held-out questions: greedy and sampled answers, how many are right, with intervals. Changes no weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from groupwise.activity import doing
from groupwise.config import Recipe
from groupwise.data import Question, Reward, Sample, Sampling
from groupwise.engines.base import Engine, stream
from groupwise.envs.episode import environments_of
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.record.schema import Answer
from groupwise.rewards.answer import extract
from groupwise.rewards.base import RewardSet, check_failures
from groupwise.rollout.episodes import play
from groupwise.rollout.groups import score
from groupwise.statistics.intervals import Figure, bootstrap, majority, pass_at_k, wilson

RIGHT = 1.0 - 1e-9
"""A reward part of 1 says right (or well formed)."""
STREAMS_STEP = 2**40
"""Step number in the random streams of evaluation: the same in each evaluation, met by no step of training."""
Values = dict[str, list[float | None]]
"""By a figure's key one value a question, in their order; None: the question could not be judged."""


@dataclass(frozen=True)
class Evaluation:
    """figures: see `evaluate`; answers: one row an output; tokens: sampled in all.

    greedy, sampled: the scored outputs, question by question. values: what the figures are the means of.
    """

    figures: dict[str, Any]
    answers: list[Answer]
    tokens: int
    greedy: tuple[Sample, ...]
    sampled: tuple[tuple[Sample, ...], ...]
    values: Values


def evaluate(
    recipe: Recipe,
    questions: Sequence[Question],
    *,
    tokenizer: ChatTokenizer,
    engine: Engine,
    rewards: RewardSet,
    samples: int,
    step: int = 0,
) -> Evaluation:
    """Answers each question greedily, and `samples` times at the recipe's sampling settings, and scores the answers.

    step: steps that the policy has done, for the reward functions.
    figures: accuracy, low, high, n (greedy, Wilson's 95 % interval); format (with its own low, high); length (tokens);
    truncated (share); turns (the policy's in an episode, mean, where there are several); unjudged, the answers
    whose reward failed or abstained, left out of n; reward/<label>, the mean
    of each reward function over the greedy answers that it gave a value; and for sampled answers mean@k, pass@j
    (j = 1, 2, 4 .. k, unbiased) and maj@k. Of the last four each is {value, low, high, n}, by bootstrap over questions.
    """
    found: dict[bool, list[tuple[Sample, ...]]] = {True: [], False: []}
    assert recipe.rollout is not None
    for greedy, count in ((True, 1), (False, samples)):
        if count:
            sampling = recipe.rollout.sampling(greedy=greedy)
            found[greedy] = answered(
                recipe,
                questions,
                tokenizer=tokenizer,
                engine=engine,
                rewards=rewards,
                sampling=sampling,
                count=count,
                step=step,
            )
    greedy_answers = tuple(group[0] for group in found[True])
    values = greedy_values(recipe, greedy_answers)
    figures = _greedy_figures(greedy_answers, values)
    if samples:
        of_samples = _sampled_values(recipe, found[False], samples)
        figures |= {key: figure_of(some)._asdict() for key, some in of_samples.items()}
        values |= of_samples
    rows = [
        _row(recipe, question, -1 if greedy else i, sample)
        for greedy, groups in found.items()
        for question, group in zip(questions, groups or [()] * len(questions), strict=True)
        for i, sample in enumerate(group)
    ]
    tokens = sum(row.tokens for row in rows)
    return Evaluation(figures, rows, tokens, greedy_answers, tuple(found[False]), values)


def is_right(recipe: Recipe, reward: Reward) -> float | None:
    """1 for a right answer, 0 for a wrong one, None if it could not be judged."""
    return _verdict(reward.value_of(recipe.correct_label))


def figure_of(values: Sequence[float | None]) -> Figure:
    """Mean over the questions that have a value, with its interval by bootstrap."""
    return bootstrap([value for value in values if value is not None])


def share_of(values: Sequence[float | None]) -> Figure:
    """Share of ones among the values, each 0 or 1, that there are, with Wilson's interval."""
    judged = [value for value in values if value is not None]
    return wilson(sum(value == 1.0 for value in judged), len(judged))


def greedy_values(recipe: Recipe, samples: Sequence[Sample]) -> Values:
    """Of one answer a question: accuracy, format, and reward/<label> of each reward function."""
    values: Values = {"accuracy": [is_right(recipe, sample.reward) for sample in samples]}
    formats = [_verdict(sample.reward.value_of(recipe.evaluate.format)) for sample in samples]
    if any(value is not None for value in formats):
        values["format"] = formats
    for label in (reward.label for reward in recipe.rewards):
        values[f"reward/{label}"] = [sample.reward.value_of(label) for sample in samples]
    return values


def answered(
    recipe: Recipe,
    questions: Sequence[Question],
    *,
    tokenizer: ChatTokenizer,
    engine: Engine,
    rewards: RewardSet,
    sampling: Sampling,
    count: int,
    step: int = 0,
) -> list[tuple[Sample, ...]]:
    """`count` scored answers to each question. Raises RewardLimitError if too many rewards failed."""
    assert recipe.rollout is not None
    streams = [[stream(recipe.seed, STREAMS_STEP, q.id, number) for number in range(count)] for q in questions]
    with doing("sampling", len(questions) * count, "outputs"):
        played = play(
            tokenizer,
            questions,
            streams,
            engine=engine,
            sampling=sampling,
            environments=environments_of(recipe.rollout),
        )
    with doing("rewards"):
        scored = score(rewards, questions, played, step=step)
    check_failures([sample.reward for group in scored for sample in group], recipe.run.failed_rewards_limit)
    return scored


def powers_up_to(most: int) -> list[int]:
    """1, 2, 4 and so on, and last the number itself; none for 0."""
    return sorted({2**power for power in range(most.bit_length()) if 2**power < most} | {most}) if most else []


def _verdict(value: float | None) -> float | None:
    return None if value is None else float(value >= RIGHT)


def _row(recipe: Recipe, question: Question, number: int, sample: Sample) -> Answer:
    return Answer(
        question_id=question.id,
        sample=number,
        text=sample.output.text,
        correct=sample.reward.value_of(recipe.correct_label),
        format=sample.reward.value_of(recipe.evaluate.format),
        finish=sample.output.finish,
        tokens=sample.output.drawn,
        messages=sample.output.messages,
        spans=sample.output.spans,
        outcome=sample.output.outcome,
    )


def _greedy_figures(samples: Sequence[Sample], values: Values) -> dict[str, Any]:
    accuracy, form = (share_of(values.get(key, ())) for key in ("accuracy", "format"))
    figures: dict[str, Any] = {"accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high, "n": accuracy.n}
    if form.n:
        figures["format"] = {"value": form.value, "low": form.low, "high": form.high}
    lengths, cut = [s.output.drawn for s in samples], [s.output.finish == "length" for s in samples]
    figures |= {
        "length": float(np.mean(lengths)) if samples else float("nan"),
        "truncated": float(np.mean(cut)) if samples else float("nan"),
        "unjudged": len(samples) - accuracy.n,
    }
    turns = [sum(message.role == "assistant" for message in s.output.messages) for s in samples if s.output.messages]
    if turns:
        figures["turns"] = float(np.mean(turns))
    rewards = {key: some for key, some in values.items() if key.startswith("reward/")}
    return figures | {key: figure_of(some)._asdict() for key, some in rewards.items()}


def _sampled_values(recipe: Recipe, groups: Sequence[Sequence[Sample]], samples: int) -> Values:
    """mean@k, pass@j and maj@k of the questions whose every sample could be judged."""
    counts = powers_up_to(samples)
    keys = [f"mean@{samples}", *(f"pass@{k}" for k in counts), f"maj@{samples}"]
    values: Values = {key: [] for key in keys}
    for group in groups:
        verdicts = [is_right(recipe, sample.reward) for sample in group]
        right = [verdict == 1.0 for verdict in verdicts]
        found: list[float | None] = [None] * len(keys)
        if None not in verdicts:
            passed = [pass_at_k(sum(right), samples, k) for k in counts]
            found = [
                float(np.mean(right)),
                *passed,
                majority([extract(s.output.opening + s.output.text) for s in group], right),
            ]
        for key, value in zip(keys, found, strict=True):
            values[key].append(value)
    return values
