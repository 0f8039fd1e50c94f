"""Micro-batches that run out of memory: done again in smaller pieces, with the same gradient and the same figures."""

from dataclasses import replace

import pytest
import torch

from groupwise.errors import RunError
from groupwise.learn.make_batch import logprobs
from groupwise.learn.microbatches import in_microbatches, microbatch_tokens, row_by_row
from groupwise.learn.optimizer import make_optimizer
from groupwise.learn.update import update_policy
from groupwise.model.memory import out_of_memory
from groupwise.model.policy import Policy
from tests.close import close
from tests.learn import test_update as updates
from tests.learn.test_update import EVERYTHING, GRPO, SAMPLING, UPDATE

NO_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: can't allocate memory: 12 bytes"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory: you tried"),
    RuntimeError("could not create a primitive descriptor: std::bad_alloc"),
]
policy = updates.policy


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_signs_that_memory_ran_out(error):
    assert out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes cannot be multiplied"), ValueError("out of memory"), OSError()])
def test_other_errors_are_not_taken_for_it(error):
    assert not out_of_memory(error)


@pytest.fixture
def small_memory(monkeypatch):
    """Every pass over more than 25 tokens does its work and then runs out of memory, as one does late on its way."""
    passes = []
    for name in ("backward", "logprobs"):
        whole = getattr(Policy, name)

        def limited(self, rollouts, mask, whole=whole, **settings):
            found = whole(self, rollouts, mask, **settings)
            passes.append(int(rollouts.lengths.sum()))
            if passes[-1] > 25 and len(rollouts.lengths) > 1:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
            return found

        monkeypatch.setattr(Policy, name, limited)
    return passes


def test_a_micro_batch_without_memory_is_halved_with_the_same_gradient_and_figures(policy, request):
    batch = updates.batch_of(policy, updates.rollouts_of(updates.outputs_of(policy)))
    whole, tally = updates.step_of(policy, batch)
    passes = request.getfixturevalue("small_memory")
    cut, cut_tally = updates.step_of(policy, batch)
    assert max(passes) > 25  # it was tried
    assert close(cut, whole)
    assert cut_tally.halvings > 0
    assert cut_tally.metrics(**EVERYTHING)["memory/halvings"] == cut_tally.halvings
    assert "memory/halvings" not in tally.metrics(**EVERYTHING)
    for name, value in tally.metrics(**EVERYTHING).items():
        assert close(cut_tally.metrics(**EVERYTHING)[name], torch.tensor(value, dtype=torch.float32)), name


def test_later_steps_keep_to_what_did_fit(policy, small_memory):
    batch = updates.batch_of(policy, updates.rollouts_of(updates.outputs_of(policy)))
    updates.step_of(policy, batch)
    limit = policy.microbatch_limit
    assert limit is not None
    assert microbatch_tokens(policy, UPDATE) == limit
    assert microbatch_tokens(policy, UPDATE.model_copy(update={"tokens_per_microbatch": 3})) == 3
    small_memory.clear()
    assert updates.step_of(policy, batch)[1].halvings == 0
    assert max(small_memory) <= 25


def test_passes_without_a_gradient_are_halved_too(policy, request):
    rollouts = updates.rollouts_of(updates.outputs_of(policy))
    settings = {"sampling": SAMPLING, "tokens": 10**6}
    expected = logprobs(policy, rollouts, rollouts.output_mask, **settings)
    request.getfixturevalue("small_memory")
    assert close(logprobs(policy, rollouts, rollouts.output_mask, **settings), expected.float())


def test_one_output_that_does_not_fit_ends_with_one_line_and_moves_nothing(policy, monkeypatch):
    batch = updates.batch_of(policy, updates.rollouts_of(updates.outputs_of(policy)))

    def never(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Policy, "backward", never)
    before = [weight.clone() for weight in policy.model.parameters()]
    optimizer = make_optimizer(policy, UPDATE)
    with pytest.raises(RunError, match="one output alone does not fit into memory; lower rollout"):
        update_policy(policy, optimizer, batch=batch, objective=GRPO, sampling=SAMPLING, config=UPDATE, seed=0, step=0)
    assert all(weight.equal(old) for weight, old in zip(policy.model.parameters(), before, strict=True))
    assert not any(state["step"] for state in optimizer.state.values())
    with pytest.raises(RunError, match="one output alone"):
        row_by_row(policy, [torch.arange(4)], never)


def test_pieces_begin_anew_with_nothing_left_of_what_failed(policy):
    policy, added = replace(policy), []

    def do(piece):
        added.extend(piece)
        if len(piece) > 2:
            raise MemoryError

    halvings = in_microbatches(
        policy,
        UPDATE.model_copy(update={"tokens_per_microbatch": 8}),
        cut=lambda tokens: [list(range(8))[start : start + tokens] for start in range(0, 8, tokens)],
        units=len,
        begin=added.clear,
        do=do,
    )
    assert (halvings, policy.microbatch_limit) == (2, 2)
    assert added == list(range(8))
