"""Figures over held-out questions with their 95 % intervals. Knows numbers only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import comb, isnan, sqrt
from typing import Any, NamedTuple

import numpy as np

Z95 = 1.959963984540054
RESAMPLES = 2000


class Figure(NamedTuple):
    """A share between 0 and 1 with the ends of its 95 % interval, over n questions."""

    value: float
    low: float
    high: float
    n: int


def shown(figure: Mapping[str, Any]) -> str:
    """A figure with `value`, `low` and `high` as a table shows it; - where nothing could be measured."""
    if figure["value"] is None or isnan(figure["value"]):
        return "-"
    return f"{figure['value']:.1%} ({figure['low']:.1%} to {figure['high']:.1%})"


def wilson(right: int, n: int) -> Figure:
    """Share of right answers with Wilson's score interval (1927), which stays sound near 0 and 1. nan for n = 0."""
    if n == 0:
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    share, square = right / n, Z95**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = Z95 / (1 + square / n) * sqrt(share * (1 - share) / n + square / (4 * n * n))
    return Figure(share, max(0.0, centre - half), min(1.0, centre + half), n)


def bootstrap(values: Sequence[float], seed: int = 0) -> Figure:
    """Mean of one value per question, with the percentile bootstrap over questions (2,000 resamples)."""
    if not values:
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(array), (RESAMPLES, len(array)))
    low, high = np.quantile(array[draws].mean(1), (0.025, 0.975))
    return Figure(float(array.mean()), float(low), float(high), len(array))


def pass_at_k(right: int, n: int, k: int) -> float:
    """Chance that one of k answers drawn from n without replacement is right, `right` of the n being so.

    1 - C(n - right, k) / C(n, k), unbiased (Chen et al. 2021, equation 1).
    """
    return 1.0 - comb(n - right, k) / comb(n, k)


def majority(answers: Sequence[str], right: Sequence[bool]) -> float:
    """1 if the most frequent answer is right, 0 if not; among equally frequent ones their mean (cons@k, maj@k).

    answers: the final answer of each output, as extracted; one that is empty has no vote.
    """
    votes = Counter(answer for answer in answers if answer)
    if not votes:
        return 0.0
    most = max(votes.values())
    verdict = dict(zip(answers, right, strict=True))
    return float(np.mean([verdict[answer] for answer, count in votes.items() if count == most]))
