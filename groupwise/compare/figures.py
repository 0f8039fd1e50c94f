"""What runs came to, and what seeds say about the variants: means with Student's t intervals. Reads records alone."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, inf, isfinite
from pathlib import Path
from statistics import fmean

from groupwise.config import GroupsConfig
from groupwise.record.read import Evaluation, Record, open_record
from groupwise.statistics.curves import Curves, Point
from groupwise.statistics.seeds import Mean, excludes_zero, mean_over_seeds


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


def run_figures(folder: Path, rollout: GroupsConfig) -> RunFigures:
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


def run_curves(folder: Path, rollout: GroupsConfig) -> Curves:
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
    return Difference(variant, to, seeds, accuracy, excludes_zero(accuracy), reward, excludes_zero(reward))


def _outputs_by_step(record: Record, rollout: GroupsConfig) -> list[int]:
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
