"""The reward `environment`: what an episode's environment says it was worth."""

from typing import Any

from groupwise.data import Question
from groupwise.rewards.opening import outcome_of


def environment(text: str, question: Question, *, key: str = "reward") -> dict[str, Any] | None:
    """outcome()[key] of the environment; its other numbers are recorded beside. None there: it abstains.

    What a verdict means something else by, `score` and `steps`, is recorded as outcome_score and outcome_steps.
    """
    outcome = outcome_of(question)
    if key not in outcome:
        there = ", ".join(outcome) or "nothing"
        raise KeyError(f"the environment's outcome has no {key!r}; it has: {there}")
    value = outcome[key]
    if value is None:
        return None
    others = {
        f"outcome_{name}" if name in ("score", "steps") else name: float(other)
        for name, other in outcome.items()
        if name != key and isinstance(other, bool | int | float)
    }
    return {"score": float(value), **others}
