"""Steps in which no output got a reward: told once, and the end of a run that gets none at all."""

import sys

from groupwise.errors import RewardLimitError
from groupwise.rollout.groups import Rollout
from groupwise.run.metrics import reward_metrics
from groupwise.run.open import Run

PATIENCE = 5
"""Steps without a reward, from the first on, after which a run that learns from rewards stops."""


def check_judged(run: Run, rollout: Rollout) -> None:
    """Tells the first step of a run in which no output got a reward, though it learns from them.

    Raises RewardLimitError, having recorded the step, if none of the first PATIENCE steps had one, or of fewer if the
    run has no more.
    """
    rewards = [sample.reward for group in rollout.groups for sample in group.samples]
    if not run.learns_from_rewards or any(reward.value is not None for reward in rewards):
        run.judged = run.judged or run.learns_from_rewards
        return
    run.unjudged_steps += 1
    names = ", ".join(config.label for config in run.recipe.rewards)
    if not run.judged and run.unjudged_steps >= min(PATIENCE, run.recipe.update.steps):
        nothing = [[None] * len(group.samples) for group in rollout.groups]
        metrics = reward_metrics(run.recipe, rollout.groups)
        run.recorder.write_step(run.step, rollout.groups, advantages=nothing, metrics=metrics)
        raise RewardLimitError(
            f"no output of {run.unjudged_steps} steps got a reward: {names} returned None for all {len(rewards)} of "
            "the last one, so nothing is learned",
            hint="return a number for some outputs at least; None says that a function has nothing to say",
        )
    if run.unjudged_steps == 1:
        print(
            f"step {run.step + 1}: no output got a reward ({names} returned None for all {len(rewards)}), so this step "
            "teaches nothing",
            file=sys.stderr,
        )
