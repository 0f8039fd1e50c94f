"""What a reward function returned for an output, checked: a number, None, or a dict with a score and more."""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from groupwise.data import Part
from groupwise.rewards.steps import Steps

LARGEST = (2.0 - 2.0**-23) * 2.0**127
"""The largest 32-bit float, which is what advantages are computed from."""
LOGGED_CHARACTERS = 10_000
"""Of a text that a function logs; the rest is cut."""


@dataclass(frozen=True)
class Verdict:
    """A function's part of the reward, what else it measured, and its steps by their ends in the text.

    steps: (characters from the start of the text, reward); None: it does not speak of steps.
    """

    part: Part
    extras: Mapping[str, float | str] = field(default_factory=dict)
    steps: Steps | None = None


def verdict_of(value: Any, text: str, key: str = "score") -> Verdict:
    """What a function returned for one output. key: of the score in a dict.

    Raises TypeError or ValueError if the score or a step is none."""
    if not isinstance(value, Mapping):
        return Verdict(_part(value))
    if key not in value:
        raise TypeError(f"returned a dict without {key!r}; its keys are: {', '.join(map(str, value)) or 'none'}")
    steps = value.get("steps")
    extras = {name: figure for name, figure in value.items() if name not in (key, "steps")}
    scored = Verdict(_part(value[key]), {}, None if steps is None else _steps(steps, text))
    return with_logged(scored, extras)


def with_logged(verdict: Verdict, logged: Mapping[Any, Any]) -> Verdict:
    """The verdict with further values by name: numbers as they are, anything else but None as text."""
    if verdict.part.state == "failed":
        return verdict
    found = {str(name): _kept(value) for name, value in logged.items() if value is not None}
    return Verdict(verdict.part, {**verdict.extras, **found}, verdict.steps) if found else verdict


def _kept(value: Any) -> float | str:
    try:
        return _number(value)
    except (TypeError, ValueError):
        return str(value)[:LOGGED_CHARACTERS]


def _part(value: Any) -> Part:
    """A value as a part: None abstains. Raises as `_number` does."""
    return Part("abstained") if value is None else Part("value", _number(value))


def _steps(steps: Any, text: str) -> Steps:
    """[[end, reward], ...] checked: ends rise within 1 and len(text), rewards are finite. TypeError or ValueError."""
    steps = steps.tolist() if hasattr(steps, "tolist") else steps
    if not isinstance(steps, Sequence) or isinstance(steps, str | bytes):
        raise TypeError(f"returned steps of type {type(steps).__name__}, not a list of [end, reward]")
    checked: list[tuple[int, float]] = []
    for number, step in enumerate(steps):
        where, before = f"steps[{number}] = {repr(step)[:60]}", checked[-1][0] if checked else 0
        try:
            end, reward = step
            end = operator.index(end)
        except (TypeError, ValueError):
            raise TypeError(f"returned {where}, not [end, reward] with a whole number as its end") from None
        if not before < end <= len(text):
            raise ValueError(f"returned {where}: its end must be within {before + 1} and {len(text)}, in characters")
        checked.append((end, _number(reward, f"{where} with ")))
    return tuple(checked)


def _number(value: Any, where: str = "") -> float:
    """A number of any kind as a float. Raises TypeError if it is none, ValueError if no 32-bit float is near it."""
    plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value
    if not isinstance(plain, int | float):
        accepted = "a number" if where else "a number or None"
        raise TypeError(f"returned {where}{type(value).__name__} {repr(value)[:60]}, not {accepted}")
    try:
        number = float(plain)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"returned {where}{number}, not a finite number")
    if abs(number) > LARGEST:
        raise ValueError(f"returned {where}{number:g}, too large: a reward is a 32-bit float, up to {LARGEST:.3g}")
    return number
