"""What every loss, mean, KL estimator and correction must do: a row is tested by being in its table.

An exception is named and tested too. The advantages are in test_advantage_contracts.py.
"""

import inspect
import math

import pytest
import torch

from groupwise import registry
from groupwise.objective.correction import uncorrected
from groupwise.objective.losses import Denominators, clip
from groupwise.objective.surrogate import Objective, called, reads
from tests.close import close
from tests.objective.made import MAX_TOKENS, SPOILS, batch

OTHER_GRADIENTS = {"nll": lambda advantages: -(advantages > 0).double()}
"""Losses whose gradient at ratio 1 is not -A, with what it is."""
HELD_CONSTANT = {"cispo", "sequence_token_clip"}
"""Losses whose gradient holds a factor of the value constant, so that it is not the derivative of the value."""
OTHER_SLOPES = {"k3_plus"}
"""KL estimators whose gradient is meant to be another's, so that it is not the derivative of the value."""
EVERY_TABLE = [
    registry.ADVANTAGES,
    registry.LOSSES,
    registry.AGGREGATES,
    registry.KL_ESTIMATORS,
    registry.CORRECTIONS,
]
UNBOUNDED = {"uncorrected"}
"""Corrections that do not read their bounds."""


def rows(table):
    return pytest.mark.parametrize("row", [registry.load(table, name) for name in table], ids=list(table))


@rows(registry.LOSSES)
def test_a_loss_at_ratio_one_has_the_policy_gradient(row):
    made = batch()
    logprobs = made.logprobs.clone().requires_grad_()
    values = row(logprobs, made.logprobs, made.advantages, made.mask, 0.2, 0.2)
    assert values.shape == made.mask.shape
    (gradient,) = torch.autograd.grad(values.sum(), logprobs)
    expected = OTHER_GRADIENTS.get(row.__name__, torch.neg)(made.advantages)
    close(gradient, torch.where(made.mask, expected, 0.0))


@rows(registry.LOSSES)
@pytest.mark.parametrize("value", SPOILS)
def test_a_loss_is_zero_outside_the_mask_whatever_is_there(row, value):
    made = batch().spoiled(value)
    logprobs = made.logprobs.clone().requires_grad_()
    values = row(logprobs, made.old_logprobs, made.advantages, made.mask, 0.2, 0.2)
    assert not values[~made.mask].any()
    (gradient,) = torch.autograd.grad(values.sum(), logprobs)
    assert gradient.isfinite().all()
    assert not gradient[~made.mask].any()


@rows(registry.LOSSES)
def test_an_output_without_advantage_adds_nothing_to_a_loss(row):
    # the update leaves such outputs out (learn/update.py)
    made = batch()
    logprobs = made.logprobs.clone().requires_grad_()
    values = row(logprobs, made.old_logprobs, torch.zeros_like(made.advantages), made.mask, 0.2, 0.2)
    assert not values.any()
    assert not torch.autograd.grad(values.sum(), logprobs)[0].any()


@rows(registry.LOSSES)
def test_a_loss_mixes_the_tokens_of_an_output_exactly_if_it_is_marked_and_never_outputs(row):
    # Every value and slope with one token's log-probability moved. By differences, not by a second derivative: what
    # is held constant in the gradient is a dependence too.
    made = batch()

    def values_and_slopes(logprobs):
        logprobs = logprobs.requires_grad_()
        values = row(logprobs, made.old_logprobs, made.advantages, made.mask, 0.4, 0.4)
        return values.detach(), torch.autograd.grad(values.sum(), logprobs)[0]

    before = values_and_slopes(made.logprobs.clone())
    mixed = False
    for output, token in made.mask.nonzero().tolist():
        moved = made.logprobs.clone()
        moved[output, token] += 0.01
        for found, expected in zip(values_and_slopes(moved), before, strict=True):
            changed = found != expected
            mixed |= bool(changed[output, torch.arange(5) != token].any())
            assert not changed[torch.arange(6) != output].any()
    assert mixed == getattr(row, "over_whole_output", False)
    assert mixed != objective_with(row).per_token


def objective_with(loss, correction=uncorrected):
    return Objective(None, loss, None, None, 0.2, 0.2, 0.0, 0.0, correction=correction)


@rows(registry.LOSSES)
def test_a_loss_moves_a_token_by_the_advantages_of_others_exactly_if_it_is_marked(row):
    # at the first token of the first output, with the advantage of its last doubled
    made = batch()

    def slope(advantages):
        logprobs = made.logprobs.clone().requires_grad_()
        values = row(logprobs, made.old_logprobs, advantages, made.mask, 0.4, 0.4)
        return torch.autograd.grad(values.sum(), logprobs)[0][0, 0]

    other = made.advantages.clone()
    other[0, 4] *= 2
    assert bool(slope(other) != slope(made.advantages)) == getattr(row, "one_advantage", False)


@rows(registry.LOSSES)
@pytest.mark.parametrize("aggregate", list(registry.AGGREGATES))
def test_every_loss_under_every_aggregate_passes_finite_differences(row, aggregate):
    made, reduce = batch(), registry.load(registry.AGGREGATES, aggregate)
    denominators = Denominators.of(made.mask, MAX_TOKENS)
    advantages = made.advantages * torch.linspace(1, 2, 5)  # one of each token's own

    def loss(logprobs):
        values = row(logprobs, made.old_logprobs, advantages, made.mask, 0.2, 0.2)
        return reduce(values, made.mask, denominators)

    passed = torch.autograd.gradcheck(loss, made.logprobs.clone().requires_grad_(), raise_exception=False)
    assert passed == (row.__name__ not in HELD_CONSTANT)


