"""Figures over held-out questions with their 95 % intervals. Knows numbers only."""

from collections.abc import Hashable, Mapping, Sequence
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


def figure_in(figures: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A figure of an evaluation as {value, low, high}, of a plain number the value alone; value None: not measured."""
    if key == "accuracy":  # its interval stands beside it
        return {"value": figures.get(key), "low": figures.get("low"), "high": figures.get("high")}
    found = figures.get(key)
    return found if isinstance(found, Mapping) else {"value": found}


def wilson(right: float, n: int) -> Figure:
    """Share of right answers with Wilson's score interval (1927), which stays sound near 0 and 1. nan for n = 0.

    right: a tie may count half.
    """
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


def balanced(right: Sequence[float], kinds: Sequence[bool], questions: Sequence[Hashable], *, seed: int = 0) -> Figure:
    """0.5 (share right of the one kind + share right of the other): 1/2 for who says the same of all.

    right: 1, 0, or 1/2 for a tie; kinds and questions: of each answer. The interval is the percentile bootstrap over
    questions, since answers to one stand or fall together; a resample without one of the kinds is left out. nan without
    both kinds. n: answers.
    """
    if len(set(kinds)) < 2:
        return Figure(float("nan"), float("nan"), float("nan"), len(right))
    row_of = {question: row for row, question in enumerate(dict.fromkeys(questions))}
    sums, counts = np.zeros((len(row_of), 2)), np.zeros((len(row_of), 2))
    for value, kind, question in zip(right, kinds, questions, strict=True):
        sums[row_of[question], int(kind)] += value
        counts[row_of[question], int(kind)] += 1
    draws = np.random.default_rng(seed).integers(0, len(row_of), (RESAMPLES, len(row_of)))
    met, held = sums[draws].sum(1), counts[draws].sum(1)
    both = (held > 0).all(1)
    low, high = np.quantile((met[both] / held[both]).mean(1), (0.025, 0.975))
    return Figure(float((sums.sum(0) / counts.sum(0)).mean()), float(low), float(high), len(right))


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test (1947): would so uneven a split of the n changed questions be chance?

    only_first, only_second: questions that the one, or the other alone answered right; the rest says nothing.
    2 sum_{i <= least} C(n, i) / 2^n, at most 1, which it is for n = 0.
    """
    n, least = only_first + only_second, min(only_first, only_second)
    return min(1.0, 2 * sum(comb(n, i) for i in range(least + 1)) / 2**n)


def calibration(confidence: Sequence[float], right: Sequence[float], *, low: float, bins: int) -> dict[str, Any]:
    """Expected calibration error (arXiv:1706.04599, equation 3): sum over bins of n_b / n |share right - confidence|.

    confidence: of each judgement, from `low` to 1, in so many bins of equal width; right: 1, 0, or 1/2 for a tie.
    Returns `value`, and of each bin that is not empty its ends, its means and its n.
    """
    stated, met = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    place = np.minimum(((stated - low) / (1 - low) * bins).astype(int), bins - 1)
    width = (1 - low) / bins
    found = [
        {
            "low": low + b * width,
            "high": low + (b + 1) * width,
            "confidence": float(stated[place == b].mean()),
            "right": float(met[place == b].mean()),
            "n": int((place == b).sum()),
        }
        for b in sorted(set(place.tolist()))
    ]
    error = sum(b["n"] * abs(b["right"] - b["confidence"]) for b in found) / max(1, len(stated))
    return {"value": error, "bins": found}


def pass_at_k(right: int, n: int, k: int) -> float:
    """Chance that one of k answers drawn from n without replacement is right, `right` of the n being so.

    1 - C(n - right, k) / C(n, k), unbiased (Chen et al. 2021, equation 1).
    """
    return 1.0 - comb(n - right, k) / comb(n, k)


def majority(answers: Sequence[str], right: Sequence[bool]) -> float:
    """1 if the most frequent answer is right, 0 if not; among equally frequent ones their mean (cons@k, maj@k).

    answers: the final answer of each output, as extracted; one that is empty has no vote. An answer that was judged
    both ways, as where a reward reads more than it, counts by the share of its outputs that were called right.
    """
    verdicts: dict[str, list[bool]] = {}
    for answer, verdict in zip(answers, right, strict=True):
        if answer:
            verdicts.setdefault(answer, []).append(verdict)
    if not verdicts:
        return 0.0
    most = max(map(len, verdicts.values()))
    return float(np.mean([np.mean(found) for found in verdicts.values() if len(found) == most]))
