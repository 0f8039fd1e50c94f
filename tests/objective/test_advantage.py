"""Advantages: worked numbers, exact zeros, missing rewards, and the weight that each row gives to a question."""

import itertools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from groupwise.errors import DataError
from groupwise.objective.advantage import (
    EPSILON,
    batch_normalised,
    group_centred,
    group_centred_batch_scaled,
    group_relative,
    leave_one_out,
    only_right,
    over_mean,
    reward,
)
from groupwise.objective.surrogate import called, reads
from tests.close import close

NAN = math.nan
WITHIN_GROUP = [group_relative, group_centred, leave_one_out, over_mean, group_centred_batch_scaled]
"""Rows that compare an output with its siblings: 0 in a group of equal rewards, an error in a group of one."""
ALONE_IN_GROUP = [group_relative, group_centred, leave_one_out, over_mean]
"""Those that nothing outside the group reaches."""
WITHOUT_GROUP = [batch_normalised, reward, only_right]
"""Rows that do not ask which question an output is of."""
EVERY = WITHIN_GROUP + WITHOUT_GROUP


def advantages(rule, rewards, group=None, dtype=torch.float64):
    """One number per output: the rule with one token each."""
    rewards = torch.tensor(rewards, dtype=dtype)
    group = torch.zeros(len(rewards), dtype=torch.long) if group is None else torch.tensor(group)
    return tokens(rule, rewards, group, torch.ones(len(rewards), 1, dtype=torch.bool))[:, 0]


def tokens(rule, rewards, group, mask):
    """The rule of what it names of these."""
    return called(rule, {"rewards": rewards, "group": group, "mask": mask})


def test_four_right_of_eight_give_plus_and_minus_0_94():
    # mean 0.5, squares 8 * 0.25 = 2, sample variance 2/7, std 0.5345; 0.5 / 0.5345 = 0.9354
    values = advantages(group_relative, [1, 1, 1, 1, 0, 0, 0, 0])
    close(values, [0.5 / (math.sqrt(2 / 7) + 1e-6)] * 4 + [-0.5 / (math.sqrt(2 / 7) + 1e-6)] * 4)
    assert [round(v, 4) for v in values.tolist()] == [0.9354] * 4 + [-0.9354] * 4


def test_one_zero_zero_one_by_hand():
    # mean 1/2, sample variance 4 * (1/4) / 3 = 1/3, std 0.57735: +-0.8660
    a = 0.5 / (math.sqrt(1 / 3) + EPSILON)
    close(advantages(group_relative, [1, 0, 0, 1]), [a, -a, -a, a])
    close(advantages(group_centred, [1, 0, 0, 1]), [0.5, -0.5, -0.5, 0.5])


def test_each_output_is_compared_with_the_others_by_hand():
    # 3, 1, 2, 0: the others' means are 1, 5/3, 4/3, 2
    close(advantages(leave_one_out, [3, 1, 2, 0]), [2, -2 / 3, 2 / 3, -2])
    # a pair is compared with each other, not with their mean
    close(advantages(leave_one_out, [1, 0]), [1, -1])
    close(advantages(group_centred, [1, 0]), [0.5, -0.5])


def test_a_share_of_the_mean_by_hand():
    # one right of four: mean 1/4, (1 - 1/4) / (1/4) = 3 and -1; three right: mean 3/4, 1/3 and -1
    close(advantages(over_mean, [0, 1, 0, 0]), [-1, 3, -1, -1])
    close(advantages(over_mean, [1, 1, 0, 1]), [1 / 3, 1 / 3, -1, 1 / 3])
    close(advantages(over_mean, [1, 0]), [1, -1])
    # 4, 1, 1: mean 2
    close(advantages(over_mean, [4, 1, 1]), [1, -0.5, -0.5])


def test_the_whole_batch_is_the_baseline_by_hand():
    # 4, 2, 2, 0: mean 2, squares 8, sample variance 8/3; the groups are {4, 2} and {2, 0}
    a = 2 / (math.sqrt(8 / 3) + EPSILON)
    close(advantages(batch_normalised, [4, 2, 2, 0], [0, 0, 1, 1]), [a, 0, 0, -a])
    # one question always right, one never: each output is compared with the other question's
    b = 0.5 / (math.sqrt(1 / 3) + EPSILON)
    close(advantages(batch_normalised, [1, 1, 0, 0], [0, 0, 1, 1]), [b, b, -b, -b])


