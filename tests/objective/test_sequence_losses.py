"""The losses of a whole output's ratio: worked numbers with their gradients, and what they are in special cases."""

import math

import pytest
import torch

from groupwise.objective.losses import Denominators, clip, per_output
from groupwise.objective.sequence_losses import geometric_clip, sequence_clip, sequence_token_clip
from tests.close import close
from tests.objective.build import MAX_TOKENS, batch

PUBLISHED = {sequence_clip: (3e-4, 4e-4), sequence_token_clip: (3e-4, 4e-4), geometric_clip: (0.4, 0.4)}
WIDE = 1e6


def at(loss, ratios, advantages, low=0.2, high=0.2):
    """Values of one output's tokens with these ratios, and the derivative of their sum by each log pi.

    ratios: None is a token that the policy did not draw. advantages: one, or one per token.
    """
    mask = torch.tensor([[ratio is not None for ratio in ratios]])
    change = torch.tensor([[math.nan if ratio is None else math.log(ratio) for ratio in ratios]], dtype=torch.float64)
    logprobs = torch.full_like(change, math.log(0.3)).requires_grad_()
    each = torch.as_tensor(advantages, dtype=torch.float64).expand(change.shape)
    values = loss(logprobs, logprobs.detach() - change, each, mask, clip_low=low, clip_high=high)
    (gradient,) = torch.autograd.grad(values.sum(), logprobs)
    return values.detach(), gradient


@pytest.mark.parametrize(
    ("ratios", "advantage", "value", "gradient"),
    [
        ((2.0, 0.5), 2.0, -2.0, -2.0),  # s = sqrt(2 * 0.5) = 1
        ((1.21, 1.0), 2.0, -2.2, -2.2),  # s = 1.1
        ((1.21, 1.0), -2.0, 2.2, 2.2),
        ((4.0, 1.0), 2.0, -2.4, 0.0),  # s = 2, past 1.2: no token has a gradient, the one of ratio 1 neither
        ((4.0, 1.0), -2.0, 4.0, 4.0),  # a bad output made likelier: not clipped
        ((0.25, 1.0), -2.0, 1.6, 0.0),  # s = 0.5, past 0.8
        ((0.25, 1.0), 2.0, -1.0, -1.0),
        ((1.331, 1.0, 1.0), 2.0, -2.2, -2.2),  # s = 1.331^(1/3) = 1.1: the mean is over tokens
    ],
)
@pytest.mark.parametrize("loss", [sequence_clip, sequence_token_clip])
def test_the_clip_of_the_outputs_ratio_by_hand(loss, ratios, advantage, value, gradient):
    # sum over |o| tokens of -s A, ds/dlogp = s / |o|: the derivative by each log pi is -s A
    values, slopes = at(loss, ratios, advantage)
    close(values, value)
    close(slopes, gradient)


@pytest.mark.parametrize("loss", [sequence_clip, sequence_token_clip])
def test_the_bounds_of_an_outputs_ratio_are_separate(loss):
    # low 0.1, high 0.3: from 0.9 to 1.3; s = 1.2, 1.4, 0.8, 0.95
    for s, advantage, value, gradient in (
        (1.2, 2.0, -2.4, -2.4),
        (1.4, 2.0, -2.6, 0.0),
        (0.8, -2.0, 1.8, 0.0),
        (0.95, -2.0, 1.9, 1.9),
    ):
        values, slopes = at(loss, (s * s, 1.0), advantage, 0.1, 0.3)
        close(values, value)
        close(slopes, gradient)


def test_a_tokens_own_advantage_reaches_its_own_gradient_alone():
    # s = 1.1; A = 2 and 0: GSPO-token moves the first token; GSPO moves both by the mean, -1.1 (2 + 0) / 2
    close(at(sequence_token_clip, (1.21, 1.0), (2.0, 0.0))[1], [[-2.2, 0.0]])
    close(at(sequence_clip, (1.21, 1.0), (2.0, 0.0))[1], -1.1)


