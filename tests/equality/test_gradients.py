"""The update's gradient is that of one plain row an output, in every family and layout, whatever shares the batch.

float64 is compared without transformers' own float32 corners (naive.Unnarrowed, on both sides), so that only the order
of sums is left to differ and 1e-9 can be asked for; with them, two right ways of computing differ by up to 2e-6 here.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from groupwise.data import Sampling
from groupwise.model import linear_logprobs
from groupwise.model.batch import Rollouts, by_question
from groupwise.model.policy import Policy
from tests.close import close
from tests.equality import cases, families, naive
from tests.equality.cases import PLAIN
from tests.equality.naive import Reference

LAYOUTS = pytest.mark.parametrize("once", [True, False], ids=["question_once", "plain_rows"])


@dataclass(frozen=True)
class Case:
    """An update: questions of so many tokens with so many outputs, scored and weighed in one way."""

    family: str
    questions: tuple[int, ...] = (9, 1, 23)
    sizes: tuple[int, ...] = (3, 2, 4)
    loss: str = "clip_and_bonus"
    sampling: Sampling = PLAIN

    def rollouts(self) -> Rollouts:
        vocabulary = families.FAMILIES[self.family].vocab_size
        return cases.rollouts(self.questions, self.sizes, vocabulary=vocabulary)

    def settings(self, mask: Tensor) -> dict[str, Any]:
        """What `Policy.backward` is given beside the rollouts and the mask."""
        make, told = cases.LOSSES[self.loss]
        return {"sampling": self.sampling, "loss": make(old_logprobs(self), mask), **told}


@cache
def old_logprobs(case: Case) -> Tensor:
    model = naive.reference_model(families.FAMILIES[case.family])
    rollouts = case.rollouts()
    return cases.old_logprobs(model, rollouts, rollouts.output_mask, case.sampling)


@cache
def expected(case: Case, angles: torch.dtype) -> Reference:
    model = naive.reference_model(families.FAMILIES[case.family], angles=angles)
    rollouts = case.rollouts()
    mask = rollouts.output_mask
    return naive.reference(model, rollouts, mask, sampling=case.sampling, loss=case.settings(mask)["loss"])


@cache
def policy_of(family: str, precision: torch.dtype, matmul_backend: str) -> Policy:
    return families.policy(family, precision=precision, matmul_backend=matmul_backend)


def laid_out(
    family: str, once: bool, *, precision: torch.dtype = torch.float64, matmul_backend: str = "auto"
) -> Policy:
    """The policy with each question once, which every family here can, or with a padded row an output."""
    policy = policy_of(family, precision, matmul_backend)
    assert policy.question_once
    return replace(policy, question_once=once)


def update(policy: Policy, rollouts: Rollouts, mask: Tensor, settings: dict[str, Any]) -> Reference:
    """What `backward` returns, and the gradients that it adds, taken off the model."""
    with naive.Unnarrowed() if policy.model.dtype == torch.float64 else nullcontext():
        scored = policy.backward(rollouts, mask, **settings)
    for values in scored:
        assert not values.requires_grad
        assert not values[~mask].any()
    found = {name: weight.grad for name, weight in policy.model.named_parameters() if weight.grad is not None}
    policy.model.zero_grad(set_to_none=True)
    return Reference(scored.logprobs, scored.entropies, found)


def same(found: Reference, wanted: Reference, tolerance: float) -> bool:
    """True if each weight's gradient and all of them together are within a relative Euclidean error."""
    for values, others in ((found.logprobs, wanted.logprobs), (found.entropies, wanted.entropies)):
        assert (values - others).abs().max() <= 10 * tolerance  # nats
    errors = naive.errors(found.gradients, wanted.gradients)
    wrong = {name or "all weights": f"{error:.1e}" for name, error in errors.items() if not error <= tolerance}
    assert not wrong, f"relative error of gradients over {tolerance}: {wrong}"
    return True


