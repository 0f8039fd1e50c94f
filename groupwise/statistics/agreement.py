"""How two scores of the same things agree: correlations, Cohen's kappa, order within groups. Knows numbers only."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

LARGEST_GROUP = 200
"""Members of a group whose pairs are compared; of a larger one, as many of its first ones."""


@dataclass(frozen=True)
class Groups:
    """Shares of the groups with two members or more. sign: some advantage (value less the group's mean) changes sign;
    order: some pair changes order. n: such groups; signal_first, signal_second: those in which values differ."""

    n: int
    sign: float | None
    order: float | None
    signal_first: int
    signal_second: int


def pearson(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's r, -1 to 1; None if either has one value only, or there are fewer than two."""
    a, b = (np.asarray(side, np.float64) for side in (first, second))
    if len(a) < 2:
        return None
    a, b = (side / (np.abs(side).max() or 1.0) for side in (a, b))  # so that squares of large values stay finite
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return None if scale < 1e-15 else max(-1.0, min(1.0, float(a @ b) / scale))


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rho: Pearson's r of the ranks, where equal values share the mean of theirs."""
    return pearson(ranks(first), ranks(second))


def ranks(values: Sequence[float]) -> list[float]:
    """Rank of each value from 1; equal values have the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return [float(rank) for rank in (last - (counts - 1) / 2)[inverse]]


def kappa(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Cohen's kappa of two judgements: (p - e) / (1 - e), p the share equal, e that of chance; None where e is 1."""
    n = len(first)
    if not n:
        return None
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    chance = sum(
        (sum(value == kind for value in first) / n) * (sum(value == kind for value in second) / n)
        for kind in {*first, *second}
    )
    return None if chance >= 1 else (observed - chance) / (1 - chance)


def is_binary(values: Sequence[float]) -> bool:
    """True if every value is 0 or 1."""
    return all(value in (0, 1) for value in values)


def within_groups(first: Sequence[float], second: Sequence[float], groups: Sequence[Hashable]) -> Groups:
    """How a group's comparison of its members changes from the first score to the second. groups: of each value."""
    members: dict[Hashable, list[tuple[float, float]]] = {}
    for a, b, group in zip(first, second, groups, strict=True):
        members.setdefault(group, []).append((a, b))
    compared = [pairs for pairs in members.values() if len(pairs) > 1]
    if not compared:
        return Groups(0, None, None, 0, 0)
    return Groups(
        len(compared),
        sum(map(_changes_sign, compared)) / len(compared),
        sum(map(_changes_order, compared)) / len(compared),
        *(sum(len({pair[side] for pair in pairs}) > 1 for pairs in compared) for side in (0, 1)),
    )


def _changes_sign(pairs: Sequence[tuple[float, float]]) -> bool:
    sides = (np.asarray([pair[side] for pair in pairs]) for side in (0, 1))
    signs = [np.sign(np.where(np.abs(side - side.mean()) < 1e-9, 0.0, side - side.mean())) for side in sides]
    return bool((signs[0] * signs[1] < 0).any())


def _changes_order(pairs: Sequence[tuple[float, float]]) -> bool:
    return any((one[0] - two[0]) * (one[1] - two[1]) < 0 for one, two in combinations(pairs[:LARGEST_GROUP], 2))