def test_the_group_is_the_baseline_and_the_batch_the_scale_by_hand():
    # {4, 2} -> 1, -1; {5, 5} -> 0, 0; {9, 3} -> 3, -3: squares 20, five degrees of freedom, std 2
    scale = 2 + EPSILON
    values = advantages(group_centred_batch_scaled, [4, 2, 5, 5, 9, 3], [0, 0, 1, 1, 2, 2])
    close(values, [1 / scale, -1 / scale, 0, 0, 3 / scale, -3 / scale])
    assert values[2:4].tolist() == [0, 0]


def test_without_a_baseline_the_reward_is_the_advantage():
    assert advantages(reward, [2, -1, 0, 0.5]).tolist() == [2, -1, 0, 0.5]
    assert advantages(only_right, [2, -1, 0, 0.5]).tolist() == [2, 0, 0, 0.5]


def test_each_question_is_compared_with_itself_only():
    # group 7: 1, 0 -> +-0.5; group 2: 10, 4, 1 -> mean 5; the groups are interleaved
    rewards, group = [1, 10, 4, 0, 1], [7, 2, 2, 7, 2]
    close(advantages(group_centred, rewards, group), [0.5, 5, -1, -0.5, -4])
    # the others' means: 0 and 1; 2.5, 5.5, 7
    close(advantages(leave_one_out, rewards, group), [1, 7.5, -1.5, -1, -6])
    close(advantages(over_mean, rewards, group), [1, 1, -0.2, -1, -0.8])
    # c = 0.5, 5, -1, -0.5, -4: squares 42.5, four degrees of freedom
    scale = math.sqrt(42.5 / 4) + EPSILON
    close(advantages(group_centred_batch_scaled, rewards, group) * scale, [0.5, 5, -1, -0.5, -4])


@pytest.mark.parametrize("rule", [*WITHIN_GROUP, batch_normalised])
def test_equal_rewards_give_exactly_zero(rule):
    dtypes, values, sizes = (torch.float32, torch.float64), (0.0, 1.0, 0.1, 0.3, 1e8 + 0.1, -1 / 3), (2, 3, 7, 16)
    for dtype, value, size in itertools.product(dtypes, values, sizes):
        assert torch.equal(advantages(rule, [value] * size, dtype=dtype), torch.zeros(size, dtype=dtype)), (value, size)


@pytest.mark.parametrize("rule", WITHIN_GROUP)
def test_an_equal_group_beside_one_with_signal_is_exactly_zero(rule):
    values = advantages(rule, [0.1, 1, 0.1, 0, 0.1, 0.3], [0, 1, 0, 1, 0, 1])
    assert values[::2].tolist() == [0, 0, 0]
    assert values[1] > values[5] > values[3]


def test_the_signature_says_whether_an_output_is_compared_with_its_siblings():
    assert all(reads(rule) == ("rewards", "group", "mask") for rule in WITHIN_GROUP)
    assert all(reads(rule) == ("rewards", "mask") for rule in WITHOUT_GROUP)


@pytest.mark.parametrize("rule", [group_relative, group_centred, leave_one_out, group_centred_batch_scaled])
def test_a_large_common_offset_loses_no_digits(rule):
    # 1e8 + (1, 0, 0, 1): E[r^2] - E[r]^2 has a rounding of 2, more than the variance of 1/3
    close(advantages(rule, [1e8 + 1, 1e8, 1e8, 1e8 + 1]), advantages(rule, [1, 0, 0, 1]))


def test_a_constant_for_each_question_changes_nothing_but_where_there_is_no_question_or_a_share():
    group, easy = [0, 0, 0, 1, 1, 1], [5, 5, 5, 0, 0, 0]
    rewards = [1, 0, 0.5, 3, 1, 0.25]
    shifted = [r + e for r, e in zip(rewards, easy, strict=True)]
    for rule in (group_relative, group_centred, leave_one_out, group_centred_batch_scaled):
        close(advantages(rule, shifted, group), advantages(rule, rewards, group))
    assert advantages(batch_normalised, shifted, group)[:3].min() > 0  # an easy question is raised as a whole
    assert advantages(over_mean, shifted, group)[0] < 0.1 < 1 <= advantages(over_mean, rewards, group)[0]


@pytest.mark.parametrize("rule", [group_relative, over_mean, batch_normalised, group_centred_batch_scaled])
def test_a_unitless_advantage_does_not_know_the_rewards_unit(rule):
    rewards, group = [1, 0, 0.5, 3, 1, 0.25], [0, 0, 0, 1, 1, 1]
    scaled = advantages(rule, [1000 * r for r in rewards], group)
    assert (scaled - advantages(rule, rewards, group)).abs().max() < 20 * EPSILON  # EPSILON alone has a unit


