"""Rewards of a run's steps: failures, shown once and limited; steps without any reward, and a run that gets none."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from groupwise.data import Group, Reward
from groupwise.errors import RewardLimitError
from groupwise.rewards.base import check_failures, first_failure
from groupwise.run.journal import Journal
from groupwise.run.metrics import reward_metrics
from groupwise.terminal import printable

PATIENCE = 5
"""Steps without a reward, from the first on, after which a run that learns from rewards stops."""


@dataclass
class Judged:
    """What a run has seen of rewards since it was opened. learns: it learns from them.

    any: an output got a reward; steps_without: in which none did; failed: functions whose failure was shown.
    """

    learns: bool
    any: bool = False
    steps_without: int = 0
    failed: set[str] = field(default_factory=set)


def check_rewards(journal: Journal, judged: Judged, groups: Sequence[Group]) -> None:
    """Shows a reward function's first failure, and the first step in which no output got a reward.

    Raises RewardLimitError, having recorded the step, past the recipe's limit of failures; and if a run that learns
    from rewards had none in its first PATIENCE steps, or in all of its steps.
    """
    rewards = [sample.reward for group in groups for sample in group.samples]
    show_failures(judged.failed, rewards, then="its outputs are left out of the update")
    try:
        check_failures(rewards, journal.recipe.run.failed_rewards_limit)
        if judged.learns and all(reward.value is None for reward in rewards):
            _check_any(journal, judged, len(rewards))
    except RewardLimitError:
        nothing = [[None] * len(group.samples) for group in groups]
        metrics = reward_metrics(journal.recipe, groups)
        journal.recorder.write_step(journal.state.step, groups, advantages=nothing, metrics=metrics)
        raise
    judged.any = judged.any or any(reward.value is not None for reward in rewards)


def show_failures(shown: set[str], rewards: Sequence[Reward], *, then: str) -> None:
    """Prints each reward function's first failure on stderr, once a function. then: what becomes of its outputs."""
    for label, detail in first_failure(rewards).items():
        if label not in shown:
            shown.add(label)
            print(f"reward {label} failed, {then}:\n{printable(detail)}", file=sys.stderr)


def _check_any(journal: Journal, judged: Judged, outputs: int) -> None:
    """Counts a step whose outputs have no reward. Raises RewardLimitError if the run had none at all for too long."""
    judged.steps_without += 1
    names = ", ".join(config.label for config in journal.recipe.rewards)
    if not judged.any and judged.steps_without >= min(PATIENCE, journal.recipe.update.steps):
        raise RewardLimitError(
            f"no output of {judged.steps_without} steps got a reward: {names} returned None for all {outputs} of "
            "the last one, so nothing is learned",
            hint="return a number for at least some outputs; None means that a function abstains",
        )
    if judged.steps_without == 1:
        print(
            f"step {journal.state.step + 1}: no output got a reward ({names} returned None for all {outputs}), so this "
            "step teaches nothing",
            file=sys.stderr,
        )