def check(case: Case, policy: Policy) -> bool:
    """True if the policy's update of a case is the reference's; 1e-9 in float64, 1e-5 in float32."""
    rollouts = case.rollouts()
    found = update(policy, rollouts, rollouts.output_mask, case.settings(rollouts.output_mask))
    precision = policy.model.dtype
    return same(found, expected(case, precision), 1e-9 if precision == torch.float64 else 1e-5)


@pytest.mark.parametrize("loss", list(cases.LOSSES))
@LAYOUTS
@pytest.mark.parametrize("family", list(families.FAMILIES))
def test_gradients_are_those_of_plain_rows_in_float64(family, once, loss):
    assert check(Case(family, loss=loss), laid_out(family, once))


@pytest.mark.parametrize("matmul_backend", ["torch", "onednn"])
@LAYOUTS
@pytest.mark.parametrize("family", list(families.FAMILIES))
def test_gradients_are_those_of_plain_rows_in_float32(family, once, matmul_backend):
    if matmul_backend == "onednn" and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("torch is built without oneDNN here")
    policy = laid_out(family, once, precision=torch.float32, matmul_backend=matmul_backend)
    assert policy.matmul_backend == matmul_backend
    assert check(Case(family), policy)


@pytest.mark.parametrize("loss", ["clip_and_bonus", "sequence_ratio"])
@pytest.mark.parametrize(
    ("questions", "sizes"),
    [((5,), (64,)), ((3, 40), (2, 17)), ((150, 2, 2), (2, 2, 6))],
    ids=["64_outputs", "2_and_17_outputs", "150_and_2_tokens"],
)
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_groups_of_2_to_64_outputs(family, questions, sizes, loss):
    case = Case(family, questions, sizes, loss)
    assert check(case, laid_out(family, True))
    assert check(case, laid_out(family, False))


@pytest.mark.parametrize(
    ("family", "precision"), [("qwen3", torch.float64), ("qwen3", torch.float32), ("gemma3", torch.float64)]
)
def test_a_question_of_1000_tokens(family, precision):
    case = Case(family, (1000,), (2,))
    assert check(case, laid_out(family, True, precision=precision))
    assert check(case, laid_out(family, False, precision=precision))


@pytest.mark.parametrize(
    "sampling",
    [
        replace(PLAIN, temperature=0.6),
        replace(PLAIN, top_k=12),
        replace(PLAIN, top_p=0.8),
        replace(PLAIN, temperature=1.7, top_k=20, top_p=0.9),
    ],
    ids=["temperature", "top_k", "top_p", "all"],
)
@LAYOUTS
@pytest.mark.parametrize("family", ["qwen2", "gemma2"])
def test_gradients_under_a_truncated_or_sharpened_distribution(family, once, sampling):
    assert check(Case(family, loss="clip_and_bonus", sampling=sampling), laid_out(family, once))
    assert check(Case(family, loss="sequence_ratio", sampling=sampling), laid_out(family, once))


@pytest.mark.parametrize("loss", list(cases.LOSSES))
@pytest.mark.parametrize("tokens", [1, 7])
def test_gradients_do_not_depend_on_how_many_tokens_the_last_layer_takes_at_once(loss, tokens, monkeypatch):
    for family in ("llama", "gemma2", "gpt_neox"):
        monkeypatch.setattr(linear_logprobs, "CHUNK_BYTES", 4 * families.FAMILIES[family].vocab_size * tokens)
        assert check(Case(family, loss=loss), laid_out(family, True))


