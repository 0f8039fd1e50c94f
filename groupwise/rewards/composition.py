"""How values of several reward functions become one reward: gates, scales, weights over the steps. Pure functions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from groupwise.data import Part

if TYPE_CHECKING:
    from groupwise.config.sections import GateConfig, RewardConfig, WeightScheduleConfig


@dataclass(frozen=True)
class Moments:
    """Mean and spread of the values seen so far. squares: sum of squared distances from the mean."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def std(self) -> float:
        """Standard deviation (n-1); 0 for fewer than two values."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 0.0

    def with_values(self, values: Sequence[float]) -> "Moments":
        """The moments with further values, in their order (Welford's recurrence)."""
        count, mean, squares = self.count, self.mean, self.squares
        for value in values:
            count += 1
            before = value - mean
            mean += before / count
            squares += before * (value - mean)
        return Moments(count, mean, squares)


Running = Mapping[str, Moments]
"""By label, the moments of the functions whose `normalise` is `running`."""


def weight_at(config: "RewardConfig", step: int) -> float:
    """w(t) = weight x factor(t); step: t, optimizer steps so far."""
    return config.weight * (1.0 if config.weight_schedule is None else factor_at(config.weight_schedule, step))


def factor_at(schedule: "WeightScheduleConfig", step: int) -> float:
    """Factor of a schedule at a step: the points' on them, constant outside, between them as its shape says."""
    points = schedule.points
    if step <= points[0][0]:
        return points[0][1]
    for (start, before), (end, after) in pairwise(points):
        if step < end:
            share = (step - start) / (end - start) if schedule.shape == "linear" else 0.0
            return before + share * (after - before)
    return points[-1][1]


def behind_gate(gate: "GateConfig", other: Part) -> Part | None:
    """What a gated function's part is by the other function's; None: the gate is open and the function is called.

    A value below `at_least` closes it, and the part is `otherwise`. Where the other function has no value, because it
    abstains or failed, the gated function abstains: nothing says that the condition is not met.
    """
    if other.value is None:
        return Part("abstained", None, f"gate: {gate.reward} has no value")
    if other.value >= gate.at_least:
        return None
    why = f"gate: {gate.reward} < {gate.at_least:g}"
    return Part("abstained", None, why) if gate.otherwise is None else Part("value", gate.otherwise, why)


def is_gated(part: Part) -> bool:
    """Whether a closed gate gave this part."""
    return part.state != "failed" and part.detail.startswith("gate: ")


def in_group(values: Sequence[float | None]) -> list[float | None]:
    """(r_i - mean r) / std r over the values that a group has, std with n-1; 0 where all are equal or one is alone."""
    present = [value for value in values if value is not None]
    if len(set(present)) < 2:
        return [None if value is None else 0.0 for value in values]
    mean, spread = fmean(present), stdev(present)
    return [None if value is None else (value - mean) / spread for value in values]


def by_moments(values: Sequence[float | None], moments: Moments) -> list[float | None]:
    """(r_i - mean) / std of the moments; 0 while they have no spread."""
    spread = moments.std
    return [None if value is None else (value - moments.mean) / spread if spread else 0.0 for value in values]


def scaled(
    config: "RewardConfig", values: Sequence[float | None], groups: Sequence[str], running: Running
) -> list[float | None]:
    """A function's values as they count in the sum, before its weight. groups: of each output, its question's id."""
    if config.normalise == "running":
        return by_moments(values, running.get(config.label, Moments()))
    if config.normalise == "none":
        return list(values)
    found: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        found.setdefault(group, []).append(place)
    result: list[float | None] = list(values)
    for places in found.values():
        for place, value in zip(places, in_group([values[place] for place in places]), strict=True):
            result[place] = value
    return result
