"""The losses of one token, and the aggregates: worked numbers with their gradients."""

import math

import pytest
import torch

from groupwise.objective.losses import (
    Denominators,
    cispo,
    clip,
    dual_clip,
    fixed_length,
    log_ratio,
    nll,
    per_output,
    per_token,
    reinforce,
    soft_gate,
)
from groupwise.objective.surrogate import reads
from tests.close import close

MASK = torch.tensor([[True, True, True, True], [True, True, False, False], [False, False, False, False]])
VALUES = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 7.0, 100.0, 100.0], [100.0] * 4], dtype=torch.float64)
PI = 0.3
"""Probability of the one token below."""
LOG_PI = math.log(PI)


def at(loss, ratio, advantage, low=0.2, high=0.2, **parameters):
    """Loss and its derivative by log pi of one token of probability PI with this ratio."""
    bounds = {"clip_low": low, "clip_high": high}
    parameters = parameters or {name: value for name, value in bounds.items() if name in reads(loss)}
    logprobs = torch.tensor([[LOG_PI]], dtype=torch.float64, requires_grad=True)
    old = torch.tensor([[LOG_PI - math.log(ratio)]], dtype=torch.float64)
    advantages = torch.tensor([[advantage]], dtype=torch.float64)
    value = loss(logprobs, old, advantages, torch.ones(1, 1, dtype=torch.bool), **parameters)
    (gradient,) = torch.autograd.grad(value.sum(), logprobs)
    return value.item(), gradient.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),  # d/dlogp of -ratio A is -ratio A
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.4, 0.0),  # 1.2 A, and nothing to gain
        (1.5, -2.0, 3.0, 3.0),  # a bad token made likelier: not clipped
        (0.5, -2.0, 1.6, 0.0),  # -0.8 A
        (0.5, 2.0, -1.0, -1.0),  # a good token made rarer: not clipped
        (0.5, 0.0, 0.0, 0.0),
    ],
)
def test_clip_by_hand(ratio, advantage, loss, gradient):
    close(at(clip, ratio, advantage), (loss, gradient))


def test_the_two_bounds_are_separate():
    # low 0.1, high 0.3: from 0.9 to 1.3
    close(at(clip, 1.25, 2.0, 0.1, 0.3), (-2.5, -2.5))
    close(at(clip, 1.35, 2.0, 0.1, 0.3), (-2.6, 0.0))
    close(at(clip, 0.85, -2.0, 0.1, 0.3), (1.8, 0.0))
    close(at(clip, 0.95, -2.0, 0.1, 0.3), (1.9, 1.9))


def test_dual_clip_bounds_a_bad_token_made_likelier_and_is_clip_elsewhere():
    close(at(dual_clip, 2.5, -2.0), (5.0, 5.0))  # under c: -ratio A
    close(at(dual_clip, 5.0, -2.0), (6.0, 0.0))  # c |A|, and no gradient
    close(at(dual_clip, 5.0, 2.0), (-2.4, 0.0))
    close(at(dual_clip, 2.5, -2.0, dual_clip=2.0), (4.0, 0.0))
    for ratio in (0.5, 0.9, 1.0, 1.3, 2.9):
        for advantage in (2.0, -2.0, 0.0):
            assert at(dual_clip, ratio, advantage, 0.1, 0.3) == at(clip, ratio, advantage, 0.1, 0.3)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 4.0])
def test_reinforce_is_the_policy_gradient_whatever_the_ratio(ratio):
    close(at(reinforce, ratio, 2.0), (-2.0 * LOG_PI, -2.0))
    close(at(reinforce, ratio, -0.5), (0.5 * LOG_PI, 0.5))


@pytest.mark.parametrize(
    ("ratio", "advantage", "weight"),
    [
        (1.0, 2.0, 1.0),
        (1.1, -2.0, 1.1),
        (1.5, 2.0, 1.2),
        (1.5, -2.0, 1.2),  # bounded whatever the sign
        (0.5, 2.0, 0.8),
        (0.5, -2.0, 0.8),
    ],
)
def test_cispo_weights_the_policy_gradient_by_the_bounded_ratio(ratio, advantage, weight):
    # the weight is held constant, so the derivative of -w A log pi is -w A, bound or not
    close(at(cispo, ratio, advantage), (-weight * advantage * LOG_PI, -weight * advantage))


