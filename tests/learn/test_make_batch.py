"""A batch: where the KL counts, what the other models say, and which tokens each of it is about."""

from dataclasses import replace

import pytest
import torch

from groupwise.config import CriticConfig, ObjectiveConfig, UpdateConfig
from groupwise.data import Sampling
from groupwise.errors import RewardError
from groupwise.learn.auxiliary import AuxiliaryModels
from groupwise.learn.make_batch import logprobs, make_batch
from groupwise.learn.optimizer import make_optimizer
from groupwise.learn.update import update_policy
from groupwise.model.batch import Rollouts
from groupwise.model.critic import Critic
from groupwise.objective.correction import token_truncated
from groupwise.run.resolve import resolve
from tests.close import close
from tests.model import build

SAMPLING = Sampling(max_new_tokens=9, temperature=0.8)
UPDATE = UpdateConfig(steps=4, learning_rate=1e-2)
REWARDS = torch.tensor([1.0, 0.0, 0.5, 0.25, 3.0, -1.0])


@pytest.fixture
def policies(tmp_path, tiny_folder):
    """Two models of one vocabulary with different weights."""
    return [build.policy_of(build.SHARING["gpt2"], tmp_path / str(seed), tiny_folder, seed=seed) for seed in (0, 1)]


def rollouts_of(policy, **changed):
    """Six outputs of two questions, with the policy's own log-probabilities."""
    found = replace(build.rollouts((5, 3), (3, 3)), rewards=REWARDS, **changed)
    own = logprobs(policy, found, found.output_mask, sampling=SAMPLING, tokens=100)
    return replace(found, sampled_logprobs=own.float())


def batch_of(policy, rollouts, objective, auxiliary=None, *, config=UPDATE, truncated=(), exact=True, weights=()):
    left_out = torch.zeros(6, dtype=torch.bool)
    left_out[list(truncated)] = True
    return make_batch(
        policy,
        rollouts,
        objective=objective,
        auxiliary=auxiliary or AuxiliaryModels(),
        sampling=SAMPLING,
        truncated=left_out,
        exact_engine=exact,
        config=config,
        reward_weights=weights,
    )


def test_the_kl_in_the_reward_is_taken_off_before_outputs_are_compared(policies):
    policy, reference = policies
    rollouts = rollouts_of(policy)
    config = ObjectiveConfig(preset="rloo", kl_in="reward", kl_coef=0.5, kl_estimator="k1")
    batch = batch_of(policy, rollouts, resolve(config), AuxiliaryModels(reference=reference))
    of_reference = logprobs(reference, rollouts, rollouts.output_mask, sampling=SAMPLING, tokens=100)
    penalty = 0.5 * torch.where(rollouts.output_mask, rollouts.sampled_logprobs - of_reference, 0.0).sum(1)
    assert penalty.abs().max() > 0.01
    left = (REWARDS - penalty).view(2, 3)
    expected = left - (left.sum(1, keepdim=True) - left) / 2  # less the mean of the other two
    found = batch.advantages.sum(1) / batch.mask.sum(1)
    assert torch.allclose(found, expected.flatten(), atol=1e-5)


def test_with_the_kl_in_the_reward_the_loss_has_none(policies):
    policy, reference = policies
    objective = resolve(ObjectiveConfig(preset="reinforce_pp", kl_coef=0.5))
    assert not objective.kl_in_loss
    batch = batch_of(policy, rollouts_of(policy), objective, AuxiliaryModels(reference=reference))
    # its last token's return is the reward less that token's penalty: advantages differ inside an output
    rows = [row[mask] for row, mask in zip(batch.advantages, batch.mask, strict=True) if mask.sum() > 1]
    assert rows
    assert all(len(row.unique()) == len(row) for row in rows)


def test_a_teacher_raises_what_it_holds_likelier(policies):
    policy, teacher = policies
    rollouts = rollouts_of(policy)
    batch = batch_of(policy, rollouts, resolve(ObjectiveConfig(preset="distill")), AuxiliaryModels(teacher=teacher))
    of_teacher = logprobs(teacher, rollouts, rollouts.output_mask, sampling=SAMPLING, tokens=100)
    close(batch.advantages, torch.where(rollouts.output_mask, of_teacher - rollouts.sampled_logprobs, 0.0))


