"""The exact policy gradient: a policy small enough to enumerate every output and every group of outputs.

Vocabulary a, b, end; an output is at most two tokens: end, or a or b and then any token. Seven outputs in all. The
policy is a table of logits theta[token before], and the end token stands before the first. The expectation of a row's
gradient is then a finite sum, compared in float64 with the gradient of the expected reward, or with the known bias.
"""

import itertools
import math

import pytest
import torch

from groupwise.objective.advantage import EPSILON, group_centred, group_relative
from groupwise.objective.logprobs import k3, predictors, sampling_logits, token_logprobs
from groupwise.objective.losses import Denominators, clip, fixed_length, per_output, per_token
from groupwise.objective.surrogate import Objective, called, policy_loss
from tests.close import close

A, B, END = 0, 1, 2
OUTPUTS = torch.tensor([[END, END, A], *([END, first, last] for first in (A, B) for last in (A, B, END))])
MASK = torch.tensor([[False, True, False], *[[False, True, True]] * 6])
LENGTHS = MASK.sum(1)
THETA = torch.tensor([[0.3, -0.5, 0.1], [-0.2, 0.4, 0.6], [0.5, 0.2, -0.4]], dtype=torch.float64)
REWARDS = torch.tensor([2.5, 0.0, 2.0, -1.0, 0.5, 3.0, 0.0], dtype=torch.float64)
RIGHT = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64)
MAX_TOKENS = 5
TEMPERATURE = 0.8


def logprobs_of(theta, outputs=OUTPUTS):
    logits = sampling_logits(predictors(theta[outputs]), temperature=TEMPERATURE)
    return token_logprobs(logits, outputs)


def log_probability(theta):
    """log pi(o) of each of the seven outputs."""
    return torch.where(MASK, logprobs_of(theta), 0.0).sum(1)


def gradient_of(function):
    theta = THETA.clone().requires_grad_()
    return torch.autograd.grad(function(theta), theta)[0]


def expected_gradient(advantage, aggregate, size, rewards=REWARDS):
    """`expected_step` of the unclipped policy gradient with this advantage and this aggregate."""
    return expected_step(Objective(advantage, clip, aggregate, k3), size, rewards)


def expected_step(objective, size, rewards=REWARDS, *, sampler=THETA, told=None):
    """E over all groups of `size` outputs of -grad loss, at the first update after sampling: how theta moves.

    sampler: the policy that the outputs are drawn from. told: what else the advantage may name, one row an output, or
    one number.
    """
    weights, sampled = log_probability(sampler).exp(), logprobs_of(sampler)
    told = {"rewards": rewards, "mask": MASK, "old_logprobs": logprobs_of(THETA), **(told or {})}

    def expected_loss(theta):
        everything = logprobs_of(theta)
        total = torch.zeros((), dtype=torch.float64)
        for chosen in itertools.product(range(len(OUTPUTS)), repeat=size):
            rows = torch.tensor(chosen)
            logprobs, mask = everything[rows], MASK[rows]
            inputs = {name: part[rows] if isinstance(part, torch.Tensor) else part for name, part in told.items()}
            loss = policy_loss(
                objective,
                logprobs,
                old_logprobs=logprobs.detach(),
                ref_logprobs=None,
                entropies=None,
                advantages=called(objective.advantage, inputs | {"group": torch.zeros(size, dtype=torch.long)}),
                mask=mask,
                denominators=Denominators.of(mask, MAX_TOKENS),
                sampled_logprobs=sampled[rows],
            )
            total = total + weights[rows].prod() * loss
        return total

    return -gradient_of(expected_loss)


def parallel(x, y):
    return torch.cosine_similarity(x.flatten(), y.flatten(), dim=0).item()


def true_gradient(rewards=REWARDS):
    return gradient_of(lambda theta: (log_probability(theta).exp() * rewards).sum())


def test_the_seven_outputs_are_all_there_are():
    close(log_probability(THETA).exp().sum(), 1.0)
    # pi(end) = exp(-0.4 / 0.8) / (exp(0.5 / 0.8) + exp(0.2 / 0.8) + exp(-0.4 / 0.8))
    close(log_probability(THETA)[0].exp(), math.exp(-0.5) / (math.exp(0.625) + math.exp(0.25) + math.exp(-0.5)))


@pytest.mark.parametrize("size", [2, 3])
def test_centred_with_fixed_length_is_the_true_gradient(size):
    # the sample is in its own baseline: (G - 1) / G of it; and a constant 1 / max_tokens
    expected = (size - 1) / size * true_gradient() / MAX_TOKENS
    assert (expected_gradient(group_centred, fixed_length, size) - expected).abs().max() < 1e-10


