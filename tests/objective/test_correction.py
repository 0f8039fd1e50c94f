"""The off-policy weights: their bounds by hand, and what of the objective they multiply."""

import math
from dataclasses import replace

import pytest
import torch

from groupwise.objective.correction import (
    sequence_masked,
    sequence_truncated,
    token_masked,
    token_truncated,
    uncorrected,
)
from groupwise.objective.losses import Denominators, per_token, reinforce
from groupwise.objective.presets import GRPO
from groupwise.objective.surrogate import called
from groupwise.run.resolve import objective_of
from tests.close import close
from tests.objective.build import batch, loss_and_gradient, terms_of
from tests.objective.build import terms as both

RATIOS = [[0.25, 0.5, 1.0, 2.0, 4.0]]


def weights(correction, ratios, low, high):
    """The weights of tokens with these ratios pi_old / pi_sampler; None: a token that the policy did not draw."""
    mask = torch.tensor([[ratio is not None for ratio in row] for row in ratios])
    gaps = [[math.nan if ratio is None else math.log(ratio) for ratio in row] for row in ratios]
    return within(correction, torch.tensor(gaps, dtype=torch.float64), mask, low, high)


def within(correction, gap, mask, low, high):
    return called(correction, {"log_weight": gap, "mask": mask, "correction_low": low, "correction_high": high})


def test_the_bounds_of_a_tokens_weight_by_hand():
    close(weights(token_truncated, RATIOS, 0.4, 3.0), [[0.4, 0.5, 1, 2, 3]])
    close(weights(token_masked, RATIOS, 0.4, 3.0), [[0, 0.5, 1, 2, 0]])
    close(weights(uncorrected, RATIOS, 0.4, 3.0), 1.0)


def test_the_bounds_of_an_outputs_weight_by_hand():
    # products 1/8, 3/4, 6 at each token
    ratios = [[0.5, 0.25], [0.5, 1.5], [2.0, 3.0]]
    close(weights(sequence_truncated, ratios, 0.5, 3.0), [[0.5] * 2, [0.75] * 2, [3] * 2])
    close(weights(sequence_masked, ratios, 0.5, 3.0), [[0] * 2, [0.75] * 2, [0] * 2])


@pytest.mark.parametrize("correction", [token_masked, sequence_masked])
def test_a_weight_at_its_bound_is_kept(correction):
    assert weights(correction, [[1.0, 1.0]], 1.0, 2.0).tolist() == [[1, 1]]
    assert weights(correction, [[1.0, 1.0]], 0.5, 1.0).tolist() == [[1, 1]]


def test_one_token_far_off_spares_the_others_only_where_each_has_its_own_weight():
    ratios = [[1.0, 100.0, 1.0]]
    assert weights(token_masked, ratios, 0.5, 2.0).tolist() == [[1, 0, 1]]
    assert weights(sequence_masked, ratios, 0.5, 2.0).tolist() == [[0, 0, 0]]


def test_a_token_that_was_not_drawn_is_not_in_the_product():
    close(weights(sequence_truncated, [[2.0, None, 1.5]], 0.0, 9.0), [[3, 0, 3]])
    close(weights(sequence_masked, [[2.0, None, 1.5]], 0.0, 9.0), [[3, 0, 3]])
    close(weights(token_truncated, [[2.0, None, 1.5]], 0.0, 9.0), [[2, 0, 1.5]])
    close(weights(token_masked, [[2.0, None, 1.5]], 0.0, 9.0), [[2, 0, 1.5]])


def test_without_bounds_an_outputs_weight_is_the_product_of_its_tokens():
    made = batch()
    gap = made.old_logprobs - made.sampled_logprobs
    own = within(token_truncated, gap, made.mask, 0.0, math.inf)
    product = torch.where(made.mask, own, 1.0).prod(1, keepdim=True)
    close(within(sequence_truncated, gap, made.mask, 0.0, math.inf), torch.where(made.mask, product, 0.0))


