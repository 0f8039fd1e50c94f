"""Generalised advantage estimation: worked numbers, its two ends, the lambda-return, and gaps between turns."""

import math

import pytest
import torch

from groupwise.objective.advantage import EPSILON
from groupwise.objective.token_advantage import gae, gae_whitened, token_rewards
from tests.close import close

NAN = math.nan


def table(rows):
    return torch.tensor(rows, dtype=torch.float64)


def estimated(rewards, values, discount=1.0, gae_lambda=0.95, mask=None, rule=gae):
    """The advantages of one output with these rewards and values."""
    mask = torch.ones(1, len(values), dtype=torch.bool) if mask is None else torch.tensor([mask], dtype=torch.bool)
    return rule(table([rewards]), table([values]), mask, discount, gae_lambda)[0]


def test_three_tokens_by_hand():
    # rewards 0, 0, 1 and values 0.5, 0.6, 0.8, lambda 0.95: the errors are 0.1, 0.2 and 1 - 0.8 = 0.2
    # 0.2; 0.2 + 0.95 * 0.2 = 0.39; 0.1 + 0.95 * 0.39 = 0.4705
    close(estimated([0, 0, 1], [0.5, 0.6, 0.8]), [0.4705, 0.39, 0.2])


def test_three_tokens_with_a_discount_and_rewards_on_the_way_by_hand():
    # discount 0.5, lambda 0.8: errors 1 + 0.5 * 4 - 2 = 1, -1 + 0.5 * 6 - 4 = -2, 3 - 6 = -3
    # -3; -2 + 0.4 * -3 = -3.2; 1 + 0.4 * -3.2 = -0.28
    close(estimated([1, -1, 3], [2, 4, 6], discount=0.5, gae_lambda=0.8), [-0.28, -3.2, -3])


def test_lambda_zero_gives_the_one_step_error():
    close(estimated([1, -1, 3], [2, 4, 6], discount=0.5, gae_lambda=0.0), [1, -2, -3])


def test_lambda_one_gives_the_discounted_return_less_the_value():
    # returns 3; -1 + 0.5 * 3 = 0.5; 1 + 0.5 * 0.5 = 1.25
    close(estimated([1, -1, 3], [2, 4, 6], discount=0.5, gae_lambda=1.0), [1.25 - 2, 0.5 - 4, 3 - 6])
    # rewards 0, 0, 1  values .5, .5, .5  discount 1  ->  advantages .5, .5, .5
    close(estimated([0, 0, 1], [0.5, 0.5, 0.5], gae_lambda=1.0), [0.5, 0.5, 0.5])


def test_after_the_last_token_nothing_is_to_come():
    close(estimated([7], [2]), [5])
    # a row's padding, whatever stands there, is not a state
    close(estimated([7, 9, NAN], [2, 50, NAN], mask=[1, 0, 0]), [5, 0, 0])


@pytest.mark.parametrize("discount", [1.0, 0.9])
@pytest.mark.parametrize("gae_lambda", [0.0, 0.3, 0.95, 1.0])
def test_advantage_and_value_are_the_mixture_of_the_returns_of_each_length(discount, gae_lambda):
    # G_n(t) = sum_(k < n) discount^k r_(t+k) + discount^n V(t+n); weights (1 - lambda) lambda^(n-1), and what is left
    # of 1 on the longest, which reaches the end
    rewards, values = [0.3, -1.0, 0.5, 2.0, 0.7], [1.0, 0.2, -0.4, 0.9, 1.5]
    expected = []
    for t in range(5):
        total, longest = 0.0, 5 - t
        for n in range(1, longest + 1):
            to_come = sum(discount**k * rewards[t + k] for k in range(n))
            if n < longest:
                to_come += discount**n * values[t + n]
            weight = gae_lambda ** (n - 1) * (1 - gae_lambda if n < longest else 1)
            total += weight * to_come
        expected.append(total)
    close(estimated(rewards, values, discount, gae_lambda) + table(values), expected)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.6, 1.0])
def test_a_tools_words_between_two_turns_are_passed_over(gae_lambda):
    mask = [1, 1, 0, 0, 1, 0, 1, 0]
    found = estimated(
        [1, 2, NAN, 9, 3, -math.inf, 4, 9], [0.5, 1, 7, NAN, 2, math.inf, 3, 7], 0.9, gae_lambda, mask=mask
    )
    cut = estimated([1, 2, 3, 4], [0.5, 1, 2, 3], 0.9, gae_lambda)
    close(found[[0, 1, 4, 6]], cut)
    assert found[[2, 3, 5, 7]].tolist() == [0] * 4


def test_an_output_does_not_reach_into_another():
    rewards, values = table([[1, 2], [3, 4]]), table([[0.5, 1], [2, 3]])
    both = gae(rewards, values, torch.ones(2, 2, dtype=torch.bool), 0.9, 0.8)
    close(both, torch.stack([estimated([1, 2], [0.5, 1], 0.9, 0.8), estimated([3, 4], [2, 3], 0.9, 0.8)]))


@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
def test_a_critic_that_knew_the_outcome_leaves_no_advantage(gae_lambda):
    mask = torch.tensor([[True, False, True, True], [True, True, False, False]])
    outcome = table([3, -1])
    values = outcome[:, None].expand(2, 4)
    assert not gae(token_rewards(outcome, mask), values, mask, 1.0, gae_lambda).any()


def test_the_penalty_of_a_token_is_not_held_against_those_after_it():
    # one nat at the second token of three: the first two answer for it
    mask = torch.ones(1, 3, dtype=torch.bool)
    penalised = token_rewards(table([1]), mask, table([[0, 1, 0]]))
    plain = token_rewards(table([1]), mask)
    values = table([[0.3, 0.4, 0.5]])
    close(gae(penalised, values, mask, 1.0, 1.0) - gae(plain, values, mask, 1.0, 1.0), [[-1, -1, 0]])


def test_whitened_by_hand():
    # advantages 3, 1, -1 by lambda 0: values 1, 2, 3 and rewards 2, 0, 2; mean 1, squares 8, sample variance 4
    scale = 2 + EPSILON
    close(estimated([2, 0, 2], [1, 2, 3], gae_lambda=0.0), [3, 1, -1])
    close(estimated([2, 0, 2], [1, 2, 3], gae_lambda=0.0, rule=gae_whitened), [2 / scale, 0, -2 / scale])


def test_whitened_over_the_batchs_tokens_the_mean_is_zero_and_the_std_one():
    generator = torch.Generator().manual_seed(0)
    rewards, values = (torch.rand(4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.arange(6) < torch.tensor([6, 1, 3, 5])[:, None]
    found = gae_whitened(rewards, values, mask, 1.0, 0.95)
    assert abs(found.sum()) < 1e-12
    assert abs(found[mask].std() - 1) < 10 * EPSILON
    plain = gae(rewards, values, mask, 1.0, 0.95)
    close(found[mask], (plain[mask] - plain[mask].mean()) / (plain[mask].std() + EPSILON))
