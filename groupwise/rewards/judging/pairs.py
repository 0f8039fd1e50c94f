"""Judgements of pairs within a group, and the scores that they give each output. Pure functions of numbers."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

Won = Mapping[tuple[int, int], float]
"""By a pair (i, j), i < j, the share that i won of its judgements: 1, 0, or between."""
PRIOR = 0.5
"""Games that each output has drawn against an average one: an output that won all has no finite strength without."""


def pairs_of(count: int, per_output: int | None) -> list[tuple[int, int]]:
    """The pairs (i, j), i < j, of so many outputs that are judged. per_output: pairs that each output is in; None: all.

    Outputs in a ring, each paired with its next neighbours, so that all hang together; one pair more for some if the
    number is odd.
    """
    if per_output is None or per_output >= count - 1:
        return list(combinations(range(count), 2))
    found = {
        (min(i, j), max(i, j))
        for i in range(count)
        for step in range(1, -(-per_output // 2) + 1)
        for j in [(i + step) % count]
    }
    return sorted(found)


def win_rates(count: int, won: Won) -> list[float | None]:
    """Mean over the pairs that an output is in of the share that it won; None for one that is in no pair."""
    shares: list[list[float]] = [[] for _ in range(count)]
    for (i, j), share in won.items():
        shares[i].append(share)
        shares[j].append(1.0 - share)
    return [math.fsum(some) / len(some) if some else None for some in shares]


def bradley_terry(count: int, won: Won) -> list[float | None]:
    """Expected share of wins against an average output, from strengths p with P(i beats j) = p_i / (p_i + p_j).

    Bradley and Terry 1952; the strengths maximise prod p_i^w_ij p_j^w_ji / (p_i + p_j)^(w_ij + w_ji) by Hunter's MM
    iteration (2004), with PRIOR drawn games of each output against one of strength 1. Score: p_i / (p_i + 1), 0 to 1.
    None for an output that is in no pair.
    """
    games: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    for (i, j), share in won.items():
        games[i].append((j, share))
        games[j].append((i, 1.0 - share))
    wins = [PRIOR / 2 + math.fsum(share for _, share in some) for some in games]
    strengths = [1.0] * count
    for _ in range(10_000):
        after = [
            wins[i]
            / (PRIOR / (strengths[i] + 1.0) + math.fsum(1.0 / (strengths[i] + strengths[j]) for j, _ in games[i]))
            for i in range(count)
        ]
        change = max((abs(math.log(b / a)) for a, b in zip(strengths, after, strict=True)), default=0.0)
        strengths = after
        if change < 1e-10:
            break
    return [strength / (strength + 1.0) if games[i] else None for i, strength in enumerate(strengths)]


SCORES = {"win_rate": win_rates, "bradley_terry": bradley_terry}
"""By the name that a recipe gives: the score of each output."""


def inconsistent(first: Sequence[float | None], second: Sequence[float | None]) -> float:
    """Share of the pairs judged in both orders whose verdicts differ: a judge that goes by the place."""
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    return sum(_sign(a) != _sign(b) for a, b in both) / len(both) if both else 0.0


def _sign(share: float) -> int:
    """1 for a win, -1 for a loss, 0 for a draw."""
    return (share > 0.5) - (share < 0.5)