def test_a_token_that_the_sampler_held_impossible_is_at_the_upper_bound_or_left_out():
    gap = torch.tensor([[math.inf, 0.0]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert within(token_truncated, gap, mask, 0.0, 2.0).tolist() == [[2, 1]]
    assert within(token_masked, gap, mask, 0.0, 2.0).tolist() == [[0, 1]]
    assert within(sequence_truncated, gap, mask, 0.0, 2.0).tolist() == [[2, 2]]
    assert within(sequence_masked, gap, mask, 0.0, 2.0).tolist() == [[0, 0]]


PLAIN = replace(objective_of(GRPO), loss=reinforce, aggregate=per_token, kl_coef=0.0)


def terms(objective, ratios, sampled=True):
    """One output of two tokens with pi = pi_old = 1/2, A = 1, H = 0.7 and pi_ref = 1/4."""
    logprobs = torch.full((1, 2), math.log(1 / 2), dtype=torch.float64, requires_grad=True)
    mask = torch.ones(1, 2, dtype=torch.bool)
    return logprobs, both(
        objective,
        logprobs,
        old_logprobs=logprobs.detach(),
        ref_logprobs=logprobs.detach() - math.log(2),
        entropies=torch.full((1, 2), 0.7, dtype=torch.float64),
        advantages=torch.ones(1, 2, dtype=torch.float64),
        mask=mask,
        denominators=Denominators.of(mask, 8),
        sampled_logprobs=logprobs.detach() - torch.tensor([ratios], dtype=torch.float64).log() if sampled else None,
    )


def test_the_weight_multiplies_a_tokens_loss_and_its_gradient():
    # -w log pi with w = 3 and 1.5 of the ratios 4 and 1.5; the weight is pi_old's over the sampler's
    logprobs, found = terms(replace(PLAIN, correction=token_truncated, parameters={"correction_high": 3.0}), (4.0, 1.5))
    close(found.weights, [[3, 1.5]])
    close(found.loss, (3 + 1.5) / 2 * math.log(2))
    close(torch.autograd.grad(found.loss, logprobs)[0], [[-1.5, -0.75]])
    # a dropped token keeps its place in the denominator
    logprobs, found = terms(replace(PLAIN, correction=token_masked, parameters={"correction_high": 3.0}), (4.0, 1.5))
    close(found.weights, [[0, 1.5]])
    close(found.loss, 1.5 / 2 * math.log(2))
    close(torch.autograd.grad(found.loss, logprobs)[0], [[0, -0.75]])


def test_the_lower_bound_is_the_objectives():
    _, found = terms(replace(PLAIN, correction=token_truncated, parameters={"correction_low": 0.8}), (0.5, 0.9))
    close(found.weights, [[0.8, 0.9]])


def test_the_weight_multiplies_neither_the_kl_nor_the_entropy():
    # k3 of pi = 1/2 and ref = 1/4: 1/2 + ln 2 - 1
    whole = replace(PLAIN, correction=token_truncated, kl_coef=0.1, entropy_coef=0.01)
    _, found = terms(whole, (1.5, 1.5))
    close(found.loss, 1.5 * math.log(2) + 0.1 * (math.log(2) - 0.5) - 0.01 * 0.7)
    close(found.kl, math.log(2) - 0.5)


def test_without_a_samplers_log_probabilities_every_weight_is_one():
    objective = replace(PLAIN, correction=token_masked, parameters={"correction_low": 0.5})
    _, found = terms(objective, (9.0, 9.0), sampled=False)
    assert found.weights.tolist() == [[1, 1]]
    close(found.loss, math.log(2))


def test_uncorrected_the_samplers_log_probabilities_reach_nothing():
    made = batch()
    other = replace(made, sampled_logprobs=made.sampled_logprobs * 3)
    for found, expected in zip(
        loss_and_gradient(objective_of(GRPO), other), loss_and_gradient(objective_of(GRPO), made), strict=True
    ):
        assert torch.equal(found, expected)
    assert torch.equal(terms_of(objective_of(GRPO), made).weights, made.mask.double())


def test_the_whole_gradient_is_each_tokens_times_its_weight():
    made, plain = batch(), replace(objective_of(GRPO), kl_coef=0.0)
    corrected = replace(plain, correction=token_truncated, parameters={"correction_low": 0.9, "correction_high": 1.2})
    # by the policy that was given as pi_old, not by the one of now
    weights = torch.where(made.mask, (made.old_logprobs - made.sampled_logprobs).exp().clamp(0.9, 1.2), 0.0)
    close(terms_of(corrected, made).weights, weights)
    close(loss_and_gradient(corrected, made)[1], loss_and_gradient(plain, made)[1] * weights)


def test_an_objective_is_per_token_if_both_its_loss_and_its_correction_are():
    assert replace(PLAIN, correction=token_masked).per_token
    assert not replace(PLAIN, correction=sequence_masked).per_token
