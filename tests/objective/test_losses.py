"""The clipped loss token by token, and the aggregates: worked numbers with their gradients."""

import math

import pytest
import torch

from groupwise.objective.losses import Denominators, clip, fixed_length, log_ratio, per_output, per_token
from tests.close import close

MASK = torch.tensor([[True, True, True, True], [True, True, False, False], [False, False, False, False]])
VALUES = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 7.0, 100.0, 100.0], [100.0] * 4], dtype=torch.float64)


def clipped(ratio, advantage, low=0.2, high=0.2):
    """Loss and its derivative by log pi of one token with this ratio."""
    logprobs = torch.tensor([[math.log(0.3)]], dtype=torch.float64, requires_grad=True)
    old = torch.tensor([[math.log(0.3) - math.log(ratio)]], dtype=torch.float64)
    advantages = torch.tensor([[advantage]], dtype=torch.float64)
    loss = clip(logprobs, old, advantages, torch.ones(1, 1, dtype=torch.bool), low, high)
    (gradient,) = torch.autograd.grad(loss.sum(), logprobs)
    return loss.item(), gradient.item()


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
    close(clipped(ratio, advantage), (loss, gradient))


def test_the_two_bounds_are_separate():
    # low 0.1, high 0.3: from 0.9 to 1.3
    close(clipped(1.25, 2.0, 0.1, 0.3), (-2.5, -2.5))
    close(clipped(1.35, 2.0, 0.1, 0.3), (-2.6, 0.0))
    close(clipped(0.85, -2.0, 0.1, 0.3), (1.8, 0.0))
    close(clipped(0.95, -2.0, 0.1, 0.3), (1.9, 1.9))


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
