"""The critic's loss and how it is measured: worked numbers with their gradients."""

import math
import warnings

import pytest
import torch

from groupwise.objective.small_batch import SPOILS
from groupwise.objective.value import explained_variance, value_loss
from tests.close import close


def at(value, old_value, outcome, clip):
    """Loss and its derivative by the value, of one token."""
    values = torch.tensor([[value]], dtype=torch.float64, requires_grad=True)
    old, returns = (torch.tensor([[number]], dtype=torch.float64) for number in (old_value, outcome))
    loss = value_loss(values, old, returns, torch.ones(1, 1, dtype=torch.bool), clip)
    return loss.item(), torch.autograd.grad(loss.sum(), values)[0].item()


@pytest.mark.parametrize(
    ("value", "outcome", "loss", "gradient"),
    [
        (0.6, 2.0, 1.96, -2.8),  # within 0.2 of the old value 0.5: (0.6 - 2)^2 and 2 (0.6 - 2)
        (0.4, 2.0, 2.56, -3.2),
        (1.0, 2.0, 1.69, 0.0),  # past 0.7, towards the return: (0.7 - 2)^2, and nothing to gain
        (1.0, 0.0, 1.0, 2.0),  # past 0.7, away from the return: not clipped
        (0.0, -1.0, 1.69, 0.0),  # past 0.3, towards the return: (0.3 + 1)^2
        (0.0, 2.0, 4.0, -4.0),  # past 0.3, away from it
        (2.0, 2.0, 1.69, 0.0),  # at the return itself, and too soon
    ],
)
def test_the_clipped_loss_by_hand(value, outcome, loss, gradient):
    close(at(value, 0.5, outcome, 0.2), (loss, gradient))


@pytest.mark.parametrize("value", [-1.0, 0.4, 0.6, 1.0, 3.0])
def test_without_a_clip_the_loss_is_the_squared_error_wherever_the_value_was(value):
    close(at(value, 0.5, 2.0, None), ((value - 2) ** 2, 2 * (value - 2)))
    close(at(value, -9.0, 2.0, None), ((value - 2) ** 2, 2 * (value - 2)))


def test_the_clip_never_makes_the_loss_smaller_and_a_wide_one_does_nothing():
    for value in (-1.0, 0.0, 0.45, 0.6, 1.0, 2.5):
        for outcome in (-1.0, 0.5, 2.0):
            assert at(value, 0.5, outcome, 0.2)[0] >= at(value, 0.5, outcome, None)[0]
            assert at(value, 0.5, outcome, 10.0) == at(value, 0.5, outcome, None)


@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize("spoil", SPOILS)
def test_what_is_outside_the_mask_reaches_neither_value_nor_gradient(clip, spoil):
    mask = torch.tensor([[True, False, True]])
    values, old, returns = (
        torch.where(mask, torch.tensor([row], dtype=torch.float64), spoil)
        for row in ([0.6, 1.0, 1.0], [0.5, 0.5, 0.5], [2.0, 2.0, 0.0])
    )
    values.requires_grad_()
    loss = value_loss(values, old, returns, mask, clip)
    close(loss, [[1.96, 0, 1]])
    close(torch.autograd.grad(loss.sum(), values)[0], [[-2.8, 0, 2]])


def test_the_loss_is_per_token_and_in_the_precision_of_the_values():
    values, old = torch.tensor([[0.4, 0.6]], requires_grad=True), torch.tensor([[0.5, 0.5]])
    loss = value_loss(values, old, torch.tensor([[1.0, 2.0]]), torch.ones(1, 2, dtype=torch.bool), 0.2)
    close(loss, torch.tensor([[0.36, 1.96]]))
    assert loss.dtype == torch.float32


def explained(values, returns):
    return explained_variance(torch.tensor(values, dtype=torch.float64), torch.tensor(returns, dtype=torch.float64))


def test_explained_variance_by_hand():
    # G = 0, 1, 2, 3: squares 5 about 1.5; G - V = 0, 0, 0, 2: squares 3 about 0.5; 1 - 3/5
    close(explained([0, 1, 2, 1], [0, 1, 2, 3]), 0.4)


def test_a_perfect_critic_explains_all_a_constant_one_nothing_and_a_wrong_one_less():
    returns = [0.0, 1.0, 2.0, 3.0]
    assert explained(returns, returns) == 1
    close(explained([9.0, 9.0, 9.0, 9.0], returns), 0)  # nor is it told from one that is off by a constant
    close(explained([0.0, -1.0, -2.0, -3.0], returns), -3)  # twice the returns are left: four times the variance


def test_without_a_spread_of_returns_there_is_nothing_to_explain_and_nothing_to_warn_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(explained([1.0, 2.0], [0.5, 0.5]))
        assert math.isnan(explained([1.0], [0.5]))
        assert math.isnan(explained([], []))
