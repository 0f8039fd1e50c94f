"""Every function of the tables keeps to its kind's contracts, and each contract notices a function that breaks it.

A row is tested by being in its table. What holds of some rows alone, and what rows share beyond the contracts,
follows; an exception is named and tested too. More of the advantages is in test_advantage_contracts.py.
"""

import inspect
import math
import re

import pytest
import torch

from groupwise import registry
from groupwise.errors import DataError
from groupwise.objective.contracts import CONTRACTS, broken, checked
from groupwise.objective.losses import Denominators, clip, log_ratio, one_advantage, over_whole_output
from groupwise.objective.small_batch import MAX_TOKENS
from groupwise.objective.surrogate import INPUTS, Objective, called
from groupwise.parameters import PARAMETERS
from groupwise.run.chosen import TABLES, case_of
from tests.close import close
from tests.objective.build import batch

OTHER_GRADIENTS = {"nll": lambda advantages: -(advantages > 0).double()}
"""Losses whose gradient at ratio 1 is not -A, with what it is."""
HELD_CONSTANT = {"cispo", "sequence_token_clip"}
"""Losses whose gradient holds a factor of the value constant, so that it is not the derivative of the value."""
OTHER_SLOPES = {"k3_plus"}
"""KL estimators whose gradient is meant to be another's, so that it is not the derivative of the value."""
UNBOUNDED = {"uncorrected"}
"""Corrections that do not read their bounds."""


def rows(table):
    return pytest.mark.parametrize("row", [registry.load(table, name) for name in table], ids=list(table))


@pytest.mark.parametrize("kind", list(TABLES))
def test_every_function_of_a_table_keeps_to_the_contracts_of_its_kind(kind):
    for name in TABLES[kind]:
        found = list(checked(case_of(kind, registry.load(TABLES[kind], name), {})))
        assert len(found) == len(CONTRACTS[kind]) + 1
        assert [(name, *each) for each in found if each[1]] == []


def of_loss(logprobs, old_logprobs, advantages, mask):
    """A loss that breaks no contract, to spoil."""
    return -torch.where(mask, advantages, 0.0) * torch.exp(log_ratio(logprobs, old_logprobs, mask))


def drawn(values, mask):
    return torch.where(mask, values, 0.0)


def noted(mask, calls=[]):  # noqa: B006
    calls.append(1)
    return len(calls) * mask.double()


def counting(logprobs, old_logprobs, advantages, mask):
    return of_loss(logprobs, old_logprobs, advantages, mask) * noted(mask)


def in_place(logprobs, advantages, mask):
    advantages *= 2
    return -advantages * drawn(logprobs, mask)


def over_rows(values, mask):
    """Each output's mean, [B, 1]."""
    return drawn(values, mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)


