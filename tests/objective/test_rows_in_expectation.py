"""What a published row does on average: its exact expected step, over all groups of outputs of an enumerable policy."""

import itertools

import pytest
import torch

from groupwise.objective.losses import Denominators
from groupwise.objective.presets import MAXRL, ONLINE_RFT, REINFORCE, RLOO
from groupwise.objective.surrogate import policy_loss
from tests.objective.made import objective_of
from tests.objective.test_policy_gradient import (
    LENGTHS,
    MASK,
    MAX_TOKENS,
    OUTPUTS,
    REWARDS,
    RIGHT,
    THETA,
    gradient_of,
    log_probability,
    logprobs_of,
    true_gradient,
)


def expected_step(preset, size, rewards):
    """E over all groups of `size` outputs of -grad loss, at the first update after sampling."""
    objective = objective_of(preset)
    weights = log_probability(THETA).exp()

    def expected_loss(theta):
        everything = logprobs_of(theta)
        total = torch.zeros((), dtype=torch.float64)
        for chosen in itertools.product(range(len(OUTPUTS)), repeat=size):
            rows = torch.tensor(chosen)
            logprobs, mask = everything[rows], MASK[rows]
            advantages = objective.advantage(rewards[rows], torch.zeros(size, dtype=torch.long), mask)
            terms = policy_loss(
                objective,
                logprobs,
                old_logprobs=logprobs.detach(),
                ref_logprobs=None,
                entropies=None,
                advantages=advantages,
                mask=mask,
                denominators=Denominators.of(mask, MAX_TOKENS),
            )
            total = total + weights[rows].prod() * terms.loss
        return total

    return -gradient_of(expected_loss)


@pytest.mark.parametrize(("preset", "size"), [(REINFORCE, 2), (RLOO, 2), (RLOO, 3)])
def test_reinforce_and_rloo_take_the_true_gradient(preset, size):
    # a constant 1 / max_tokens, and no factor of the group's size
    expected = true_gradient() / MAX_TOKENS
    assert (expected_step(preset, size, REWARDS) - expected).abs().max() < 1e-10


@pytest.mark.parametrize("size", [2, 3])
def test_maxrl_takes_the_gradient_of_the_first_terms_of_the_log_likelihood(size):
    # log p = -sum_k (1-p)^k / k; the first G - 1 terms have the gradient sum_(k < G) (1-p)^(k-1) grad p
    p = (log_probability(THETA).exp() * RIGHT).sum()
    expected = sum((1 - p) ** (k - 1) for k in range(1, size)) * true_gradient(RIGHT) / MAX_TOKENS
    assert (expected_step(MAXRL, size, RIGHT) - expected).abs().max() < 1e-10


def test_online_rft_imitates_right_outputs_by_their_mean_over_tokens():
    # E[1(right) / |o| * score]
    weight = log_probability(THETA).exp() * RIGHT / LENGTHS
    expected = gradient_of(lambda theta: (weight * log_probability(theta)).sum())
    assert (expected_step(ONLINE_RFT, 2, RIGHT) - expected).abs().max() < 1e-10