@pytest.mark.parametrize("loss", ["clip_and_bonus", "sequence_ratio"])
@LAYOUTS
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_gradients_of_the_parts_of_a_batch_add_up(family, once, loss):
    # rows in any order, so that groups are torn apart and mixed
    case = Case(family, loss=loss)
    rollouts, policy = case.rollouts(), laid_out(family, once)
    settings = case.settings(rollouts.output_mask)
    found = Reference(*(torch.zeros(rollouts.tokens.shape, dtype=torch.float64) for _ in range(2)), {})
    for rows in torch.randperm(len(rollouts.lengths), generator=torch.Generator().manual_seed(4)).split(4):
        part = rollouts[rows]
        places = rows[:, None], torch.arange(part.tokens.shape[1])

        def loss_of_part(*values: Tensor, places: tuple[Tensor, Tensor] = places) -> Tensor:
            # the other rows stand at 0, which is a constant in the loss
            empty = torch.zeros(rollouts.tokens.shape, dtype=torch.float64)
            return settings["loss"](*(empty.index_put(places, value) for value in values))

        one = update(policy, part, part.output_mask, settings | {"loss": loss_of_part})
        found.logprobs[places], found.entropies[places] = one.logprobs, one.entropies
        for name, gradient in one.gradients.items():
            found.gradients[name] = found.gradients.get(name, 0.0) + gradient
    assert same(found, expected(case, torch.float64), 1e-9)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_group_may_hold_outputs_to_several_questions(family):
    """As an agent's does, which asks more than one thing in an episode."""
    case, policy = Case(family), laid_out(family, True)
    rollouts = case.rollouts()
    mixed = replace(rollouts, group=torch.zeros_like(rollouts.group))
    assert len(by_question(mixed)) == len(case.questions)
    found = update(policy, mixed, mixed.output_mask, case.settings(mixed.output_mask))
    assert same(found, expected(case, torch.float64), 1e-9)


@LAYOUTS
def test_outputs_and_groups_may_be_left_out_of_the_loss(once):
    # the first group whole, one output of the last, and the first half of another's tokens
    case = Case("qwen3")
    rollouts = case.rollouts()
    mask = rollouts.output_mask.clone()
    mask[[0, 1, 2, 6]] = False
    mask[7, :28] = False
    assert mask[7].any()
    settings = case.settings(rollouts.output_mask)
    model = naive.reference_model(families.FAMILIES["qwen3"])
    wanted = naive.reference(model, rollouts, mask, sampling=PLAIN, loss=settings["loss"])
    assert same(update(laid_out("qwen3", once), rollouts, mask, settings), wanted, 1e-9)


@LAYOUTS
def test_an_update_adds_to_what_is_there_and_no_token_adds_nothing(once):
    case = Case("mistral")
    rollouts, policy = case.rollouts(), laid_out("mistral", once)
    mask = rollouts.output_mask
    nothing = torch.zeros_like(mask)
    none = update(policy, rollouts, nothing, case.settings(nothing)).gradients
    assert not any(gradient.any() for gradient in none.values())
    wanted = expected(case, torch.float64)
    with naive.Unnarrowed():
        policy.backward(rollouts, mask, **case.settings(mask))
    twice = {name: 2 * gradient for name, gradient in wanted.gradients.items()}
    assert same(update(policy, rollouts, mask, case.settings(mask)), replace(wanted, gradients=twice), 1e-9)


@LAYOUTS
@pytest.mark.parametrize("family", ["qwen2", "phi3"])
def test_frozen_weights_get_no_gradient_and_change_no_other(family, once):
    case = Case(family)
    policy = replace(families.policy(family, precision=torch.float64), question_once=once)
    frozen = {name for name, _ in policy.model.named_parameters() if "layers.0" in name or "embed" in name}
    for name, weight in policy.model.named_parameters():
        weight.requires_grad_(name not in frozen)
    rollouts = case.rollouts()
    found = update(policy, rollouts, rollouts.output_mask, case.settings(rollouts.output_mask))
    wanted = expected(case, torch.float64)
    rest = {name: gradient for name, gradient in wanted.gradients.items() if name not in frozen}
    assert same(found, replace(wanted, gradients=rest), 1e-9)


@LAYOUTS
@pytest.mark.parametrize("family", list(families.FAMILIES))
def test_logprobs_without_gradient_are_the_same(family, once):
    case, policy = Case(family), laid_out(family, once)
    rollouts = case.rollouts()
    with naive.Unnarrowed():
        scored = policy.logprobs(rollouts, rollouts.output_mask, sampling=PLAIN)
    wanted = expected(case, torch.float64)
    assert close(scored.logprobs, wanted.logprobs)
    assert close(scored.entropies, wanted.entropies)
    assert all(weight.grad is None for weight in policy.model.parameters())
