"""What a row of single tokens' advantages does on average: its exact expected step over an enumerable policy.

With the KL in the reward, with a critic, with a teacher; the policy of test_policy_gradient.py, its seven outputs.
"""

from dataclasses import replace

import pytest
import torch

from groupwise.objective.logprobs import k1, k3, sampling_logits
from groupwise.objective.presets import A2C, DISTILL, REINFORCE, RLOO
from groupwise.objective.token_advantage import token_rewards
from groupwise.run.resolve import objective_of
from tests.objective.test_policy_gradient import (
    MASK,
    MAX_TOKENS,
    OUTPUTS,
    REWARDS,
    TEMPERATURE,
    THETA,
    expected_step,
    gradient_of,
    log_probability,
    logprobs_of,
    true_gradient,
)

REF = torch.tensor([[0.0, 0.4, -0.3], [0.5, 0.1, 0.2], [-0.1, 0.3, 0.6]], dtype=torch.float64)
BETA = 0.3
BEFORE = OUTPUTS.roll(1, dims=1)
"""The token before each; with its place it is the whole state, since only the second has another before it than end."""
FIXED = replace(objective_of(A2C), aggregate=objective_of(REINFORCE).aggregate)
"""A2C under the mean that has no weight by length."""
SOME_VALUES = torch.tensor([[0.7, -2.0, 1.1], [0.2, 0.9, -0.4], [3.0, 0.5, 0.1]], dtype=torch.float64)


def penalties(estimator):
    """beta times the estimate at each token, [7, 3]."""
    return BETA * torch.where(MASK, estimator(logprobs_of(THETA), logprobs_of(REF)), 0.0)


def penalised_gradient():
    """Gradient of E[r] - beta KL(pi || ref) over whole outputs, by autograd through the sum over all of them."""

    def value(theta):
        gap = log_probability(theta) - log_probability(REF)
        return (log_probability(theta).exp() * (REWARDS - BETA * gap)).sum()

    return gradient_of(value)


def by_state(values):
    """A critic's values at each token, [7, 3], from a table by the token before and the place."""
    return values[BEFORE, torch.arange(3)]


def exact_values():
    """V = E[r | the tokens so far] of the state in which each token was drawn, [7, 3]."""
    probability = log_probability(THETA).exp()
    values = torch.zeros(7, 3, dtype=torch.float64)
    for output in range(7):
        for t in (1, 2):
            same = (OUTPUTS[:, :t] == OUTPUTS[output, :t]).all(1)
            values[output, t] = (probability * REWARDS)[same].sum() / probability[same].sum()
    return values


def test_reinforce_of_the_reward_less_k1_ascends_the_reward_less_beta_kl():
    rewards = REWARDS - penalties(k1).sum(1)
    found = expected_step(objective_of(REINFORCE), 1, rewards)
    assert (found - penalised_gradient() / MAX_TOKENS).abs().max() < 1e-10
    assert (found - true_gradient() / MAX_TOKENS).abs().max() > 0.01


def test_so_does_leave_one_out_which_compares_the_penalised_rewards():
    rewards = REWARDS - penalties(k1).sum(1)
    found = expected_step(objective_of(RLOO), 2, rewards)
    assert (found - penalised_gradient() / MAX_TOKENS).abs().max() < 1e-10


def test_k3_in_the_reward_is_not_the_gradient_of_the_kl():
    # its value is, its score is not: E[k3 grad log pi] is not grad KL
    found = expected_step(objective_of(REINFORCE), 1, REWARDS - penalties(k3).sum(1))
    assert (found - penalised_gradient() / MAX_TOKENS).abs().max() > 0.001


def test_each_token_may_answer_for_the_penalties_from_it_on_alone():
    # What was paid before a token has no part in its expected gradient, and with lambda 1 nor has any value of a state.
    told = {
        "token_rewards": token_rewards(REWARDS, MASK, penalties(k1)),
        "discount": 1.0,
        "gae_lambda": 1.0,
    }
    for values in (torch.zeros(7, 3, dtype=torch.float64), by_state(SOME_VALUES)):
        found = expected_step(FIXED, 1, told=told | {"values": values})
        assert (found - penalised_gradient() / MAX_TOKENS).abs().max() < 1e-10


@pytest.mark.parametrize("gae_lambda", [0.0, 0.5, 1.0])
def test_with_an_exact_critic_every_lambda_takes_the_true_gradient(gae_lambda):
    told = {"token_rewards": token_rewards(REWARDS, MASK), "values": exact_values(), "discount": 1.0}
    found = expected_step(FIXED, 1, told=told | {"gae_lambda": gae_lambda})
    assert (found - true_gradient() / MAX_TOKENS).abs().max() < 1e-10


def test_with_a_wrong_critic_lambda_one_alone_does():
    told = {"token_rewards": token_rewards(REWARDS, MASK), "values": by_state(SOME_VALUES), "discount": 1.0}
    right, half, none = (expected_step(FIXED, 1, told=told | {"gae_lambda": number}) for number in (1.0, 0.5, 0.0))
    true = true_gradient() / MAX_TOKENS
    assert (right - true).abs().max() < 1e-10
    assert (none - true).norm() > (half - true).norm() > 0.01


def test_the_teachers_gap_descends_the_reverse_kl_in_the_states_that_the_student_visits():
    # sum over outputs of their probability, held fixed, times the KL of each next token to the teacher's
    visits = torch.where(MASK, log_probability(THETA).exp()[:, None], 0.0)

    def divergence(theta):
        log_p, log_q = (sampling_logits(logits, temperature=TEMPERATURE).log_softmax(-1) for logits in (theta, REF))
        of_state = (log_p.exp() * (log_p - log_q)).sum(-1)
        return (visits * of_state[BEFORE]).sum()

    objective = replace(objective_of(DISTILL), aggregate=objective_of(REINFORCE).aggregate)
    found = expected_step(objective, 1, told={"teacher_logprobs": logprobs_of(REF)})
    assert (found + gradient_of(divergence) / MAX_TOKENS).abs().max() < 1e-10
