"""A run as it went on, as points: what pictures are drawn from."""

from dataclasses import dataclass
from typing import NamedTuple


class Point(NamedTuple):
    """A value after so many steps, and the outputs sampled until then."""

    steps: int
    outputs: int
    value: float


@dataclass(frozen=True)
class Curves:
    """One run as it went on: the mean reward of each step, and held-out accuracy where it was measured."""

    rewards: list[Point]
    accuracies: list[Point]