def test_a_teacher_teaches_outputs_whose_reward_failed_and_others_are_left_out_as_before(policies):
    policy, teacher = policies
    rewards = REWARDS.clone()
    rewards[[1, 4]] = torch.nan
    objective = resolve(ObjectiveConfig(preset="distill"))
    whole = batch_of(policy, rollouts_of(policy), objective, AuxiliaryModels(teacher=teacher))
    for missing in (rewards, torch.full_like(rewards, torch.nan)):
        rollouts = replace(rollouts_of(policy), rewards=missing)
        found = batch_of(policy, rollouts, objective, AuxiliaryModels(teacher=teacher))
        assert found.mask.equal(whole.mask)
        assert found.advantages.equal(whole.advantages)
        assert found.mask.any(1).all()
    compared = batch_of(policy, replace(rollouts_of(policy), rewards=rewards), resolve(ObjectiveConfig(kl_coef=0)))
    assert compared.mask.any(1).tolist() == [True, False, True, True, False, True]


@pytest.mark.parametrize("kind", ["own", "shared"])
def test_values_and_returns_are_fixed_before_the_update_and_a_warm_up_leaves_the_policy_alone(kind, policies):
    policy = policies[0]
    trunk = policies[1] if kind == "own" else policy
    head = torch.nn.Linear(trunk.model.get_output_embeddings().weight.shape[1], 1, bias=False)
    critic = Critic(trunk, head, CriticConfig(trunk=kind, warmup_steps=1, gae_lambda=1.0, learning_rate=1e-2))
    objective, config = resolve(ObjectiveConfig(preset="ppo", kl_coef=0)), UPDATE
    batch = batch_of(policy, rollouts_of(policy), objective, AuxiliaryModels(critic=critic))
    close(batch.values, critic.values(batch.rollouts, batch.mask))
    # lambda 1, discount 1: the return of each token is the output's reward
    assert torch.allclose(batch.returns, torch.where(batch.mask, REWARDS[:, None], 0.0), atol=1e-5)
    optimizer = make_optimizer(policy, config, critic)
    before = [p.clone() for p in policy.model.parameters()]
    moved = []
    for step in (0, 1):
        tally = update_policy(
            policy,
            optimizer,
            batch=batch,
            objective=objective,
            sampling=SAMPLING,
            config=config,
            seed=0,
            step=step,
            critic=critic,
        )
        moved.append(any(not a.equal(b) for a, b in zip(before, policy.model.parameters(), strict=True)))
        assert tally.value_tokens == int(batch.mask.sum())
        assert (tally.tokens > 0) == (step == 1)
    assert moved == [False, True]


def test_a_large_value_loss_on_the_policys_trunk_does_not_shrink_the_policys_step(policies):
    policy = policies[0]
    head = torch.nn.Linear(policy.model.get_output_embeddings().weight.shape[1], 1, bias=False)
    objective = resolve(ObjectiveConfig(preset="ppo", kl_coef=0))
    config, before = UPDATE.model_copy(update={"max_grad_norm": 0.5}), [p.clone() for p in policy.model.parameters()]

    def moved(value_coef):
        """What a plain gradient step of rate 1 takes from the policy's weights."""
        critic = Critic(policy, head, CriticConfig(trunk="shared", value_coef=value_coef, clip_value=None))
        batch = batch_of(policy, rollouts_of(policy), objective, AuxiliaryModels(critic=critic))
        # advantages without the critic's values, so that the policy's own gradient is the same each time
        batch = replace(batch, advantages=torch.where(batch.mask, REWARDS[:, None], 0.0))
        optimizer = make_optimizer(policy, config, critic)
        plain = torch.optim.SGD([{"params": group["params"]} for group in optimizer.param_groups], lr=1.0)
        rates = {"config": config.model_copy(update={"learning_rate": 1.0}), "seed": 0, "step": 0}
        critic.config = critic.config.model_copy(update={"learning_rate": 1.0})
        with torch.no_grad():
            head.weight.fill_(0.1)
        update_policy(policy, plain, batch=batch, objective=objective, sampling=SAMPLING, critic=critic, **rates)
        after = [p.detach().clone() for p in policy.model.parameters()]
        with torch.no_grad():
            for weight, old in zip(policy.model.parameters(), before, strict=True):
                weight.copy_(old)
        return torch.cat([(old - new).flatten() for old, new in zip(before, after, strict=True)])

    alone = moved(1e-12)  # the value loss is bounded from above, not from below: of it next to nothing is left
    assert abs(float(alone.detach().norm()) - 0.5) < 1e-4
    for coef in (0.5, 1e6):
        more = moved(coef) - alone  # what the critic adds is no longer than its own bound
        assert 0.1 < more.norm() <= 0.5 + 1e-4


