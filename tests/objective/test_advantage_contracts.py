"""What advantages do beyond their contracts (test_contracts.py): a row is tested by being in the table.

An exception is named and tested too. A row is called by what it names, so the tests give it everything that there is.
"""

import math

import pytest
import torch

from groupwise import registry
from groupwise.errors import DataError
from groupwise.objective.small_batch import advantage_inputs
from groupwise.objective.surrogate import called, reads
from tests.objective.build import batch

REWARDS = torch.tensor([1.0, 0.0, 0.5, 3.0, -1.0, 0.25], dtype=torch.float64)
NOT_OF_REWARDS = {"teacher_gap"}
"""Advantages that no reward reaches."""
WITHOUT_A_BASELINE = {"reward", "only_right"}
"""Advantages that are the output's reward alone: equal rewards teach, and an output does not lower its siblings."""
BASELINE_LEARNED = {"gae", "gae_whitened"}
"""Advantages over the critic's values: equal rewards teach where the critic did not expect them."""
NEVER_LOWERING = {"only_right"}
"""Advantages that are nowhere below 0."""
OVER_THE_BATCH = {
    *("batch_normalised", "group_centred_batch_scaled", "per_reward"),
    *("return_normalised", "gae_whitened"),
}
"""Advantages in which a reward of one group moves those of another."""
NO_SIBLING_NEEDED = {"process_supervision"}
"""Advantages that ask for the question and do without siblings: an output's steps are compared with each other."""
TOLD_BY_THE_MASK = {"return_normalised", "gae", "gae_whitened", "teacher_gap"}
"""Advantages that see an output without a reward as one of reward 0, unless the mask leaves it out as training does."""

every_row = pytest.mark.parametrize("name", list(registry.ADVANTAGES))


def advantages(name, rewards=REWARDS, group=None, mask=None, **changes):
    """[B, T] of the row with this name, for the made batch's groups and mask unless others are given."""
    made = batch()
    outputs = {"group": made.group if group is None else group, "mask": made.mask if mask is None else mask}
    inputs = advantage_inputs(rewards, outputs)
    return called(registry.load(registry.ADVANTAGES, name), inputs | changes)


@every_row
def test_equal_rewards_teach_nothing_unless_the_row_has_no_baseline_or_a_learned_one(name):
    equal = advantages(name, torch.full((6,), 0.1, dtype=torch.float64))
    assert bool(equal.any()) == (name in WITHOUT_A_BASELINE | BASELINE_LEARNED | NOT_OF_REWARDS)


@pytest.mark.parametrize("name", sorted(BASELINE_LEARNED))
def test_rewards_that_the_critic_expects_teach_nothing(name):
    made, rewards = batch(), torch.full((6,), 0.5, dtype=torch.float64)
    expected = torch.full(made.mask.shape, 0.5, dtype=torch.float64)
    assert not advantages(name, rewards, values=expected, gae_lambda=1.0).any()
    assert not advantages(name, rewards, values=expected, gae_lambda=0.5).any()


@every_row
def test_an_advantage_raises_the_better_and_lowers_the_worse_unless_it_knows_no_rewards(name):
    mask = torch.ones(6, 1, dtype=torch.bool)
    values = advantages(name, mask=mask)[:, 0]
    if name in NOT_OF_REWARDS:
        assert torch.equal(advantages(name, REWARDS.flip(0), mask=mask)[:, 0], values)
        return
    assert values[0] > values[2] > values[1]
    assert values[3] > 0 >= values[4]
    assert bool((values < 0).any()) == (name not in NEVER_LOWERING)


@every_row
def test_an_output_without_a_reward_has_no_advantage_and_harms_no_other_group(name):
    mask, rewards = batch().mask, REWARDS.clone()
    rewards[1] = math.nan
    if name in TOLD_BY_THE_MASK:
        assert advantages(name, rewards)[1].any()
        mask = mask & ~rewards.isnan()[:, None]
    values, whole = advantages(name, rewards, mask=mask), advantages(name)
    assert values.isfinite().all()
    assert not values[1].any()
    assert torch.equal(values[3:], whole[3:]) == (name not in OVER_THE_BATCH)
    if name not in NOT_OF_REWARDS:
        assert values[0, 0] > 0
        assert bool(values[2, 0] < 0) == (name not in WITHOUT_A_BASELINE)


@every_row
def test_a_group_of_one_output_is_an_error_unless_no_sibling_is_needed(name):
    alone = torch.tensor([0, 0, 0, 1, 1, 2])
    if "group" in reads(registry.load(registry.ADVANTAGES, name)) and name not in NO_SIBLING_NEEDED:
        with pytest.raises(DataError, match="1 output"):
            advantages(name, group=alone)
    else:
        assert advantages(name, group=alone).isfinite().all()


def test_what_is_named_and_not_there_is_our_own_bug():
    with pytest.raises(KeyError, match="values"):
        called(registry.load(registry.ADVANTAGES, "gae"), {"token_rewards": REWARDS})
