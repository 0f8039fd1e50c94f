"""What every row of the tables must do: a new row is tested by being there, an exception is named and tested too."""

import inspect
import math

import pytest
import torch

from groupwise import registry
from groupwise.errors import DataError
from groupwise.objective.losses import Denominators
from groupwise.objective.surrogate import Objective
from tests.close import close
from tests.objective.made import MAX_TOKENS, SPOILS, batch

REWARDS = torch.tensor([1.0, 0.0, 0.5, 3.0, -1.0, 0.25], dtype=torch.float64)
WITHOUT_A_BASELINE = {"reward", "only_right"}
"""Advantages that are the output's reward alone: equal rewards teach, and an output does not lower its siblings."""
NEVER_LOWERING = {"only_right"}
"""Advantages that are nowhere below 0."""
OVER_THE_BATCH = {"batch_normalised", "group_centred_batch_scaled"}
"""Advantages in which a reward of one group moves those of another."""
OF_ANY_GROUP = {"reward", "only_right", "batch_normalised"}
"""Advantages that need no sibling of the same question."""
OTHER_GRADIENTS = {"nll": lambda advantages: -(advantages > 0).double()}
"""Losses whose gradient at ratio 1 is not -A, with what it is."""
HELD_CONSTANT = {"cispo", "sequence_token_clip"}
"""Losses whose gradient holds a factor of the value constant, so that it is not the derivative of the value."""


def rows(table):
    return pytest.mark.parametrize("row", [registry.load(table, name) for name in table], ids=list(table))


@rows(registry.ADVANTAGES)
def test_an_advantage_is_zero_outside_the_mask_and_where_rewards_are_equal(row):
    made = batch()
    values = row(REWARDS, made.group, made.mask)
    assert values.shape == made.mask.shape
    assert not values[~made.mask].any()
    equal = row(torch.full((6,), 0.1, dtype=torch.float64), made.group, made.mask)
    assert bool(equal.any()) == (row.__name__ in WITHOUT_A_BASELINE)


@rows(registry.ADVANTAGES)
def test_an_advantage_raises_the_better_and_lowers_the_worse(row):
    made = batch()
    values = row(REWARDS, made.group, torch.ones(6, 1, dtype=torch.bool))[:, 0]
    assert values[0] > values[2] > values[1]
    assert values[3] > 0 >= values[4]
    assert bool((values < 0).any()) == (row.__name__ not in NEVER_LOWERING)


@rows(registry.ADVANTAGES)
def test_an_advantage_knows_no_order_of_outputs_and_no_names_of_groups(row):
    made, order = batch(), torch.tensor([4, 1, 5, 0, 3, 2])
    close(row(REWARDS[order], made.group[order], made.mask[order]), row(REWARDS, made.group, made.mask)[order])
    close(row(REWARDS, 9 - 4 * made.group, made.mask), row(REWARDS, made.group, made.mask))


@rows(registry.ADVANTAGES)
def test_an_output_without_a_reward_has_no_advantage_and_harms_no_other_group(row):
    made, rewards = batch(), REWARDS.clone()
    rewards[1] = math.nan
    values, whole = row(rewards, made.group, made.mask), row(REWARDS, made.group, made.mask)
    assert values.isfinite().all()
    assert not values[1].any()
    assert torch.equal(values[3:], whole[3:]) == (row.__name__ not in OVER_THE_BATCH)
    assert values[0, 0] > 0
    assert bool(values[2, 0] < 0) == (row.__name__ not in WITHOUT_A_BASELINE)


@rows(registry.ADVANTAGES)
def test_a_group_of_one_output_is_an_error_unless_no_sibling_is_needed(row):
    made, alone = batch(), torch.tensor([0, 0, 0, 1, 1, 2])
    if row.__name__ in OF_ANY_GROUP:
        assert row(REWARDS, alone, made.mask).isfinite().all()
    else:
        with pytest.raises(DataError):
            row(REWARDS, alone, made.mask)


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
    # the update leaves such outputs out (train/update.py)
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


def objective_with(loss):
    return Objective(None, loss, None, None, 0.2, 0.2, 0.0, 0.0)


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


@rows(registry.KL_ESTIMATORS)
def test_a_kl_estimator_is_zero_at_equality_and_passes_finite_differences(row):
    made = batch()
    assert not row(made.logprobs, made.logprobs).any()
    assert torch.autograd.gradcheck(row, (made.logprobs.clone().requires_grad_(), made.ref_logprobs))


@rows(registry.KL_ESTIMATORS)
def test_a_kl_estimator_is_larger_where_the_policy_is_above_the_reference(row):
    assert row(torch.tensor(-1.0), torch.tensor(-1.5)) > 0


@pytest.mark.parametrize("table", [registry.ADVANTAGES, registry.LOSSES, registry.AGGREGATES, registry.KL_ESTIMATORS])
def test_every_row_is_a_documented_function(table):
    for name in table:
        row = registry.load(table, name)
        assert row.__name__ == name
        assert inspect.getdoc(row)


@pytest.mark.parametrize("table", [registry.ADVANTAGES, registry.LOSSES])
def test_every_row_says_where_it_is_from_and_what_to_mind(table):
    for name in table:
        told = inspect.getdoc(registry.load(table, name))
        assert "Pitfall:" in told, name
        assert any(word in told for word in ("arXiv:", "DeepSeekMath", "Williams")), name