def test_the_value_loss_falls(policies):
    policy, trunk = policies
    head = torch.nn.Linear(trunk.model.get_output_embeddings().weight.shape[1], 1, bias=False)
    critic = Critic(trunk, head, CriticConfig(warmup_steps=99, gae_lambda=1.0, learning_rate=1e-2, clip_value=None))
    objective = resolve(ObjectiveConfig(preset="ppo", kl_coef=0))
    # one reward a question: what the first state cannot tell apart would keep its error
    rollouts = replace(rollouts_of(policy), rewards=torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0]))
    batch = batch_of(policy, rollouts, objective, AuxiliaryModels(critic=critic))
    optimizer, losses = make_optimizer(policy, UPDATE, critic), []
    for _ in range(60):
        settings = {"sampling": SAMPLING, "config": UPDATE, "seed": 0, "step": 0, "critic": critic}
        losses.append(update_policy(policy, optimizer, batch=batch, objective=objective, **settings).value_loss)
    assert losses[-1] < 0.05 * losses[0]


def test_an_engine_that_is_not_exact_is_asked_again_and_corrected(policies):
    policy = policies[0]
    rollouts = rollouts_of(policy)
    off = replace(rollouts, sampled_logprobs=rollouts.sampled_logprobs - 0.5)  # the sampler held each less likely
    twice = UPDATE.model_copy(update={"updates_per_rollout": 2})
    objective = resolve(ObjectiveConfig(kl_coef=0), exact_engine=False)
    assert objective.correction is token_truncated
    batch = batch_of(policy, off, objective, config=twice, exact=False)
    assert torch.allclose(batch.old_logprobs, rollouts.sampled_logprobs, atol=1e-5)
    settings = {"sampling": SAMPLING, "seed": 0, "step": 0}
    tally = update_policy(
        policy, make_optimizer(policy, UPDATE), batch=batch, objective=objective, config=UPDATE, **settings
    )
    told = tally.metrics(with_kl=False, corrected=True, with_critic=False)
    assert told["correction/weight_mean"] == pytest.approx(1.6487, abs=1e-3)  # exp(0.5), under the bound of 2
    assert told["correction/dropped"] == 0.0
    assert told["sampler/gap_mean"] == pytest.approx(0.5, abs=1e-3)
    assert told["sampler/ess"] == pytest.approx(1.0, abs=1e-3)  # all alike: no token is worth less than another


def test_step_rewards_and_parts_reach_the_advantage(policies):
    policy = policies[0]
    rollouts = rollouts_of(policy)
    process = resolve(ObjectiveConfig(preset="grpo_process", kl_coef=0))
    with pytest.raises(RewardError, match="'process_supervision': no reward function gave the rewards of steps"):
        batch_of(policy, rollouts, process)
    steps = torch.where(rollouts.output_mask, 1.0, float("nan"))
    steps[0, int(rollouts.lengths[0]) - 1] = 0.0  # one step that is worse than the others of its group
    advantages = batch_of(policy, replace(rollouts, step_rewards=steps), process).advantages
    assert (advantages[0] < 0).any()
    assert not advantages[3:].any()
    parts = torch.tensor([[1.0, 0.0], [0.0, 3000.0], [0.0, 0.0]] * 2)
    found = batch_of(
        policy, replace(rollouts, reward_parts=parts), resolve(ObjectiveConfig(preset="gdpo")), weights=(1.0, 1.0)
    )
    of_output = found.advantages.sum(1) / found.mask.sum(1)
    close(of_output[0], of_output[1])  # the best of one reward and the best of the other, whatever their units
    assert of_output[0] > 0 > of_output[2]


def test_outputs_that_are_left_out_stay_in_their_groups_mean_and_out_of_every_term(policies):
    policy, trunk = policies
    rewards = REWARDS.clone()
    rewards[5] = float("nan")
    rollouts = replace(rollouts_of(policy), rewards=rewards)
    head = torch.nn.Linear(trunk.model.get_output_embeddings().weight.shape[1], 1, bias=False)
    auxiliary = AuxiliaryModels(critic=Critic(trunk, head, CriticConfig()))
    batch = batch_of(policy, rollouts, resolve(ObjectiveConfig(preset="ppo", kl_coef=0)), auxiliary, truncated=[0])
    assert not batch.mask[[0, 5]].any()
    assert not batch.advantages[[0, 5]].any()
    assert batch.values[0].any()  # it is in the mean that the advantages are whitened by
    assert not batch.values[5].any()


def test_rows_of_a_batch_are_cut_in_all_their_parts(policies):
    rollouts = rollouts_of(policies[0], step_rewards=torch.zeros(6, 99), reward_parts=torch.arange(12.0).view(6, 2))
    rows = torch.tensor([1, 4])
    width = int(rollouts.lengths[rows].max())
    cut = rollouts[rows]
    assert cut.step_rewards.shape == cut.tokens.shape == (2, width)
    assert cut.reward_parts.tolist() == [[2.0, 3.0], [8.0, 9.0]]
    assert isinstance(cut, Rollouts)