@pytest.mark.parametrize("rule", [group_centred, leave_one_out, reward, only_right])
def test_an_advantage_in_reward_units_is_proportional_to_the_rewards(rule):
    rewards, group = [1, 0, 0.5, 3, 1, 0.25], [0, 0, 0, 1, 1, 1]
    close(advantages(rule, [1000 * r for r in rewards], group), 1000 * advantages(rule, rewards, group))


def test_over_the_batch_mean_zero_and_std_one():
    rewards, group = [1, 0, 0.5, 3, -1, 0.25], [0, 0, 0, 1, 1, 1]
    for rule in (batch_normalised, group_centred_batch_scaled):
        values = advantages(rule, rewards, group)
        assert abs(values.sum()) < 1e-12
        assert abs(values.std() - 1) < 2 * EPSILON
    assert abs(advantages(group_centred_batch_scaled, rewards, group)[:3].sum()) < 1e-12


def test_with_one_question_the_batch_is_its_group():
    rewards = [1, 0, 0.5, 3, -1, 0.25]
    for rule in (batch_normalised, group_centred_batch_scaled):
        close(advantages(rule, rewards), advantages(group_relative, rewards))


def test_leave_one_out_is_the_centred_reward_a_little_longer():
    # r_i - (S - r_i) / (G - 1) = G / (G - 1) (r_i - S / G)
    for size in (2, 3, 16):
        rewards = [math.sin(7.0 * i) for i in range(size)]
        close(advantages(leave_one_out, rewards), size / (size - 1) * advantages(group_centred, rewards))
        others = [r - (sum(rewards) - r) / (size - 1) for r in rewards]
        close(advantages(leave_one_out, rewards), others)


@pytest.mark.parametrize("rule", WITHIN_GROUP)
def test_a_pair_is_moved_apart_by_equal_amounts(rule):
    better, worse = advantages(rule, [3, 1]).tolist()
    assert better == -worse > 0


def test_a_missing_reward_is_not_a_reward_of_zero():
    # 1, 0 and one that failed: mean 1/2 of two, std 0.7071
    a = 0.5 / (math.sqrt(1 / 2) + EPSILON)
    close(advantages(group_relative, [1, NAN, 0]), [a, 0, -a])
    close(advantages(group_centred, [1, NAN, 0]), [0.5, 0, -0.5])
    close(advantages(leave_one_out, [1, NAN, 0]), [1, 0, -1])
    close(advantages(over_mean, [1, NAN, 0]), [1, 0, -1])
    close(advantages(reward, [1, NAN, -1]), [1, 0, -1])
    close(advantages(only_right, [1, NAN, -1]), [1, 0, 0])


@pytest.mark.parametrize("rule", EVERY)
def test_an_output_without_a_reward_is_as_if_it_were_not_there(rule):
    # three of a group and two of another, with a hole in each
    holed = advantages(rule, [1, NAN, 3, 0.5, 1, 0.25, NAN], [0, 0, 0, 0, 1, 1, 1])
    close(holed[[0, 2, 3, 4, 5]], advantages(rule, [1, 3, 0.5, 1, 0.25], [0, 0, 0, 1, 1]))
    assert holed[[1, 6]].tolist() == [0, 0]


@pytest.mark.parametrize("rule", [*ALONE_IN_GROUP, reward, only_right])
def test_a_missing_reward_changes_no_other_group(rule):
    whole = advantages(rule, [1, 0, 3, 1, 0, 5], [0, 0, 0, 1, 1, 1])
    holed = advantages(rule, [1, NAN, 3, 1, 0, 5], [0, 0, 0, 1, 1, 1])
    assert torch.equal(whole[3:], holed[3:])


def test_a_missing_reward_changes_the_other_groups_scale_alone_where_the_batch_scales():
    whole = advantages(group_centred_batch_scaled, [1, 0, 3, 1, 0, 5], [0, 0, 0, 1, 1, 1])[3:]
    holed = advantages(group_centred_batch_scaled, [1, NAN, 3, 1, 0, 5], [0, 0, 0, 1, 1, 1])[3:]
    close(holed / whole, (holed / whole)[0].expand(3))
    assert (holed / whole)[0] < 1  # squares 18 2/3 over 5 degrees of freedom, then 16 over 4


