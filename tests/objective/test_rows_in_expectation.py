"""What a published row does on average: its exact expected step, over all groups of outputs of an enumerable policy."""

import pytest

from groupwise.objective.presets import MAXRL, ONLINE_RFT, REINFORCE, RLOO
from groupwise.run.resolve import objective_of
from tests.objective.test_policy_gradient import (
    LENGTHS,
    MAX_TOKENS,
    REWARDS,
    RIGHT,
    THETA,
    expected_step,
    gradient_of,
    log_probability,
    true_gradient,
)


@pytest.mark.parametrize(("preset", "size"), [(REINFORCE, 2), (RLOO, 2), (RLOO, 3)])
def test_reinforce_and_rloo_take_the_true_gradient(preset, size):
    # a constant 1 / max_tokens, and no factor of the group's size
    expected = true_gradient() / MAX_TOKENS
    assert (expected_step(objective_of(preset), size, REWARDS) - expected).abs().max() < 1e-10


@pytest.mark.parametrize("size", [2, 3])
def test_maxrl_takes_the_gradient_of_the_first_terms_of_the_log_likelihood(size):
    # log p = -sum_k (1-p)^k / k; the first G - 1 terms have the gradient sum_(k < G) (1-p)^(k-1) grad p
    p = (log_probability(THETA).exp() * RIGHT).sum()
    expected = sum((1 - p) ** (k - 1) for k in range(1, size)) * true_gradient(RIGHT) / MAX_TOKENS
    assert (expected_step(objective_of(MAXRL), size, RIGHT) - expected).abs().max() < 1e-10


def test_online_rft_imitates_right_outputs_by_their_mean_over_tokens():
    # E[1(right) / |o| * score]
    weight = log_probability(THETA).exp() * RIGHT / LENGTHS
    expected = gradient_of(lambda theta: (weight * log_probability(theta)).sum())
    assert (expected_step(objective_of(ONLINE_RFT), 2, RIGHT) - expected).abs().max() < 1e-10
