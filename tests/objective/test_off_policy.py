"""Outputs of a policy that was not quite this one, by enumeration: importance sampling, corrections, later updates."""

from dataclasses import replace

import pytest
import torch

from groupwise.objective.advantage import group_relative
from groupwise.objective.correction import sequence_truncated, token_truncated
from groupwise.objective.losses import Denominators, clip, log_ratio, per_output
from groupwise.objective.presets import DR_GRPO, GRPO, REINFORCE, RLOO
from groupwise.run.resolve import objective_of
from tests.close import close
from tests.objective.test_policy_gradient import (
    MASK,
    MAX_TOKENS,
    REWARDS,
    THETA,
    expected_step,
    gradient_of,
    log_probability,
    logprobs_of,
    true_gradient,
)

SAMPLER = torch.tensor([[-0.2, 0.3, 0.4], [0.4, -0.3, 0.1], [0.1, 0.6, -0.2]], dtype=torch.float64)
"""The logits that the outputs were drawn from, where the policy's are THETA."""
FREE = {"correction_low": 0.0, "correction_high": 1e9}
"""Bounds that bound nothing."""


def test_importance_sampling_has_no_bias():
    # over whole outputs: E over the old policy of (pi / pi_old) f = E over pi of f, in value and in gradient
    old = logprobs_of(SAMPLER)

    def estimate(theta):
        ratio = log_ratio(logprobs_of(theta), old, MASK).sum(1).exp()
        return (log_probability(SAMPLER).exp() * ratio * REWARDS).sum()

    assert abs(estimate(THETA) - (log_probability(THETA).exp() * REWARDS).sum()) < 1e-10
    assert (gradient_of(estimate) - true_gradient()).abs().max() < 1e-10


@pytest.mark.parametrize(("preset", "size"), [(REINFORCE, 1), (RLOO, 2), (DR_GRPO, 2)])
def test_an_outputs_unbounded_weight_makes_the_step_of_another_samplers_outputs_the_policys_own(preset, size):
    objective = replace(objective_of(preset), correction=sequence_truncated, parameters=FREE)
    found = expected_step(objective, size, sampler=SAMPLER)
    assert (found - expected_step(objective, size)).abs().max() < 1e-10


def test_uncorrected_and_by_token_the_step_of_another_samplers_outputs_is_biased():
    true = true_gradient() / MAX_TOKENS
    plain = objective_of(REINFORCE)
    uncorrected = expected_step(plain, 1, sampler=SAMPLER)
    by_token = expected_step(replace(plain, correction=token_truncated, parameters=FREE), 1, sampler=SAMPLER)
    bounded = expected_step(
        replace(plain, correction=sequence_truncated, parameters={"correction_high": 1.2}), 1, sampler=SAMPLER
    )
    for found in (uncorrected, by_token, bounded):
        assert (found - true).abs().max() > 0.005


def test_a_tokens_weight_corrects_the_token_and_not_how_likely_the_state_is():
    # E over the sampler's states of the policy's own step in each: outputs by sampler(first token) pi(second | first)
    found = expected_step(
        replace(objective_of(REINFORCE), correction=token_truncated, parameters=FREE), 1, sampler=SAMPLER
    )
    policy, sampler = (torch.where(MASK, logprobs_of(theta), 0.0) for theta in (THETA, SAMPLER))
    first = policy[:, 1] + sampler[:, 2]  # the weight of the first token, which draws the second from the sampler
    second = sampler[:, 1] + policy[:, 2]

    def surrogate(theta):
        score = torch.where(MASK, logprobs_of(theta), 0.0)
        return (REWARDS * (first.exp() * score[:, 1] + second.exp() * score[:, 2])).sum() / MAX_TOKENS

    assert (found - gradient_of(surrogate)).abs().max() < 1e-10


def test_updates_on_one_batch_move_the_ratio_off_one_until_the_clip_holds_it():
    # One state, two tokens of probability 1/2, A = +-0.707; log pi_0 - log pi_1 grows by its gradient each time.
    logits = torch.zeros(2, dtype=torch.float64)
    tokens, mask = torch.tensor([0, 1]), torch.ones(2, 1, dtype=torch.bool)
    old = logits.log_softmax(-1)[tokens][:, None]
    advantages = group_relative(torch.tensor([1.0, 0.0], dtype=torch.float64), torch.zeros(2), mask)
    ratios, gradients = [], []
    for _ in range(8):
        at = logits.clone().requires_grad_()
        logprobs = at.log_softmax(-1)[tokens][:, None]
        loss = per_output(clip(logprobs, old, advantages, mask), mask, Denominators.of(mask, 1))
        (gradient,) = torch.autograd.grad(loss, at)
        ratios.append((logprobs - old).exp()[:, 0].tolist())
        gradients.append(gradient.abs().max().item())
        logits = logits - 0.3 * gradient
    assert ratios[0] == [1, 1]
    assert 1 < ratios[1][0] < 1.2 < ratios[-1][0] < 1.3
    assert 1 > ratios[1][1] > 0.8 > ratios[-1][1] > 0.7
    assert gradients[0] > 0.1
    assert gradients[-1] == 0
    assert ratios[-1] == ratios[-2]


def test_at_the_first_update_the_clip_does_not_bind_and_grpos_step_is_the_unclipped_one():
    wide = replace(objective_of(GRPO), kl_coef=0.0, parameters={"clip_low": 1e6, "clip_high": 1e6})
    close(expected_step(replace(objective_of(GRPO), kl_coef=0.0), 2), expected_step(wide, 2))
