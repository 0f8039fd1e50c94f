"""Advantages: worked numbers, exact zeros, missing rewards, and the bound that no group can pass."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from groupwise.errors import DataError
from groupwise.objective.advantage import EPSILON, group_centred, group_relative
from tests.close import close

NAN = math.nan


def advantages(rule, rewards, group=None, dtype=torch.float64):
    """One number per output: the rule with one token each."""
    rewards = torch.tensor(rewards, dtype=dtype)
    group = torch.zeros(len(rewards), dtype=torch.long) if group is None else torch.tensor(group)
    return rule(rewards, group, torch.ones(len(rewards), 1, dtype=torch.bool))[:, 0]


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


def test_each_question_is_compared_with_itself_only():
    # group 7: 1, 0 -> +-0.5; group 2: 10, 4, 1 -> mean 5; the groups are interleaved
    values = advantages(group_centred, [1, 10, 4, 0, 1], [7, 2, 2, 7, 2])
    close(values, [0.5, 5, -1, -0.5, -4])


@pytest.mark.parametrize("rule", [group_relative, group_centred])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 0.3, 1e8 + 0.1, -1 / 3])
@pytest.mark.parametrize("size", [2, 3, 7, 16])
def test_equal_rewards_give_exactly_zero(rule, dtype, reward, size):
    assert torch.equal(advantages(rule, [reward] * size, dtype=dtype), torch.zeros(size, dtype=dtype))


def test_a_large_common_offset_loses_no_digits():
    # 1e8 + (1, 0, 0, 1): E[r^2] - E[r]^2 has a rounding of 2, more than the variance of 1/3
    close(advantages(group_relative, [1e8 + 1, 1e8, 1e8, 1e8 + 1]), advantages(group_relative, [1, 0, 0, 1]))


def test_a_missing_reward_is_not_a_reward_of_zero():
    # 1, 0 and one that failed: mean 1/2 of two, std 0.7071
    a = 0.5 / (math.sqrt(1 / 2) + EPSILON)
    close(advantages(group_relative, [1, NAN, 0]), [a, 0, -a])
    close(advantages(group_centred, [1, NAN, 0]), [0.5, 0, -0.5])


@pytest.mark.parametrize("rule", [group_relative, group_centred])
def test_a_missing_reward_changes_no_other_group(rule):
    whole = advantages(rule, [1, 0, 3, 1, 0, 5], [0, 0, 0, 1, 1, 1])
    holed = advantages(rule, [1, NAN, 3, 1, 0, 5], [0, 0, 0, 1, 1, 1])
    assert torch.equal(whole[3:], holed[3:])


@pytest.mark.parametrize("rule", [group_relative, group_centred])
@pytest.mark.parametrize("rewards", [[NAN, NAN, NAN], [NAN, 1, NAN], [NAN, 0.1, 0.1]])
def test_fewer_than_two_different_rewards_give_zero(rule, rewards):
    assert advantages(rule, rewards).tolist() == [0, 0, 0]


@pytest.mark.parametrize("rule", [group_relative, group_centred])
def test_a_group_of_one_is_refused(rule):
    with pytest.raises(DataError, match="group 4 has 1 output"):
        advantages(rule, [1, 0, 1], [3, 3, 4])


def test_an_infinite_reward_is_refused():
    with pytest.raises(DataError, match="infinite"):
        advantages(group_centred, [1, math.inf])


def test_each_drawn_token_has_its_outputs_advantage_and_others_zero():
    mask = torch.tensor([[True, True, False], [False, True, True]])
    values = group_centred(torch.tensor([1.0, 0.0]), torch.tensor([0, 0]), mask)
    assert values.tolist() == [[0.5, 0.5, 0.0], [0.0, -0.5, -0.5]]


def test_whole_number_rewards_are_not_rounded():
    values = group_centred(torch.tensor([1, 0]), torch.tensor([0, 0]), torch.ones(2, 1, dtype=torch.bool))
    assert values.tolist() == [[0.5], [-0.5]]


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
