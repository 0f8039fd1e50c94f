"""What the loss of a step may not depend on: padding, order, cuts, and whatever lies outside the mask."""

from dataclasses import replace

import pytest
import torch

from groupwise.objective.correction import sequence_masked, token_truncated
from groupwise.objective.losses import Denominators
from groupwise.objective.presets import DR_GRPO, GRPO
from groupwise.objective.small_batch import MAX_TOKENS, SPOILS
from groupwise.run.resolve import objective_of
from tests.close import close
from tests.objective.build import batch, loss_and_gradient, terms_of

ALL_TERMS = {
    "per_output": objective_of(replace(GRPO, entropy_coef=0.01)),
    "fixed_length": objective_of(replace(DR_GRPO, kl_coef=0.1, entropy_coef=-0.02)),
    "per_token": objective_of(replace(GRPO, aggregate="per_token", kl_estimator="k2", entropy_coef=0.01)),
    "corrected": replace(
        objective_of(replace(GRPO, kl_estimator="k3_weighted")),
        correction=token_truncated,
        parameters={**GRPO.parameters, "correction_low": 0.9, "correction_high": 1.2},
    ),
    "corrected_whole": replace(objective_of(DR_GRPO), correction=sequence_masked, parameters={"correction_high": 1.1}),
}
each = pytest.mark.parametrize("objective", list(ALL_TERMS.values()), ids=list(ALL_TERMS))


@each
def test_right_padding_changes_nothing(objective):
    loss, gradient = loss_and_gradient(objective, batch())
    padded_loss, padded_gradient = loss_and_gradient(objective, batch().padded(3))
    close(padded_loss, loss)
    close(padded_gradient[:, :5], gradient)
    assert not padded_gradient[:, 5:].any()


@each
def test_the_order_of_outputs_changes_nothing(objective):
    order = torch.tensor([4, 1, 5, 0, 3, 2])
    loss, gradient = loss_and_gradient(objective, batch())
    other_loss, other_gradient = loss_and_gradient(objective, batch().rows(order))
    close(other_loss, loss)
    close(other_gradient, gradient[order])


@each
@pytest.mark.parametrize("cuts", [[3, 3], [1, 2, 3], [1, 1, 1, 1, 1, 1]])
def test_cut_into_micro_batches_the_sum_is_the_uncut_loss(objective, cuts):
    made = batch()
    denominators = Denominators.of(made.mask, MAX_TOKENS)
    loss, gradient = loss_and_gradient(objective, made)
    parts, start = [], 0
    for size in cuts:
        parts.append(loss_and_gradient(objective, made.rows(slice(start, start + size)), denominators))
        start += size
    assert abs(sum(part[0] for part in parts) - loss) < 1e-12
    assert (torch.cat([part[1] for part in parts]) - gradient).abs().max() < 1e-12


@each
@pytest.mark.parametrize("value", SPOILS)
def test_what_is_outside_the_mask_reaches_neither_value_nor_gradient(objective, value):
    made = batch()
    loss, gradient = loss_and_gradient(objective, made)
    spoiled_loss, spoiled_gradient = loss_and_gradient(objective, made.spoiled(value))
    assert torch.equal(spoiled_loss, loss)
    assert torch.equal(spoiled_gradient, gradient)
    assert not gradient[~made.mask].any()


@each
@pytest.mark.parametrize("value", SPOILS)
def test_what_is_outside_the_mask_is_not_reported(objective, value):
    plain = terms_of(objective, batch())
    spoiled = terms_of(objective, batch().spoiled(value))
    assert all(torch.equal(part, vars(spoiled)[name]) for name, part in vars(plain).items())


@each
def test_the_whole_objective_passes_finite_differences(objective):
    made = batch()
    logprobs = made.logprobs.clone().requires_grad_()
    entropies = made.entropies.clone().requires_grad_()

    def loss(x, h):
        return terms_of(objective, replace(made, logprobs=x, entropies=h)).loss

    assert torch.autograd.gradcheck(loss, (logprobs, entropies))
