"""What runs came to, and what seeds say about the variants: means with Student's t intervals. Reads records alone."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate
from math import atan, ceil, cos, inf, isfinite, pi, sin, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from groupwise.config import RolloutConfig
from groupwise.record.read import Evaluation, Record, open_record


@dataclass(frozen=True)
class RunFigures:
    """One finished run. accuracy_*: shares of the held-out questions, greedy; *_end: means over the last tenth of the
    steps; None: not measured. tokens: sampled in training; peak_memory: bytes."""

    accuracy_before: float | None
    accuracy_after: float | None
    reward_end: float | None
    length_end: float | None
    outputs: int
    tokens: int
    seconds_per_step: float
    peak_memory: float


@dataclass(frozen=True)
class Mean:
    """A mean over n seeds with the ends of its 95 % interval; None for both with fewer than 2."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class VariantFigures:
    """One variant over the seeds that finished. peak_memory: the largest of its runs, bytes."""

    name: str
    seeds: tuple[int, ...]
    accuracy_before: Mean
    accuracy_after: Mean
    reward_end: Mean
    length_end: Mean
    tokens: Mean
    seconds_per_step: Mean
    peak_memory: float | None


@dataclass(frozen=True)
class Difference:
    """A variant less the first one, seed by seed over those that both finished.

    *_excludes_zero: whether the interval does; None where there is none, or no spread to make one of.
    """

    variant: str
    to: str
    seeds: tuple[int, ...]
    accuracy_after: Mean
    accuracy_excludes_zero: bool | None
    reward_end: Mean
    reward_excludes_zero: bool | None


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


def run_figures(folder: Path, rollout: RolloutConfig) -> RunFigures:
    """The figures of a finished run, from its record."""
    with closing(open_record(folder)) as record:
        evaluations = {evaluation.name: evaluation for evaluation in record.evaluations()}
        steps = len(record.steps())
        end = steps - ceil(steps / 10)
        return RunFigures(
            accuracy_before=_accuracy(evaluations.get("before")),
            accuracy_after=_accuracy(evaluations.get("after")),
            reward_end=_mean(_values(record, "reward/mean", first=end)),
            length_end=_mean(_values(record, "length/mean", first=end)),
            outputs=_outputs_by_step(record, rollout)[-1],
            tokens=round(sum(_values(record, "tokens/sampled"))),
            seconds_per_step=fmean(_values(record, "time/step")),
            peak_memory=max(_values(record, "memory/peak")),
        )


def run_curves(folder: Path, rollout: RolloutConfig) -> Curves:
    """What a finished run's picture is made of."""
    with closing(open_record(folder)) as record:
        outputs = _outputs_by_step(record, rollout)
        rewards = [(step + 1, value) for step, _, value in record.metrics("reward/mean")]
        accuracies = [(evaluation.step, _accuracy(evaluation)) for evaluation in record.evaluations()]
        return Curves(_points(rewards, outputs), _points(accuracies, outputs))


def variant_figures(name: str, runs: Mapping[int, RunFigures]) -> VariantFigures:
    """Means over the runs of a variant, by seed."""

    def over(field: str, lowest: float = -inf, highest: float = inf) -> Mean:
        return mean_over_seeds([getattr(run, field) for run in runs.values()], lowest=lowest, highest=highest)

    return VariantFigures(
        name,
        tuple(runs),
        accuracy_before=over("accuracy_before", 0, 1),
        accuracy_after=over("accuracy_after", 0, 1),
        reward_end=over("reward_end"),
        length_end=over("length_end"),
        tokens=over("tokens"),
        seconds_per_step=over("seconds_per_step"),
        peak_memory=max((run.peak_memory for run in runs.values()), default=None),
    )


def difference(
    variant: str, runs: Mapping[int, RunFigures], *, to: str, others: Mapping[int, RunFigures]
) -> Difference:
    """The paired difference of one variant to another."""
    seeds = tuple(seed for seed in runs if seed in others)

    def paired(field: str) -> Mean:
        pairs = [(getattr(runs[seed], field), getattr(others[seed], field)) for seed in seeds]
        return mean_over_seeds([None if None in (ours, theirs) else ours - theirs for ours, theirs in pairs])

    accuracy, reward = paired("accuracy_after"), paired("reward_end")
    return Difference(variant, to, seeds, accuracy, _excludes_zero(accuracy), reward, _excludes_zero(reward))


def mean_over_seeds(values: Sequence[float | None], *, lowest: float = -inf, highest: float = inf) -> Mean:
    """Mean of one value a seed, with Student's t interval: mean -+ t s / sqrt(n), s with n-1; None is left out.

    lowest, highest: what the true value cannot pass, where the interval is cut; that leaves out nothing it can be.
    """
    present = [value for value in values if value is not None]
    if len(present) < 2:
        return Mean(_mean(present), None, None, len(present))
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


def _excludes_zero(mean: Mean) -> bool | None:
    if mean.low is None or mean.high is None or mean.low == mean.high:
        return None
    return mean.low > 0 or mean.high < 0


def _outputs_by_step(record: Record, rollout: RolloutConfig) -> list[int]:
    """Outputs sampled before each step and, last, in all: more than the recipe's where groups were sampled again."""
    groups = {step: value for step, _, value in record.metrics("groups/sampled") if value is not None}
    counts = [round(groups.get(step, rollout.questions_per_step)) * rollout.group_size for step in record.steps()]
    return [0, *accumulate(counts)]


def _points(found: Sequence[tuple[int, float | None]], outputs: Sequence[int]) -> list[Point]:
    return [Point(steps, outputs[steps], value) for steps, value in found if value is not None]


def _accuracy(evaluation: Evaluation | None) -> float | None:
    share = evaluation.figures.get("accuracy") if evaluation else None
    return share if share is not None and isfinite(share) else None


def _values(record: Record, metric: str, *, first: int = 0) -> list[float]:
    """The metric's values from a step on."""
    return [value for step, _, value in record.metrics(metric) if value is not None and step >= first]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