BROKEN = [
    ("loss", lambda logprobs, *more: logprobs, "names its inputs", r"\*more names nothing"),
    ("loss", lambda logprobs, mask: drawn(logprobs, mask)[:, :1], r"\[B, T\]", r"\[6, 1\], not \[6, 5\]"),
    ("loss", lambda logprobs, advantages, mask: 3.0, r"\[B, T\]", "TypeError: it gives float, not a tensor"),
    ("loss", lambda logprobs, advantages, mask: drawn(advantages * logprobs, mask).float(), "as precise", "float32"),
    ("loss", lambda logprobs, advantages, mask: logprobs / 0, "finite numbers", "not a finite number"),
    ("loss", counting, "the same again", "token 0 is"),
    ("loss", in_place, "changes nothing", "it changes advantages"),
    (
        "loss",
        lambda logprobs, advantages, mask: -advantages * logprobs * mask,
        "reads nothing there",
        "with inf outside",
    ),
    (
        "loss",
        lambda logprobs, advantages, mask: -advantages * logprobs,
        "is 0 outside the mask",
        "^outside the mask: ",
    ),
    (
        "loss",
        lambda logprobs, advantages, mask: torch.where(mask, -advantages * logprobs.exp(), 0.0),
        "no gradient outside",
        "with inf outside the mask the gradient: .* is nan",
    ),
    (
        "loss",
        lambda logprobs, mask: -drawn(logprobs, mask),
        "where the advantage is 0",
        "with every advantage 0 the val",
    ),
    (
        "loss",
        lambda logprobs, advantages, mask: drawn(advantages * torch.arange(6.0)[:, None] * -logprobs, mask).double(),
        "order of outputs",
        "in another order: output 0, token 0",
    ),
    (
        "loss",
        lambda logprobs, advantages, mask: drawn(advantages * -logprobs, mask) / mask.sum(),
        "on cuts",
        "cut into micro-batches: output 0, token 0 is",
    ),
    (
        "loss",
        lambda logprobs, advantages, mask: drawn(advantages * -logprobs, mask) * mask.shape[1],
        "on cuts",
        "with two more columns of padding",
    ),
    (
        "loss",
        lambda logprobs, advantages, mask: drawn(advantages * over_rows(logprobs, mask), mask),
        "marked over_whole_output",
        "token 0 of output 0 moves its token 1 by .*; mark it with groupwise",
    ),
    (
        "loss",
        over_whole_output(lambda logprobs, advantages, mask: drawn(advantages, mask) * drawn(logprobs, mask).mean()),
        "over_whole_output",
        "token 0 of output 0 moves token 0 of output 1",
    ),
    (
        "loss",
        lambda logprobs, advantages, mask: over_rows(advantages, mask) * -drawn(logprobs, mask),
        "marked one_advantage",
        "gradient at an output's first token is .* with its last token's advantage doubled",
    ),
    (
        "loss",
        lambda logprobs, advantages, mask, *, tau_pos=1.0: drawn(advantages * -logprobs, mask) / (tau_pos - 1e-6),
        "ends of its parameters' ranges",
        "with tau_pos = 1e-06 the value",
    ),
    ("aggregate", lambda per_token, mask: drawn(per_token, mask).square().sum(), "is linear", "3 x - 2 y"),
    ("aggregate", lambda per_token, mask: drawn(per_token, mask).sum() / mask.sum(), "sum over any cut", "added up"),
    ("aggregate", lambda per_token, mask: (per_token * mask).sum(), "reads nothing outside", "with inf outside"),
    ("aggregate", lambda per_token, mask: drawn(per_token, mask).sum(1), "one finite number", r"\[6\], not \[\]"),
    ("kl_estimator", lambda logprobs, ref_logprobs: logprobs - 2 * ref_logprobs, "agree", "output 0, token 0 is"),
    (
        "kl_estimator",
        lambda logprobs, ref_logprobs: (logprobs - ref_logprobs).cumsum(1),
        "by itself",
        "moves its token 1",
    ),
    ("correction", lambda log_weight, mask: drawn(log_weight.exp(), mask), "held constant", "log_weight.detach"),
    ("correction", lambda log_weight, mask: drawn(log_weight.detach(), mask), "own outputs", "is 0, not 1"),
    (
        "correction",
        lambda log_weight, mask: drawn(1 + 9 * log_weight.detach(), mask),
        "never negative",
        "not 0 or more",
    ),
    ("advantage", lambda rewards, mask: rewards, r"\[B, T\]", r"\[6\], not \[6, 5\]"),
    ("advantage", lambda rewards, mask: rewards[:, None] * ~mask, "is 0 outside the mask", "^outside the mask: "),
    (
        "advantage",
        lambda rewards, group, mask: drawn((rewards * (group + 1))[:, None], mask),
        "no names of groups",
        "in another order",
    ),
    (
        "advantage",
        lambda rewards, mask: drawn((rewards / (rewards.max() - rewards.min()))[:, None], mask),
        "all rewards are equal",
        "is inf, not a finite number",
    ),
    (
        "advantage",
        lambda rewards, mask: drawn((rewards - rewards.mean())[:, None], mask),
        "without a reward",
        "output 1 has no reward: output 0, token 0 is nan",
    ),
]


@pytest.mark.parametrize(("kind", "function", "claim", "what"), BROKEN, ids=range(len(BROKEN)))
def test_a_contract_notices_what_breaks_it(kind, function, claim, what):
    found = dict(broken(case_of(kind, function, {})))
    fitting = [told for own, told in found.items() if re.search(claim, own) and re.search(what, told)]
    assert fitting, found


def test_each_contract_has_something_that_breaks_it():
    noticed = {(kind, claim) for kind, function, *_ in BROKEN for claim, _ in broken(case_of(kind, function, {}))}
    assert {claim for kind in CONTRACTS for claim in CONTRACTS[kind]} <= {claim for _, claim in noticed}


def test_a_loss_that_is_marked_keeps_to_the_contracts_though_it_mixes_an_outputs_tokens():
    @over_whole_output
    @one_advantage
    def marked(logprobs, old_logprobs, advantages, mask):
        ratio = torch.exp(over_rows(log_ratio(logprobs, old_logprobs, mask), mask))
        return drawn(-ratio * over_rows(advantages, mask), mask)

    assert list(broken(case_of("loss", marked, {}))) == []


def test_what_an_advantage_refuses_as_no_reward_breaks_no_contract():
    def refusing(step_rewards, mask):
        if step_rewards.isinf().any():
            raise DataError("infinite", hint="")
        return drawn(step_rewards.nan_to_num(), mask)

    assert list(broken(case_of("advantage", refusing, {}))) == []