@pytest.mark.parametrize("rule", [*WITHIN_GROUP, batch_normalised])
@pytest.mark.parametrize("rewards", [[NAN, NAN, NAN], [NAN, 1, NAN], [NAN, 0.1, 0.1]])
def test_fewer_than_two_different_rewards_give_zero(rule, rewards):
    assert advantages(rule, rewards).tolist() == [0, 0, 0]


@pytest.mark.parametrize("rule", WITHIN_GROUP)
def test_a_group_of_one_is_refused(rule):
    with pytest.raises(DataError, match="group 4 has 1 output"):
        advantages(rule, [1, 0, 1], [3, 3, 4])


def test_a_group_of_one_is_enough_where_nothing_is_compared_within_it():
    close(advantages(reward, [1, 0, 1], [3, 3, 4]), [1, 0, 1])
    close(advantages(only_right, [1, 0, 1], [3, 3, 4]), [1, 0, 1])
    close(advantages(batch_normalised, [1, 0, 1], [3, 5, 4]), advantages(group_relative, [1, 0, 1]))
    with pytest.raises(DataError, match="1 output"):
        advantages(batch_normalised, [1])


@pytest.mark.parametrize("rule", EVERY)
@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinite_reward_is_refused(rule, value):
    with pytest.raises(DataError, match="infinite"):
        advantages(rule, [1, value])


@pytest.mark.parametrize("rewards", [[-1, 0, 0], [1, -1], [-3, -1]])
def test_a_share_of_a_mean_that_is_not_above_zero_is_refused(rewards):
    with pytest.raises(DataError, match="mean"):
        advantages(over_mean, rewards)


@pytest.mark.parametrize("rule", EVERY)
def test_each_drawn_token_has_its_outputs_advantage_and_others_zero(rule):
    mask = torch.tensor([[True, True, False], [False, True, True]])
    values = tokens(rule, torch.tensor([1.0, 0.0]), torch.tensor([0, 0]), mask)
    a, b = advantages(rule, [1, 0], dtype=torch.float32).tolist()
    assert values.tolist() == [[a, a, 0.0], [0.0, b, b]]


@pytest.mark.parametrize("rule", EVERY)
def test_whole_number_rewards_are_not_rounded(rule):
    values = tokens(rule, torch.tensor([1, 0, 0]), torch.tensor([0, 0, 0]), torch.ones(3, 1, dtype=torch.bool))[:, 0]
    assert torch.equal(values, advantages(rule, [1, 0, 0], dtype=torch.float32))


@settings(database=None, derandomize=True, deadline=None, max_examples=40)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12))
def test_no_advantage_passes_the_bound(rewards):
    size = len(rewards)
    assert advantages(group_relative, rewards).abs().max() <= (size - 1) / math.sqrt(size) * (1 + 1e-9)


@pytest.mark.parametrize("size", [2, 3, 8, 64])
def test_one_right_answer_reaches_the_bound(size):
    # r = e_1: centred 1 - 1/G, variance (1/G): A = (1 - 1/G) sqrt(G) = (G - 1) / sqrt(G)
    best = advantages(group_relative, [1e3] + [0] * (size - 1)).max()
    assert 0 <= (size - 1) / math.sqrt(size) - best < 1e-6
    close(advantages(over_mean, [1e3] + [0] * (size - 1)).max(), size - 1)


def weight(rule, p, size):
    """w by which the row's expected gradient is w grad p, for a question of success rate p and rewards 0 and 1.

    The score of a right output is grad p / p on average, that of a wrong one -grad p / (1 - p); the mean over all
    2^G groups, each with its probability, of the outputs' mean of advantage times score.
    """
    total = 0.0
    for rewards in itertools.product([1, 0], repeat=size):
        chance = math.prod(p if right else 1 - p for right in rewards)
        scores = [1 / p if right else -1 / (1 - p) for right in rewards]
        pairs = zip(advantages(rule, rewards).tolist(), scores, strict=True)
        total += chance * sum(a * score for a, score in pairs) / size
    return total


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("size", [2, 4])
def test_the_weight_of_a_question_under_each_row(p, size):
    close(weight(reward, p, size), 1)
    close(weight(only_right, p, size), 1)
    close(weight(leave_one_out, p, size), 1)
    close(weight(group_centred, p, size), (size - 1) / size)
    # a group without a right answer gives nothing, and so one term of the series less: sum_(k < G) (1 - p)^(k - 1)
    close(weight(over_mean, p, size), sum((1 - p) ** (k - 1) for k in range(1, size)))
    close(weight(over_mean, p, size), (1 - (1 - p) ** (size - 1)) / p)
