"""A step's metrics (groupwise/metrics.py says what each means), from its groups and its update."""

import resource
import sys
from collections.abc import Sequence
from itertools import accumulate
from statistics import fmean, stdev

import torch

from groupwise.config import Recipe, RewardConfig, RLRecipe
from groupwise.data import Group, Part, Reward
from groupwise.learn.optimizer import learning_rate
from groupwise.learn.tally import Tally
from groupwise.model.batch import Batch
from groupwise.objective.correction import uncorrected
from groupwise.objective.surrogate import Objective
from groupwise.objective.value import explained_variance
from groupwise.rewards.composition import is_gated, weight_at
from groupwise.rollout.evaluate import RIGHT
from groupwise.rollout.groups import Rollout
from groupwise.rollout.played import episode_metrics


def step_metrics(
    recipe: RLRecipe,
    rollout: Rollout,
    batch: Batch,
    tally: Tally,
    *,
    objective: Objective,
    step: int,
    update_seconds: float,
) -> dict[str, float]:
    """Every metric that this step has; one that was not computed is absent, never 0."""
    metrics = {
        **rollout_metrics(recipe, rollout, update_seconds=update_seconds),
        **weights_of(recipe, step),
        **tally.metrics(
            with_kl=batch.ref_logprobs is not None,
            corrected=objective.correction is not uncorrected,
            with_critic=batch.values is not None,
        ),
        **_of_critic(batch),
        **_followed(recipe, objective),
        "learning_rate": learning_rate(recipe.update, step),
        "time/update": update_seconds,
        **rollout.measured,
    }
    if rollout.kept is not None:
        metrics["groups/sampled"] = float(len(rollout.groups))
    present = [abs(value) for row in output_advantages(rollout, batch) for value in row if value is not None]
    if present:
        metrics["advantage/abs_mean"] = fmean(present)
    return metrics


def rollout_metrics(recipe: Recipe, rollout: Rollout, *, update_seconds: float = 0.0) -> dict[str, float]:
    """What there is to say of a step's outputs, and of its time with that of its update."""
    outputs = [sample.output for group in rollout.groups for sample in group.samples]
    lengths = [output.drawn for output in outputs]
    total = rollout.sample_seconds + rollout.reward_seconds + update_seconds
    return {
        **reward_metrics(recipe, rollout.groups),
        **rollout.spent,
        "length/mean": fmean(lengths),
        "length/max": float(max(lengths)),
        "finish/length": fmean(output.finish == "length" for output in outputs),
        **episode_metrics(rollout.episodes),
        "tokens/sampled": float(sum(lengths)),
        "tokens/per_second": sum(lengths) / total,
        "time/sample": rollout.sample_seconds,
        "time/reward": rollout.reward_seconds,
        "time/step": total,
        "memory/peak": peak_memory(),
    }


def peak_memory() -> float:
    """Most bytes held since the run began: of the GPU where there is one, else of this process."""
    on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    if on_gpu:  # else the run computes on the CPU of a machine with a GPU
        return float(on_gpu)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def reward_metrics(recipe: Recipe, groups: Sequence[Group]) -> dict[str, float]:
    """Means over the outputs that have a value; shares over all outputs and all groups."""
    rewards = [sample.reward for group in groups for sample in group.samples]
    metrics = {
        "rewards/failed": fmean(reward.failed for reward in rewards),
        "rewards/abstained": fmean(reward.value is None and not reward.failed for reward in rewards),
        "groups/signal": fmean(group.has_signal for group in groups),
    }
    values = [reward.value for reward in rewards if reward.value is not None]
    if values:
        metrics["reward/mean"] = fmean(values)
    spreads = [stdev(v) for group in groups if len(v := [x for x in group.rewards if x is not None]) > 1]
    if spreads:
        metrics["reward/std"] = fmean(spreads)
    for label in dict.fromkeys(label for reward in rewards for label in reward.parts):
        parts = _values(rewards, label)
        if parts:
            metrics[f"reward/{label}"] = fmean(parts)
    for config in recipe.rewards:
        metrics |= _of_part([reward.parts[config.label] for reward in rewards if config.label in reward.parts], config)
    for name, chosen in (("accuracy", recipe.correct_label), ("format", recipe.evaluate.format)):
        parts = _values(rewards, chosen)
        if parts:
            metrics[name] = fmean(value >= RIGHT for value in parts)
    return metrics


def weights_of(recipe: Recipe, step: int) -> dict[str, float]:
    """The weights of a step that change over the steps."""
    changing = [config for config in recipe.rewards if config.weight_schedule is not None]
    return {f"rewards/weight/{config.label}": weight_at(config, step) for config in changing}


def _of_part(parts: Sequence[Part], config: RewardConfig) -> dict[str, float]:
    """One function's figures beside its mean."""
    if not parts:
        return {}
    label, values = config.label, [part.value for part in parts if part.value is not None]
    return {
        **({f"rewards/std/{label}": stdev(values)} if len(values) > 1 else {}),
        f"rewards/abstained/{label}": fmean(part.state == "abstained" for part in parts),
        f"rewards/failed/{label}": fmean(part.state == "failed" for part in parts),
        **({f"rewards/gated/{label}": fmean(map(is_gated, parts))} if config.gate is not None else {}),
    }


def output_advantages(rollout: Rollout, batch: Batch) -> list[list[float | None]]:
    """A_i of each sample, group by group: the mean over its tokens; None for one that has none or was not kept."""
    drawn = batch.rollouts.output_mask
    counts = drawn.sum(1).clamp(min=1)
    means = (torch.where(drawn, batch.advantages, 0.0).sum(1) / counts).tolist()
    learned = batch.mask.any(1).tolist()
    kept = range(len(rollout.groups)) if rollout.kept is None else rollout.kept
    starts = dict(
        zip(kept, accumulate((len(rollout.groups[index].samples) for index in kept), initial=0), strict=False)
    )
    return [
        [
            None
            if index not in starts or (value is None and not learned[starts[index] + place])
            else means[starts[index] + place]
            for place, value in enumerate(group.rewards)
        ]
        for index, group in enumerate(rollout.groups)
    ]


def _of_critic(batch: Batch) -> dict[str, float]:
    if batch.values is None or batch.returns is None or not bool(batch.mask.any()):
        return {}
    values, returns = batch.values[batch.mask], batch.returns[batch.mask]
    return {
        "critic/value_mean": float(values.mean()),
        "critic/explained_variance": explained_variance(values, returns),
    }


def _followed(recipe: RLRecipe, objective: Objective) -> dict[str, float]:
    """The coefficients of this step that follow a target."""
    followed = (("kl_coef", recipe.objective.kl_target), ("entropy_coef", recipe.objective.entropy_target))
    return {name: float(getattr(objective, name)) for name, target in followed if target is not None}


def _values(rewards: Sequence[Reward], label: str | None) -> list[float]:
    return [value for reward in rewards if (value := reward.value_of(label)) is not None]