@pytest.mark.parametrize("kind", list(TABLES))
def test_a_function_of_a_table_names_its_inputs_and_known_parameters_alone(kind):
    for name in TABLES[kind]:
        signature = inspect.signature(registry.load(TABLES[kind], name)).parameters
        own = [p for p in signature.values() if p.name not in INPUTS[kind]]
        assert {p.name for p in own} <= set(PARAMETERS)
        assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in own)


@rows(registry.LOSSES)
def test_a_loss_at_ratio_one_has_the_policy_gradient(row):
    made = batch()
    logprobs = made.logprobs.clone().requires_grad_()
    values = row(logprobs, made.logprobs, made.advantages, made.mask)
    (gradient,) = torch.autograd.grad(values.sum(), logprobs)
    expected = OTHER_GRADIENTS.get(row.__name__, torch.neg)(made.advantages)
    close(gradient, torch.where(made.mask, expected, 0.0))


def mixes(kind, row):
    """True if a function breaks the contract that it is marked if it mixes an output's tokens, once the mark is off."""

    def bare(**inputs):
        return row(**inputs)

    bare.__signature__ = inspect.signature(row)
    return [claim for claim, _ in broken(case_of(kind, bare, {}))]


@rows(registry.LOSSES)
def test_a_loss_is_marked_exactly_if_it_needs_the_mark(row):
    found = mixes("loss", row)
    for mark in ("over_whole_output", "one_advantage"):
        assert any(mark in claim for claim in found) == getattr(row, mark, False)
    assert Objective(None, row, None, None).per_token != getattr(row, "over_whole_output", False)


@rows(registry.CORRECTIONS)
def test_a_correction_is_marked_exactly_if_it_needs_the_mark(row):
    assert bool(mixes("correction", row)) == getattr(row, "over_whole_output", False)
    assert Objective(None, clip, None, None, correction=row).per_token != getattr(row, "over_whole_output", False)


@rows(registry.LOSSES)
@pytest.mark.parametrize("aggregate", list(registry.AGGREGATES))
def test_every_loss_under_every_aggregate_passes_finite_differences(row, aggregate):
    made, reduce = batch(), registry.load(registry.AGGREGATES, aggregate)
    denominators = Denominators.of(made.mask, MAX_TOKENS)
    advantages = made.advantages * torch.linspace(1, 2, 5)  # one of each token's own
    bounds = {"clip_low": 0.2, "clip_high": 0.2}

    def loss(logprobs):
        given = {"old_logprobs": made.old_logprobs, "advantages": advantages, "mask": made.mask}
        return reduce(called(row, {**bounds, **given, "logprobs": logprobs}), made.mask, denominators)

    passed = torch.autograd.gradcheck(loss, made.logprobs.clone().requires_grad_(), raise_exception=False)
    assert passed == (row.__name__ not in HELD_CONSTANT)


def estimates(row, logprobs, ref_logprobs, old_logprobs):
    return called(row, {"logprobs": logprobs, "ref_logprobs": ref_logprobs, "old_logprobs": old_logprobs})


@rows(registry.KL_ESTIMATORS)
def test_a_kl_estimator_passes_finite_differences(row):
    made = batch()
    at = made.logprobs.clone().requires_grad_()
    passed = torch.autograd.gradcheck(
        lambda logprobs: estimates(row, logprobs, made.ref_logprobs, made.old_logprobs), at, raise_exception=False
    )
    assert passed == (row.__name__ not in OTHER_SLOPES)


@rows(registry.KL_ESTIMATORS)
def test_a_kl_estimator_is_larger_where_the_policy_is_above_the_reference(row):
    assert estimates(row, *torch.tensor([-1.0, -1.5, -1.2])) > 0


def weights(row, gap, mask, low, high):
    return called(row, {"log_weight": gap, "mask": mask, "correction_low": low, "correction_high": high})


@rows(registry.CORRECTIONS)
def test_a_correction_of_the_policys_own_outputs_is_one_where_both_bounds_are(row):
    mask = batch().mask
    assert torch.equal(weights(row, torch.zeros(mask.shape), mask, 1.0, 1.0), mask.float())


@rows(registry.CORRECTIONS)
def test_a_correction_stays_within_its_bounds_or_is_zero(row):
    made = batch()
    gap = made.old_logprobs - made.sampled_logprobs
    found = weights(row, gap, made.mask, 0.8, 1.2)
    assert bool(((found == 0) | ((found >= 0.8) & (found <= 1.2))).all())
    assert torch.equal(found, weights(row, gap, made.mask, 0.0, math.inf)) == (row.__name__ in UNBOUNDED)
    assert found.any()


@pytest.mark.parametrize("table", list(TABLES.values()))
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