@pytest.mark.parametrize(
    ("ratios", "advantage", "value", "gradients"),
    [
        # ratio 2 is clipped to e^0.4: mean of the logarithms 0.2
        ((2.0, 1.0), 2.0, -2 * math.exp(0.2), (0.0, -2 * math.exp(0.2))),
        # a bad token made likelier is not clipped: sqrt(2)
        ((2.0, 1.0), -2.0, 2 * math.sqrt(2), (2 * math.sqrt(2),) * 2),
        ((0.5, 1.0), -2.0, 2 * math.exp(-0.2), (0.0, 2 * math.exp(-0.2))),
        ((0.5, 1.0), 2.0, -2 / math.sqrt(2), (-2 / math.sqrt(2),) * 2),
        # within the bounds: the geometric mean, sqrt(1.21 * 1)
        ((1.21, 1.0), 2.0, -2.2, (-2.2, -2.2)),
        ((1000.0, 1.0, 1.0, 1.0), 1.0, -math.exp(0.1), (0.0, *(-math.exp(0.1),) * 3)),
    ],
)
def test_the_geometric_mean_of_clipped_ratios_by_hand(ratios, advantage, value, gradients):
    values, slopes = at(geometric_clip, ratios, advantage, 0.4, 0.4)
    close(values, value)
    close(slopes, [gradients])


def test_the_bounds_of_the_logarithm_are_separate():
    # low 0.1, high 0.3
    close(at(geometric_clip, (math.exp(0.5),), 1.0, 0.1, 0.3)[0], -math.exp(0.3))
    close(at(geometric_clip, (math.exp(-0.5),), -1.0, 0.1, 0.3)[0], math.exp(-0.1))
    close(at(geometric_clip, (math.exp(0.2),), 1.0, 0.1, 0.3)[0], -math.exp(0.2))
    close(at(geometric_clip, (math.exp(-0.05),), -1.0, 0.1, 0.3)[0], math.exp(-0.05))


@pytest.mark.parametrize("loss", list(PUBLISHED))
@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_a_token_that_was_not_drawn_is_not_in_the_mean(loss, advantage):
    low, high = PUBLISHED[loss]
    values, slopes = at(loss, (1.0001, None, 1.0003), advantage, low, high)
    short_values, short_slopes = at(loss, (1.0001, 1.0003), advantage, low, high)
    close(values, [[short_values[0, 0].item(), 0.0, short_values[0, 1].item()]])
    close(slopes, [[short_slopes[0, 0].item(), 0.0, short_slopes[0, 1].item()]])


@pytest.mark.parametrize("loss", [sequence_clip, sequence_token_clip])
@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.0, 1.1, 1.5])
@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_an_output_of_one_token_has_the_clip_of_its_own_ratio(loss, ratio, advantage):
    for found, expected in zip(at(loss, (ratio,), advantage), at(clip, (ratio,), advantage), strict=True):
        close(found, expected)


def test_without_bounds_gmpo_is_gspo():
    made = batch()
    arguments = (made.logprobs, made.old_logprobs, made.advantages, made.mask)
    wide = {"clip_low": WIDE, "clip_high": WIDE}
    close(geometric_clip(*arguments, **wide), sequence_clip(*arguments, **wide))


def test_the_mean_per_output_is_the_papers_mean_over_outputs():
    # GSPO equation 5, written output by output
    made = batch()
    total = 0.0
    for row in range(6):
        drawn = made.mask[row]
        s = (made.logprobs - made.old_logprobs)[row][drawn].mean().exp().item()
        advantage = made.advantages[row, 0].item()
        total -= min(s * advantage, min(max(s, 0.9), 1.1) * advantage) / 6
    values = sequence_clip(made.logprobs, made.old_logprobs, made.advantages, made.mask, clip_low=0.1, clip_high=0.1)
    close(per_output(values, made.mask, Denominators.of(made.mask, MAX_TOKENS)), total)


@pytest.mark.parametrize("loss", list(PUBLISHED))
def test_an_output_without_tokens_has_loss_zero(loss):
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    spoiled = torch.full((2, 3), math.nan, dtype=torch.float64)
    assert loss(spoiled, spoiled, spoiled, nothing).tolist() == [[0.0] * 3] * 2
