"""An exact engine is held to its word before anything is learned from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from groupwise.config import ObjectiveConfig, UpdateConfig
from groupwise.data import Group, Output, Sampling
from groupwise.engines.base import Task, generate, stream
from groupwise.engines.local import LocalEngine
from groupwise.errors import RunError
from groupwise.learn.agreement import Agreement, expected_agreement
from groupwise.learn.make_batch import make_batch
from groupwise.learn.update import update_policy
from groupwise.model.batch import Rollouts
from groupwise.model.policy import Policy
from groupwise.objective.logprobs import sampling_logits, token_logprobs
from groupwise.run.resolve import resolve
from tests.model import build

SAMPLING = Sampling(max_new_tokens=7)
TWO_PASSES = UpdateConfig(steps=1, updates_per_rollout=2, learning_rate=0.05)
GRPO = resolve(ObjectiveConfig(kl_coef=0.0))


@pytest.fixture
def policy(tmp_path, tiny_folder) -> Policy:
    return build.policy_of(build.SHARING["gpt2"], tmp_path, tiny_folder)


def groups_of(policy: Policy, off: dict[tuple[int, int, int], float]) -> list[Group]:
    """Two questions, three outputs each; off: (question, output, token) to nats taken from the sampler's number."""
    tasks = [Task(q, tuple(stream(0, 0, str(q), i) for i in range(3))) for q in ((5, 6, 7), (8,))]
    found = generate(LocalEngine(policy), tasks, SAMPLING)

    def told(question: int, number: int, output: Output) -> Output:
        logprobs = output.logprobs.copy()
        for token in range(len(logprobs)):
            logprobs[token] -= off.get((question, number, token), 0.0)
        return replace(output, logprobs=logprobs)

    return [
        build.group([told(question, number, output) for number, output in enumerate(own)], [0.0, 1.0, 0.2])
        for question, own in enumerate(found)
    ]


def update(policy: Policy, groups: list[Group], *, smooth: bool = True) -> Agreement:
    rollouts = Rollouts.of(groups)
    batch = make_batch(
        policy, rollouts, objective=GRPO, sampling=SAMPLING, truncated=torch.zeros(6, dtype=torch.bool),
        exact_engine=True, config=TWO_PASSES,
    )  # fmt: skip
    agreement = Agreement(groups, step=4, decode=policy.tokenizer.decode, smooth=smooth)
    optimizer = torch.optim.SGD(policy.model.parameters(), lr=1.0)
    update_policy(
        policy, optimizer, batch=batch, objective=GRPO, sampling=SAMPLING, config=TWO_PASSES, seed=0, step=4,
        agreement=agreement,
    )  # fmt: skip
    return agreement


def test_a_token_that_was_sampled_from_another_policy_stops_the_step_before_the_weights_move(policy):
    groups = groups_of(policy, {(1, 2, 0): 0.02})
    output = groups[1].samples[2].output
    before = torch.nn.utils.parameters_to_vector(policy.model.parameters()).clone()
    token, right = int(output.tokens[0]), float(output.logprobs[0]) + 0.02
    with pytest.raises(RunError) as error:
        update(policy, groups)
    assert torch.equal(torch.nn.utils.parameters_to_vector(policy.model.parameters()), before)
    told = str(error.value)
    assert f"token {token} ({policy.tokenizer.decode([token])!r}), number 0 of output 2 of question 'q'" in told
    assert f"{right - 0.02:.4f} when sampled and {right:.4f} in training" in told


def test_what_the_policy_sampled_agrees_and_a_policy_that_has_moved_is_not_compared(policy):
    groups = groups_of(policy, {})
    agreement = update(policy, groups)  # the second of two updates is of other weights
    assert agreement.tokens == sum(len(sample.output.tokens) for group in groups for sample in group.samples)
    assert agreement.worst is not None
    assert agreement.worst.nats < 1e-4


def test_where_rounding_may_tip_a_scale_the_mean_counts(policy):
    one = groups_of(policy, {(0, 1, 0): 0.05})
    assert update(policy, one, smooth=False).worst.nats == pytest.approx(0.05, abs=1e-4)
    all_of_them = dict.fromkeys(np.ndindex(2, 3, 7), 0.05)
    with pytest.raises(RunError, match=r"0\.05 nats apart on average"):
        update(policy, groups_of(policy, all_of_them), smooth=False)


@pytest.mark.parametrize(
    ("changed", "smooth"),
    [
        ({}, True),
        ({"temperature": 0.5}, True),
        ({"temperature": 1e-4}, False),
        ({"top_k": 4}, False),
        ({"top_p": 0.9}, False),
        ({"min_p": 0.1}, False),
    ],
)
def test_every_token_counts_unless_a_setting_makes_rounding_large(policy, changed, smooth):
    sampling = replace(SAMPLING, **changed)
    found = expected_agreement(policy, [], sampling, exact_engine=True, step=0, decode=policy.tokenizer.decode)
    assert found.smooth is smooth


def test_rounding_at_the_edge_of_top_k_is_worth_a_token():
    # The trainer's rounding puts token 2 ahead of token 1, which was drawn; it is kept all the same, as one of three:
    # log 1/2 when sampled, log 1/3 in training.
    token = torch.tensor([1])
    sampled = sampling_logits(torch.tensor([[0.0, 0.0, -1e-6]]), top_k=2, keep=token)
    trained = sampling_logits(torch.tensor([[0.0, -2e-6, -1e-6]]), top_k=2, keep=token)
    gap = token_logprobs(sampled, token) - token_logprobs(trained, token)
    assert float(gap) == pytest.approx(0.4055, abs=1e-3)