@rows(registry.AGGREGATES)
def test_an_aggregate_is_linear_and_the_sum_over_its_rows(row):
    made = batch()
    denominators = Denominators.of(made.mask, MAX_TOKENS)
    x, y = made.logprobs, made.entropies
    total = row(x, made.mask, denominators)
    assert total.shape == ()
    close(row(3 * x - 2 * y, made.mask, denominators), 3 * total - 2 * row(y, made.mask, denominators))
    close(sum(row(x[i : i + 1], made.mask[i : i + 1], denominators) for i in range(6)), total)


@rows(registry.AGGREGATES)
@pytest.mark.parametrize("value", SPOILS)
def test_an_aggregate_reads_nothing_outside_the_mask(row, value):
    made = batch()
    denominators = Denominators.of(made.mask, MAX_TOKENS)
    spoiled = torch.where(made.mask, made.logprobs, value).requires_grad_()
    assert torch.equal(row(spoiled, made.mask, denominators), row(made.logprobs, made.mask, denominators))
    (gradient,) = torch.autograd.grad(row(spoiled, made.mask, denominators), spoiled)
    assert torch.equal(gradient != 0, made.mask)


def estimates(row, logprobs, ref_logprobs, old_logprobs):
    return called(row, {"logprobs": logprobs, "ref_logprobs": ref_logprobs, "old_logprobs": old_logprobs})


@rows(registry.KL_ESTIMATORS)
def test_a_kl_estimator_names_nothing_but_log_probabilities(row):
    assert set(reads(row)) <= {"logprobs", "ref_logprobs", "old_logprobs"}


@rows(registry.KL_ESTIMATORS)
def test_a_kl_estimator_is_zero_at_equality_and_passes_finite_differences(row):
    made = batch()
    assert not estimates(row, made.logprobs, made.logprobs, made.old_logprobs).any()
    at = made.logprobs.clone().requires_grad_()
    passed = torch.autograd.gradcheck(
        lambda logprobs: estimates(row, logprobs, made.ref_logprobs, made.old_logprobs), at, raise_exception=False
    )
    assert passed == (row.__name__ not in OTHER_SLOPES)


@rows(registry.KL_ESTIMATORS)
def test_a_kl_estimator_is_larger_where_the_policy_is_above_the_reference(row):
    assert estimates(row, *torch.tensor([-1.0, -1.5, -1.2])) > 0


@rows(registry.CORRECTIONS)
@pytest.mark.parametrize("bounds", [(0.0, 2.0), (1.0, 1.0)])
def test_a_correction_of_the_policys_own_outputs_is_one_at_each_token(row, bounds):
    mask = batch().mask
    weights = row(torch.zeros(mask.shape), mask, *bounds)
    assert torch.equal(weights, mask.float())


@rows(registry.CORRECTIONS)
@pytest.mark.parametrize("value", SPOILS)
def test_a_correction_is_zero_outside_the_mask_whatever_is_there(row, value):
    made = batch()
    gap = made.old_logprobs - made.sampled_logprobs
    weights = row(torch.where(made.mask, gap, value), made.mask, 0.8, 1.2)
    assert torch.equal(weights, row(gap, made.mask, 0.8, 1.2))
    assert not weights[~made.mask].any()


@rows(registry.CORRECTIONS)
def test_a_correction_stays_within_its_bounds_or_is_zero_and_is_held_constant(row):
    made = batch()
    gap = (made.old_logprobs - made.sampled_logprobs).requires_grad_()
    weights = row(gap, made.mask, 0.8, 1.2)
    assert not weights.requires_grad
    assert weights.dtype == gap.dtype
    assert bool(((weights == 0) | ((weights >= 0.8) & (weights <= 1.2))).all())
    assert torch.equal(weights, row(gap, made.mask, 0.0, math.inf)) == (row.__name__ in UNBOUNDED)
    assert weights.any()


@rows(registry.CORRECTIONS)
def test_a_correction_mixes_the_tokens_of_an_output_exactly_if_it_is_marked_and_never_outputs(row):
    made = batch()
    gap = made.old_logprobs - made.sampled_logprobs
    before, mixed = row(gap, made.mask, 0.0, math.inf), False
    for output, token in made.mask.nonzero().tolist():
        moved = gap.clone()
        moved[output, token] += 0.01
        changed = row(moved, made.mask, 0.0, math.inf) != before
        mixed |= bool(changed[output, torch.arange(5) != token].any())
        assert not changed[torch.arange(6) != output].any()
    assert mixed == getattr(row, "over_whole_output", False)
    assert mixed != objective_with(clip, row).per_token


@pytest.mark.parametrize("table", EVERY_TABLE)
def test_every_row_is_a_documented_function(table):
    for name in table:
        row = registry.load(table, name)
        assert row.__name__ == name
        assert inspect.getdoc(row)


@pytest.mark.parametrize("table", [registry.ADVANTAGES, registry.LOSSES])
def test_every_row_says_where_it_is_from(table):
    for name in table:
        told = inspect.getdoc(registry.load(table, name))
        assert any(word in told for word in ("arXiv:", "DeepSeekMath", "Williams")), name


@pytest.mark.parametrize("table", [registry.ADVANTAGES, registry.LOSSES, registry.CORRECTIONS])
def test_every_row_says_what_to_mind(table):
    for name in table:
        assert "Pitfall:" in inspect.getdoc(registry.load(table, name)), name
