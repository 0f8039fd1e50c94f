"""The critic: its values stand where their tokens do, and its gradient is that of the plain computation."""

from dataclasses import replace

import pytest
import torch

from groupwise.config import CriticConfig
from groupwise.data import Sampling
from groupwise.model.critic import Critic
from tests.close import close
from tests.model import build

SAMPLING = Sampling(max_new_tokens=9)


@pytest.fixture
def policy(tmp_path, tiny_folder):
    policy = build.policy_of(build.SHARING["gpt2"], tmp_path, tiny_folder)
    policy.model.double()
    return policy


def critic_on(trunk, *, kind="own"):
    width = trunk.model.get_output_embeddings().weight.shape[1]
    head = torch.nn.Linear(width, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(torch.linspace(-1, 1, width, dtype=torch.float64))
    return Critic(trunk, head, CriticConfig(trunk=kind))


def by_hand(critic, rollouts):
    """V at token t is the head of the state at token t - 1, each output in a row of its own."""
    states = critic.trunk.model.transformer(rollouts.tokens).last_hidden_state
    values = critic.head(states)[..., 0]
    return torch.cat([torch.zeros_like(values[:, :1]), values[:, :-1]], dim=1)


def squares(values, mask):
    return torch.where(mask, (values - 0.3).square(), 0.0).sum()


def gradients(*modules):
    return [p.grad.clone() for module in modules for p in module.parameters() if p.grad is not None]


@pytest.mark.parametrize("once", [False, True])
def test_a_value_is_that_of_the_state_in_which_its_token_is_drawn(once, policy):
    rollouts = build.rollouts((5, 1, 3), (4, 4, 4))
    mask = build.with_gaps(rollouts.output_mask)
    critic = critic_on(replace(policy, question_once=once))
    found = critic.values(rollouts, mask)
    assert mask.any()
    close(found[mask], by_hand(critic, rollouts)[mask])
    assert not found[~mask].any()


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("recompute", ["nothing", "cheap", "layers"])
def test_its_gradient_is_that_of_the_plain_computation(once, recompute, policy):
    rollouts = build.rollouts((5, 1, 3), (4, 4, 4))
    mask = build.with_gaps(rollouts.output_mask)
    critic = critic_on(replace(policy, question_once=once, recompute=recompute))
    squares(by_hand(critic, rollouts), mask).backward()
    expected = gradients(critic.module)
    critic.module.zero_grad()
    critic.backward(rollouts, mask, loss=lambda values: squares(values, mask))
    for found, wanted in zip(gradients(critic.module), expected, strict=True):
        close(found, wanted)


@pytest.mark.parametrize("once", [False, True])
def test_on_the_policys_trunk_its_gradient_is_kept_apart_from_the_policys(once, policy):
    rollouts = build.rollouts((5, 1, 3), (4, 4, 4))
    mask = build.with_gaps(rollouts.output_mask)
    policy = replace(policy, question_once=once)
    critic = critic_on(policy, kind="shared")
    policy.backward(rollouts, mask, sampling=SAMPLING, loss=lambda logprobs, _: logprobs.sum())
    of_policy = gradients(policy.model)
    apart = [torch.zeros_like(weight) for weight in policy.model.parameters()]
    critic.backward(rollouts, mask, loss=lambda values: squares(values, mask), apart=apart)
    for found, expected in zip(gradients(policy.model), of_policy, strict=True):
        assert found.equal(expected)
    of_head = gradients(critic.module)[0]
    policy.model.zero_grad()
    critic.module.zero_grad()
    squares(by_hand(critic, rollouts), mask).backward()
    for found, weight in zip(apart, policy.model.parameters(), strict=True):
        close(found, torch.zeros_like(weight) if weight.grad is None else weight.grad)
    close(of_head, gradients(critic.module)[0])


def test_what_is_its_own_is_the_head_alone_on_the_policys_trunk(policy):
    assert [name for name, _ in critic_on(policy, kind="shared").module.named_parameters()] == ["head.weight"]
    own = [name for name, _ in critic_on(policy).module.named_parameters()]
    assert len(own) == 1 + len(list(policy.model.transformer.parameters()))


def test_values_are_wide_where_products_are_not(policy):
    policy.model.float()
    policy = replace(policy, precision=torch.bfloat16)
    rollouts = build.rollouts((5, 1), (3, 3))
    critic, found = critic_on(policy, kind="shared"), []
    critic.head.float()

    def loss(values):
        found.append(values)
        return values.sum()

    critic.backward(rollouts, rollouts.output_mask, loss=loss)
    assert found[0].dtype == critic.values(rollouts, rollouts.output_mask).dtype == torch.float32
