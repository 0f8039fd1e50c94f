"""What a reward function returned for an output, checked: a number, None, or a dict with a score and more."""

import contextlib
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from groupwise.data import Part
from groupwise.rewards.steps import Steps

LARGEST = (2.0 - 2.0**-23) * 2.0**127
"""The largest 32-bit float, which is what advantages are computed from."""


@dataclass(frozen=True)
class Verdict:
    """A function's part of the reward, what else it measured, and its steps by their ends in the text.

    steps: (characters from the start of the text, reward); None: it does not speak of steps.
    """

    part: Part
    extras: Mapping[str, float] = field(default_factory=dict)
    steps: Steps | None = None


def verdict_of(value: Any, text: str) -> Verdict:
    """What a function returned for one output. Raises TypeError or ValueError if the score or a step is none."""
    if not isinstance(value, Mapping):
        return Verdict(_part(value))
    if "score" not in value:
        raise TypeError(f"returned a dict without 'score'; its keys are: {', '.join(map(str, value)) or 'none'}")
    extras = {}
    for key in (key for key in value if key not in ("score", "steps")):
        with contextlib.suppress(TypeError, ValueError):  # what is no number is not recorded
            extras[str(key)] = _number(value[key])
    steps = value.get("steps")
    return Verdict(_part(value["score"]), extras, None if steps is None else _steps(steps, text))


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