def test_centred_per_output_is_the_gradient_of_another_reward():
    # Each output's score is divided by its length: E[(r - J) score / |o|], not E[r score].
    rewards, size = REWARDS, 2
    probability = log_probability(THETA).exp()
    weight = probability * (rewards - (probability * rewards).sum()) / LENGTHS
    biased = (size - 1) / size * gradient_of(lambda theta: (weight * log_probability(theta)).sum())
    found = expected_gradient(group_centred, per_output, size)
    assert (found - biased).abs().max() < 1e-10
    assert parallel(found, true_gradient()) < 0.97


def test_centred_per_token_divides_by_the_groups_own_length():
    # Pairs: E[(r_1 - r_2) / 2 * (score_1 - score_2) / (|o_1| + |o_2|)], where fixed_length divides by 2 max_tokens.
    probability = log_probability(THETA).exp()
    pairs = probability[:, None] * probability * (REWARDS[:, None] - REWARDS) / 2 / (LENGTHS[:, None] + LENGTHS)
    biased = gradient_of(lambda theta: (pairs * (log_probability(theta)[:, None] - log_probability(theta))).sum())
    found = expected_gradient(group_centred, per_token, 2)
    assert (found - biased).abs().max() < 1e-10
    assert parallel(found, true_gradient()) < 0.995


def weight_of_std(p, size):
    """w(p) by which a group's std reweights a question of success rate p: E[gradient] = w(p) grad p.

    With k right of G: A = (1 - k/G) / s_k and -(k/G) / s_k, s_k = sqrt(k (G-k) / (G (G-1))) + EPSILON. As
    E[score | right] = grad p / p and E[score | wrong] = -grad p / (1 - p), the sum over outputs is k (G-k) / (G s_k)
    times grad p / (p (1 - p)); then the mean over G, and over k.
    """
    total = 0.0
    for k in range(1, size):
        std = math.sqrt(k * (size - k) / (size * (size - 1))) + EPSILON
        total += math.comb(size, k) * p**k * (1 - p) ** (size - k) * k * (size - k) / (size * size * std)
    return total / (p * (1 - p))


def test_the_std_reweights_a_binary_question_by_its_success_rate():
    for size in (2, 3):
        p = (log_probability(THETA).exp() * RIGHT).sum().item()
        expected = weight_of_std(p, size) * true_gradient(RIGHT) / MAX_TOKENS
        found = expected_gradient(group_relative, fixed_length, size, RIGHT)
        assert (found - expected).abs().max() < 1e-10


def bandit_gradient(advantage, logit, size=4):
    """-dE[loss]/dlogit of a question with one right token of two, over all 2^size groups."""
    logits = torch.tensor([logit, 0.0], dtype=torch.float64, requires_grad=True)
    log_p = logits.log_softmax(-1)
    mask = torch.ones(size, 1, dtype=torch.bool)
    total = torch.zeros((), dtype=torch.float64)
    for chosen in itertools.product((0, 1), repeat=size):
        tokens = torch.tensor(chosen)
        advantages = advantage((tokens == 0).double(), torch.zeros(size, dtype=torch.long), mask)
        logprobs = log_p[tokens][:, None]
        loss = clip(logprobs, logprobs.detach(), advantages, mask)
        total = total + log_p.detach()[tokens].sum().exp() * per_output(loss, mask, Denominators.of(mask, 1))
    return -torch.autograd.grad(total, logits)[0][0].item()


def test_over_two_questions_the_std_turns_the_gradient_and_the_mean_does_not():
    # Success rates 1/2 and 1/20; dp/dlogit = p (1 - p). w = 1.5 - 0.402 p (1 - p) for G = 4: the rarer weighs more.
    rates = [0.5, 0.05]
    logits = [math.log(p / (1 - p)) for p in rates]
    for p, logit in zip(rates, logits, strict=True):
        slope = p * (1 - p)
        assert abs(bandit_gradient(group_centred, logit) - 3 / 4 * slope) < 1e-10
        assert abs(bandit_gradient(group_relative, logit) - weight_of_std(p, 4) * slope) < 1e-10
    assert abs(weight_of_std(0.5, 4) - (1.5 - (3 - 1.5 * math.sqrt(3)) / 4)) < 1e-5
    assert weight_of_std(0.05, 4) / weight_of_std(0.5, 4) > 1.05


def test_a_clipped_token_pulls_the_expected_gradient_no_further():
    # Two outputs, A = +-1, both past their bounds: nothing is left to gain, so the step ends there.
    logprobs = torch.tensor([[0.7], [0.3]], dtype=torch.float64).log().requires_grad_()
    old = torch.tensor([[0.5], [0.5]], dtype=torch.float64).log()
    mask = torch.ones(2, 1, dtype=torch.bool)
    loss = clip(logprobs, old, torch.tensor([[1.0], [-1.0]], dtype=torch.float64), mask)
    (gradient,) = torch.autograd.grad(per_output(loss, mask, Denominators.of(mask, 1)), logprobs)
    assert gradient.tolist() == [[0.0], [0.0]]
