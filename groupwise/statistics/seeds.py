"""What seeds say about a figure: its mean with Student's t interval. Knows numbers only."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan, cos, inf, pi, sin, sqrt
from statistics import fmean, stdev


@dataclass(frozen=True)
class Mean:
    """A mean over n seeds with the ends of its 95 % interval; None for both with fewer than 2."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def mean_over_seeds(values: Sequence[float | None], *, lowest: float = -inf, highest: float = inf) -> Mean:
    """Mean of one value a seed, with Student's t interval: mean -+ t s / sqrt(n), s with n-1; None is left out.

    lowest, highest: what the true value cannot pass, where the interval is cut; that leaves out nothing it can be.
    """
    present = [value for value in values if value is not None]
    if len(present) < 2:
        return Mean((fmean(present) if present else None), None, None, len(present))
    value = fmean(present)
    half = student_t(len(present) - 1) * stdev(present) / sqrt(len(present))
    return Mean(value, max(lowest, value - half), min(highest, value + half), len(present))


def student_t(freedom: int, coverage: float = 0.95) -> float:
    """t with P(|T| < t) = coverage for so many degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    low, high = 0.0, 1e4  # 1 degree of freedom: 12.7
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < coverage else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """P(|T| < t): a finite sum of powers of cos^2 of atan(t / sqrt(freedom))."""
    angle = atan(t / sqrt(freedom))
    odd = freedom % 2
    term = total = cos(angle) if odd else 1.0
    for power in range(2 + odd, freedom - 1, 2):
        term *= cos(angle) ** 2 * (power - 1) / power
        total += term
    if not odd:
        return sin(angle) * total
    return 2 / pi * (angle + (sin(angle) * total if freedom > 1 else 0.0))


def excludes_zero(mean: Mean) -> bool | None:
    """Whether the interval lies on one side of 0; None where there is none, or no spread to make one of."""
    if mean.low is None or mean.high is None or mean.low == mean.high:
        return None
    return mean.low > 0 or mean.high < 0
