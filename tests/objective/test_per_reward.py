"""The advantage over several rewards, each normalised by itself (GDPO): worked numbers, and what is left out."""

import math

import pytest
import torch

from groupwise.errors import DataError
from groupwise.objective.advantage import EPSILON, group_relative, per_reward
from tests.close import close

NAN = math.nan
TWO_BY_TWO = [[1, 0.5], [0, 0.5], [0, 2], [1, 2]]
"""Parts of four outputs: the first reward tells 0 and 3 from 1 and 2, the second 2 and 3 from 0 and 1."""


def advantages(parts, weights=(1.0, 1.0), group=None, failed=()):
    """One number per output, whose reward is the weighted sum of its parts unless it failed."""
    parts, weights = (torch.tensor(rows, dtype=torch.float64) for rows in (parts, weights))
    rewards = (parts.nan_to_num() * weights).sum(1)
    rewards[list(failed)] = NAN
    group = torch.zeros(len(rewards), dtype=torch.long) if group is None else torch.tensor(group)
    return per_reward(rewards, parts, weights, group, torch.ones(len(rewards), 1, dtype=torch.bool))[:, 0]


def compared(rewards, group=None):
    rewards = torch.tensor(rewards, dtype=torch.float64)
    group = torch.zeros(len(rewards), dtype=torch.long) if group is None else torch.tensor(group)
    return group_relative(rewards, group, torch.ones(len(rewards), 1, dtype=torch.bool))[:, 0]


def rescaled(total):
    return (total - total.mean()) / (total.std() + EPSILON)


def test_two_rewards_by_hand():
    # 1, 0, 0, 1: +-0.5 over std 1/sqrt(3); 0.5, 0.5, 2, 2: +-0.75 over std sqrt(3)/2. Sums 0, -2s, 0, 2s with
    # s = sqrt(3)/2 = 0.866, their mean 0, squares 8 s^2 = 6, sample variance 2
    a = 0.5 / (1 / math.sqrt(3) + EPSILON)
    b = 0.75 / (math.sqrt(3) / 2 + EPSILON)
    scale = math.sqrt(((a - b) ** 2 * 2 + (a + b) ** 2 * 2) / 3) + EPSILON
    values = advantages(TWO_BY_TWO)
    close(values, [(a - b) / scale, -(a + b) / scale, (b - a) / scale, (a + b) / scale])
    assert (values - torch.tensor([0, -math.sqrt(1.5), 0, math.sqrt(1.5)])).abs().max() < 1e-5


def test_a_weight_counts_the_reward_it_is_of():
    # the first alone: 1, -1, -1, 1; three times the first and once the second: 2, -4, -2, 4 times 0.866
    close(advantages(TWO_BY_TWO, (1, 0)), advantages([row[:1] for row in TWO_BY_TWO], (1,)))
    values = advantages(TWO_BY_TWO, (3, 1))
    # squares 40, sample variance 40/3
    assert (values - torch.tensor([2, -4, -2, 4]) / math.sqrt(40 / 3)).abs().max() < 1e-5
    assert (advantages(TWO_BY_TWO, (1, -1)) - torch.tensor([2, 0, -2, 0]) / math.sqrt(8 / 3)).abs().max() < 1e-5


def test_one_part_a_thousand_times_as_large_changes_nothing():
    large = [[first, 1000 * second] for first, second in TWO_BY_TWO]
    assert (advantages(large) - advantages(TWO_BY_TWO)).abs().max() < 10 * EPSILON
    # where their sum would hear it alone
    assert compared([sum(row) for row in large])[1] < 0 > compared([sum(row) for row in large])[0]
    assert abs(advantages(large)[0]) < 10 * EPSILON


def test_one_reward_alone_is_group_relative_rescaled():
    rewards, group = [1, 0, 0.5, 3, -1, 0.25], [0, 0, 0, 1, 1, 1]
    close(advantages([[r] for r in rewards], (0.7,), group), rescaled(0.7 * compared(rewards, group)))


def test_the_scale_is_one_number_over_the_batch():
    # the second question tells nothing: its zeros are in the std of all four
    parts, group = [[1, 0], [0, 0], [0.3, 2], [0.3, 2]], [0, 0, 1, 1]
    a = math.sqrt(0.5) / (1 + EPSILON / math.sqrt(0.5))  # 0.5 over std sqrt(1/2)
    scale = math.sqrt(2 * a * a / 3) + EPSILON
    close(advantages(parts, group=group), [a / scale, -a / scale, 0, 0])


def test_an_output_that_failed_is_in_no_mean_of_any_part():
    with_failed = [*TWO_BY_TWO, [7, -5]]  # one of its functions failed, what the others said does not count
    values = advantages(with_failed, failed=[4])
    close(values[:4], advantages(TWO_BY_TWO))
    assert values[4] == 0


def test_a_part_that_abstained_is_compared_without_that_output():
    parts = [[1, 0.5], [0, NAN], [0, 2], [1, 2]]
    first, second = compared([1, 0, 0, 1]), compared([0.5, 2, 2])
    close(advantages(parts), rescaled(first + second[[0, 0, 1, 2]] * torch.tensor([1, 0, 1, 1])))


def test_a_part_that_abstained_everywhere_is_as_if_it_were_not_there():
    close(advantages([[row[0], NAN] for row in TWO_BY_TWO]), advantages([row[:1] for row in TWO_BY_TWO], (1,)))


def test_each_question_is_compared_with_itself_in_each_part():
    parts, group = [TWO_BY_TWO[i] for i in (0, 2, 1, 3)], [5, 2, 5, 2]
    first, second = (compared([row[k] for row in parts], group) for k in (0, 1))
    close(advantages(parts, group=group), rescaled(first + second))


@pytest.mark.parametrize("parts", [[[0.1, 2]] * 3, [[1, NAN], [NAN, NAN], [NAN, 3]], [[1, 0], [0, 1]]])
def test_where_no_output_is_better_all_are_zero(parts):
    assert not advantages(parts).any()


def test_fewer_than_two_outputs_with_a_reward_give_zero():
    assert not advantages(TWO_BY_TWO, failed=[0, 1, 3]).any()
    assert not advantages(TWO_BY_TWO, failed=[0, 1, 2, 3]).any()


def test_a_group_of_one_and_an_infinite_part_are_refused():
    with pytest.raises(DataError, match="1 output"):
        advantages(TWO_BY_TWO, group=[0, 0, 0, 1])
    with pytest.raises(DataError, match="infinite"):
        advantages([[1, math.inf], [0, 0]])
