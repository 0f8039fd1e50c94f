"""Accuracy against sampled tokens: one answer, a vote, the best by a reward, a search. Knows scored samples only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from groupwise.config import Recipe
from groupwise.data import Sample
from groupwise.rewards.answer import extract
from groupwise.rollout.evaluate import Evaluation, figure_of, is_right, powers_up_to, share_of
from groupwise.statistics.intervals import Figure, majority

Choice = Callable[[Sequence[Sample]], float | None]
"""(samples of a question) -> 1 if what is answered with is right, 0 if it is wrong, None if that is not known."""


@dataclass(frozen=True)
class Point:
    """What a way to answer comes to. n: samples, or simulations; tokens: sampled for an answer, mean over questions.

    value, low, high: share of right answers with its 95 % interval, Wilson's for one answer a question, else by
    bootstrap over the questions.
    """

    method: str
    n: int
    tokens: float
    value: float
    low: float
    high: float
    questions: int


def best_of(recipe: Recipe, label: str) -> Choice:
    """Answers with the sample of the highest value of a reward, the first among equals; one without a value is none."""

    def choice(samples: Sequence[Sample]) -> float | None:
        valued = [(value, s) for s in samples if (value := s.reward.value_of(label)) is not None]
        return is_right(recipe, max(valued, key=lambda pair: pair[0])[1].reward) if valued else None

    return choice


def vote(recipe: Recipe) -> Choice:
    """Answers with the most frequent final answer (majority vote, cons@k); equally frequent ones give their mean."""

    def choice(samples: Sequence[Sample]) -> float | None:
        verdicts = [is_right(recipe, sample.reward) for sample in samples]
        if None in verdicts:
            return None
        return majority([extract(s.output.text) for s in samples], [verdict == 1.0 for verdict in verdicts])

    return choice


def in_blocks(choice: Choice, samples: Sequence[Sample], size: int) -> float | None:
    """Mean of a choice over the blocks of `size` samples that do not overlap: each sample is used once.

    None if one of the blocks has no answer that could be judged.
    """
    starts = range(0, len(samples) - size + 1, size)
    found = [choice(samples[start : start + size]) for start in starts]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if len(known) == len(found) else None


def curve(
    recipe: Recipe, evaluation: Evaluation, *, label: str | None, searched: Mapping[int, Sequence[tuple[Sample, int]]]
) -> list[Point]:
    """The greedy answer, the vote and the best of 1, 2, 4 .. k samples, and the search's after 1, 2, 4 .. simulations.

    label: the reward that chooses the best; None: no such row. searched: by simulations the answers with their tokens.
    """
    greedy = evaluation.greedy
    points = [_point("greedy", 1, [s.output.drawn for s in greedy], share_of(evaluation.values["accuracy"]))]
    ways = {"majority": vote(recipe)}
    if label is not None:
        ways[f"best by {label}"] = best_of(recipe, label)
    counts = powers_up_to(len(evaluation.sampled[0]) if evaluation.sampled else 0)
    for method, choice in ways.items():
        for n in counts:
            tokens = [n * float(np.mean([s.output.drawn for s in group])) for group in evaluation.sampled]
            right = figure_of([in_blocks(choice, group, n) for group in evaluation.sampled])
            points.append(_point(method, n, tokens, right))
    for n, found in searched.items():
        right = share_of([is_right(recipe, sample.reward) for sample, _ in found])
        points.append(_point("search", n, [tokens for _, tokens in found], right))
    return points


def _point(method: str, n: int, tokens: Sequence[float], right: Figure) -> Point:
    return Point(method, n, float(np.mean(tokens)), right.value, right.low, right.high, right.n)