def test_the_bounds_of_cispo_as_they_are_published():
    # from 0 to 5
    close(at(cispo, 0.01, 2.0, 1.0, 4.0)[1], -0.02)
    close(at(cispo, 4.9, 2.0, 1.0, 4.0)[1], -9.8)
    close(at(cispo, 7.0, 2.0, 1.0, 4.0)[1], -10.0)


def test_soft_gate_by_hand():
    # tau 1: at ratio 1 + ln 3 the sigmoid is 3/4 and its slope 3/16; value -4 (3/4) A, gradient -4 (3/16) ratio A
    far = 1 + math.log(3)
    close(at(soft_gate, far, 2.0, tau_neg=1.05, tau_pos=1.0), (-6.0, -1.5 * far))
    # tau 2 where A < 0: at ratio 1 - ln(3)/2 the sigmoid is 1/4; value -(4/2)(1/4) A = 1, gradient 4 (3/16) ratio 2
    near = 1 - math.log(3) / 2
    close(at(soft_gate, near, -2.0, tau_neg=2.0, tau_pos=1.0), (1.0, 1.5 * near))


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.05, 3.0])
def test_soft_gate_at_ratio_one_has_the_policy_gradient_whatever_the_temperature(tau):
    close(at(soft_gate, 1.0, 2.0, tau_neg=9.0, tau_pos=tau), (-2 * 2.0 / tau, -2.0))
    close(at(soft_gate, 1.0, -2.0, tau_neg=tau, tau_pos=9.0), (2 * 2.0 / tau, 2.0))


def test_soft_gate_never_loses_the_gradient_and_weakens_it_with_the_distance():
    slopes = [-at(soft_gate, ratio, 1.0)[1] / ratio for ratio in (1.0, 1.5, 2.5, 4.0)]
    assert slopes == sorted(slopes, reverse=True)
    assert slopes[-1] > 0
    close(slopes[1], -at(soft_gate, 0.5, 1.0)[1] / 0.5)  # by the distance from 1, on both sides alike


@pytest.mark.parametrize("ratio", [0.5, 1.0, 4.0])
def test_nll_imitates_what_has_an_advantage_and_nothing_else(ratio):
    for advantage in (2.0, 0.1):
        close(at(nll, ratio, advantage), (-LOG_PI, -1.0))
    for advantage in (0.0, -2.0):
        assert at(nll, ratio, advantage) == (0.0, 0.0)


def test_the_log_ratio_is_zero_outside_the_mask():
    logprobs, old = torch.tensor([[-1.0, -math.inf, math.nan]]), torch.tensor([[-1.5, -math.inf, -1.0]])
    assert log_ratio(logprobs, old, torch.tensor([[True, False, False]])).tolist() == [[0.5, 0.0, 0.0]]


def test_denominators_count_outputs_with_a_token_and_tokens():
    assert Denominators.of(MASK, 10) == Denominators(outputs=2.0, tokens=6.0, max_tokens=10)


def test_aggregates_by_hand():
    denominators = Denominators.of(MASK, 10)
    close(per_output(VALUES, MASK, denominators), (10 / 4 + 12 / 2) / 2)
    close(per_token(VALUES, MASK, denominators), 22 / 6)
    close(fixed_length(VALUES, MASK, denominators), 22 / (2 * 10))


def test_aggregates_divide_by_the_whole_steps_counts_not_by_the_cuts():
    denominators = Denominators(outputs=8.0, tokens=60.0, max_tokens=10)
    close(per_output(VALUES, MASK, denominators), (10 / 4 + 12 / 2) / 8)
    close(per_token(VALUES, MASK, denominators), 22 / 60)
    close(fixed_length(VALUES, MASK, denominators), 22 / (8 * 10))


@pytest.mark.parametrize("aggregate", [per_output, per_token, fixed_length])
def test_a_step_without_tokens_has_loss_zero(aggregate):
    nothing = torch.zeros(3, 4, dtype=torch.bool)
    assert aggregate(VALUES * math.nan, nothing, Denominators.of(nothing, 10)) == 0
