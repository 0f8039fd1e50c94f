"""Two models on the same questions: what differs, question by question, and whether chance would do as much."""

from typing import Any

from groupwise.rollout.evaluate import Values, figure_of
from groupwise.statistics.intervals import mcnemar


def differences(ours: Values, theirs: Values) -> dict[str, dict[str, float]]:
    """By figure the mean of ours less theirs over the questions that both have, {value, low, high, n}.

    The interval is by bootstrap over questions, paired: a question is drawn with both its values, so what makes it hard
    for both cancels.
    """
    return {
        key: figure_of([_less(pair) for pair in zip(ours[key], theirs[key], strict=True)])._asdict()
        for key in ours
        if key in theirs
    }


def changes(ours: Values, theirs: Values) -> dict[str, Any]:
    """How the greedy answers differ: questions that both, only we, only they, neither answer right; McNemar's p."""
    pairs = [pair for pair in zip(ours["accuracy"], theirs["accuracy"], strict=True) if None not in pair]
    counts = {pair: pairs.count(pair) for pair in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0))}
    return {
        "both_right": counts[1.0, 1.0],
        "only_a_right": counts[1.0, 0.0],
        "only_b_right": counts[0.0, 1.0],
        "both_wrong": counts[0.0, 0.0],
        "mcnemar_p": mcnemar(counts[1.0, 0.0], counts[0.0, 1.0]),
    }


def _less(pair: tuple[float | None, float | None]) -> float | None:
    ours, theirs = pair
    return None if ours is None or theirs is None else ours - theirs
