"""One update: its gradient does not depend on how it is cut, nor on outputs that say nothing."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from groupwise.config import ObjectiveConfig, UpdateConfig
from groupwise.data import Output, Sampling
from groupwise.engines.base import Task, generate, stream
from groupwise.engines.local import LocalEngine
from groupwise.errors import RunError
from groupwise.learn.auxiliary import AuxiliaryModels
from groupwise.learn.make_batch import logprobs, make_batch
from groupwise.learn.optimizer import learning_rate, make_optimizer
from groupwise.learn.tally import Tally
from groupwise.learn.update import _updates, update_policy
from groupwise.model.batch import Batch, Rollouts
from groupwise.model.policy import Policy
from groupwise.objective.logprobs import entropy, predictors
from groupwise.objective.surrogate import Objective
from groupwise.run.resolve import resolve
from tests.close import close
from tests.model import build

SAMPLING = Sampling(max_new_tokens=9, temperature=0.8)
UPDATE = UpdateConfig(steps=10, learning_rate=1.0, max_grad_norm=1e9)
GRPO = resolve(ObjectiveConfig(kl_coef=0.0))
EVERYTHING = {"with_kl": True, "corrected": True, "with_critic": False}
REWARDS = ([1.0, 0.0, 0.0, 0.5], [0.0, 1.0, 1.0, 0.25], [1.0, 1.0, 1.0, 1.0])


@pytest.fixture
def policy(tmp_path, tiny_folder) -> Policy:
    # GPT-2, since it is float64 all through; others compute norms in float32
    policy = build.policy_of(build.SHARING["gpt2"], tmp_path, tiny_folder)
    policy.model.double()
    return policy


def outputs_of(policy: Policy) -> list[list[Output]]:
    """Three questions of 5, 1 and 3 tokens, four sampled outputs each."""
    questions = [(5, 6, 7, 8, 9), (4,), (10, 11, 12)]
    tasks = [Task(q, tuple(stream(0, 0, str(n), i) for i in range(4))) for n, q in enumerate(questions)]
    return generate(LocalEngine(policy), tasks, SAMPLING)


def rollouts_of(outputs: Sequence[Sequence[Output]], rewards: Sequence[Sequence[float | None]] = REWARDS) -> Rollouts:
    return Rollouts.of([build.group(own, values) for own, values in zip(outputs, rewards, strict=True)])


def batch_of(
    policy: Policy,
    rollouts: Rollouts,
    *,
    objective: Objective = GRPO,
    config: UpdateConfig = UPDATE,
    reference: Policy | None = None,
    truncated: Sequence[int] = (),
    exact_engine: bool = True,
) -> Batch:
    left_out = torch.zeros(len(rollouts.lengths), dtype=torch.bool)
    left_out[list(truncated)] = True
    return make_batch(
        policy,
        rollouts,
        objective=objective,
        auxiliary=AuxiliaryModels(reference=reference),
        sampling=SAMPLING,
        truncated=left_out,
        exact_engine=exact_engine,
        config=config,
    )


def step_of(
    policy: Policy, batch: Batch, *, objective: Objective = GRPO, config: UpdateConfig = UPDATE
) -> tuple[Tensor, Tally]:
    """What one plain gradient step of rate 1 takes from the weights, which are put back: the gradient itself."""
    before = torch.nn.utils.parameters_to_vector(policy.model.parameters()).detach().clone()
    optimizer = torch.optim.SGD(policy.model.parameters(), lr=1.0)
    tally = update_policy(
        policy, optimizer, batch=batch, objective=objective, sampling=SAMPLING, config=config, seed=0, step=0
    )
    after = torch.nn.utils.parameters_to_vector(policy.model.parameters()).detach()
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(before, policy.model.parameters())
    return before - after, tally


@pytest.mark.parametrize("aggregate", ["per_output", "per_token", "fixed_length"])
@pytest.mark.parametrize("once", [False, True])
def test_the_gradient_does_not_depend_on_the_micro_batches(aggregate, once, policy):
    objective = resolve(ObjectiveConfig(aggregate=aggregate, kl_coef=0.1, entropy_coef=0.05))
    policy = replace(policy, question_once=once)
    batch = batch_of(policy, rollouts_of(outputs_of(policy)), objective=objective)
    batch = replace(batch, ref_logprobs=batch.rollouts.sampled_logprobs - 0.3)
    whole, tally = step_of(
        policy, batch, objective=objective, config=UPDATE.model_copy(update={"tokens_per_microbatch": 10**6})
    )
    assert whole.norm() > 0.01
    for tokens in (1, 20, 33, 60):
        config = UPDATE.model_copy(update={"tokens_per_microbatch": tokens})
        cut, cut_tally = step_of(policy, batch, objective=objective, config=config)
        assert close(cut, whole)
        for name, value in tally.metrics(**EVERYTHING).items():
            assert close(cut_tally.metrics(**EVERYTHING)[name], torch.tensor(value, dtype=torch.float32)), name


def test_the_gradient_is_that_of_the_paper_worked_without_our_loop(policy):
    # one update, on policy: the ratio is 1, so the gradient is -mean_i mean_t A_i grad log pi (DeepSeekMath equation 3)
    batch = batch_of(policy, rollouts_of(outputs_of(policy)))
    scores = policy.model(batch.rollouts.tokens).logits[:, :-1].div(0.8).log_softmax(-1)
    chosen = scores.gather(-1, batch.rollouts.tokens[:, 1:, None])[..., 0]
    mask = batch.rollouts.output_mask[:, 1:]
    rewards = torch.tensor(REWARDS, dtype=torch.float64)
    advantages = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-6)
    per_output = torch.where(mask, chosen, 0.0).sum(1) / mask.sum(1)
    loss = -(advantages.flatten() * per_output).mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(policy.model.parameters()))])
    found, _ = step_of(policy, batch)
    assert (found - expected).norm() < 1e-6 * expected.norm()  # advantages are kept in float32


def test_outputs_without_advantage_are_left_out_and_change_no_gradient(policy, monkeypatch):
    # the third group's rewards are all equal; with an entropy term of next to nothing it is computed all the same
    batch = batch_of(policy, rollouts_of(outputs_of(policy)))
    left_out, short = step_of(policy, batch)
    kept, full = step_of(policy, batch, objective=replace(GRPO, entropy_coef=1e-300))
    assert close(left_out, kept)
    assert full.tokens == int(batch.mask.sum())
    assert short.tokens == int(batch.mask[:8].sum())


def test_without_any_gradient_the_optimizer_is_not_stepped(policy):
    # Adam's momentum of an earlier step would move the weights
    outputs = outputs_of(policy)
    config = UPDATE.model_copy(update={"learning_rate": 1e-3})
    optimizer = make_optimizer(policy, config)

    def update(rewards: Sequence[Sequence[float | None]]) -> Tally:
        batch = batch_of(policy, rollouts_of(outputs, rewards), config=config)
        return update_policy(
            policy, optimizer, batch=batch, objective=GRPO, sampling=SAMPLING, config=config, seed=0, step=0
        )

    update(REWARDS)
    before = torch.nn.utils.parameters_to_vector(policy.model.parameters()).detach().clone()
    tally = update([[1.0] * 4] * 3)
    assert torch.equal(torch.nn.utils.parameters_to_vector(policy.model.parameters()), before)
    assert tally.metrics(**{**EVERYTHING, "with_kl": False}) == {"grad_norm": 0.0}
    assert tally.updates == 0
    assert {int(state["step"]) for state in optimizer.state.values()} == {1}
    update([[None] * 4] * 3)
    assert torch.equal(torch.nn.utils.parameters_to_vector(policy.model.parameters()), before)


def test_an_update_without_gradient_is_no_step_among_others_that_have_one(policy):
    # 12 updates of one output; the 4 of the third group have no advantage
    config = UPDATE.model_copy(update={"learning_rate": 1e-6, "outputs_per_update": 1})
    batch = batch_of(policy, rollouts_of(outputs_of(policy)), config=config)
    optimizer = make_optimizer(policy, config)
    tally = update_policy(
        policy, optimizer, batch=batch, objective=GRPO, sampling=SAMPLING, config=config, seed=0, step=0
    )
    assert tally.updates == 8
    assert {int(state["step"]) for state in optimizer.state.values()} == {8}


def test_a_truncated_output_leaves_the_update_and_stays_in_its_groups_mean(policy):
    # rewards 1 0 0 .5: mean .375; without the first they would be 0 0 .5, mean 1/6
    rollouts = rollouts_of(outputs_of(policy))
    batch, whole = batch_of(policy, rollouts, truncated=[0]), batch_of(policy, rollouts)
    assert not batch.mask[0].any()
    assert not batch.advantages[0].any()
    assert close(batch.advantages[1:], whole.advantages[1:])
    std = ((0.625**2 + 2 * 0.375**2 + 0.125**2) / 3) ** 0.5
    assert close(batch.advantages[1][batch.mask[1]], torch.tensor(-0.375 / std, dtype=torch.float32))


def test_a_failed_reward_is_as_if_its_output_had_not_been_sampled(policy):
    outputs = outputs_of(policy)
    failed = [[None, *REWARDS[0][1:]], *REWARDS[1:]]
    without = [outputs[0][1:], *outputs[1:]], [REWARDS[0][1:], *REWARDS[1:]]
    found, _ = step_of(policy, batch_of(policy, rollouts_of(outputs, failed)))
    expected, _ = step_of(policy, batch_of(policy, rollouts_of(*without)))
    assert expected.norm() > 0.01
    assert close(found, expected)


def test_a_failed_reward_leaves_the_gradient_of_other_groups(policy):
    # With a constant denominator, so that what is left of the first group cannot reach the second: 11 outputs count
    # where 12 did, hence the factors. The first group's other rewards are equal: it has no gradient of its own.
    outputs = outputs_of(policy)
    whole, _ = step_of(policy, batch_of(policy, rollouts_of(outputs, [[0.0] * 4, *REWARDS[1:]])))
    failed, _ = step_of(policy, batch_of(policy, rollouts_of(outputs, [[None, 0.0, 0.0, 0.0], *REWARDS[1:]])))
    assert close(failed * 11, whole * 12)


def test_on_one_update_the_policy_is_its_own_old_policy(policy):
    batch = batch_of(policy, rollouts_of(outputs_of(policy)))
    assert batch.old_logprobs is None
    metrics = step_of(policy, batch)[1].metrics(**{**EVERYTHING, "with_kl": False})
    assert metrics["ratio/mean"] == metrics["ratio/max"] == 1.0
    assert metrics["clip/low"] == metrics["clip/high"] == 0.0
    assert metrics["sampler/gap_max"] < 1e-5
    assert "kl" not in metrics


@pytest.mark.parametrize("changed", [{"updates_per_rollout": 2}, {"outputs_per_update": 5}])
def test_more_updates_than_one_compare_with_the_samplers_log_probabilities(changed, policy):
    config = UPDATE.model_copy(update=changed | {"learning_rate": 0.05})
    rollouts = rollouts_of(outputs_of(policy))
    batch = batch_of(policy, rollouts, config=config)
    assert batch.old_logprobs is rollouts.sampled_logprobs
    other_engine = batch_of(policy, rollouts, config=config, exact_engine=False)
    assert other_engine.old_logprobs is not None
    assert close(other_engine.old_logprobs[batch.mask], rollouts.sampled_logprobs[batch.mask])
    assert other_engine.old_logprobs is not rollouts.sampled_logprobs
    _, tally = step_of(policy, batch, config=config)
    # 12 outputs: two whole passes; or one pass of 4, 4 and 4, of which any that has an advantage is a step
    assert tally.updates == (2 if "updates_per_rollout" in changed else 3)
    assert tally.ratio_max > 1.001


def test_every_pass_has_each_output_once_in_an_order_of_its_own():
    config = UPDATE.model_copy(update={"outputs_per_update": 5, "updates_per_rollout": 2})
    rows = [chosen.tolist() for chosen in _updates(12, config, seed=0, step=0)]
    assert [len(chosen) for chosen in rows] == [4] * 6  # not 5, 5 and a rest of 2 that moves the weights as far
    assert [len(chosen) for chosen in _updates(13, config, seed=0, step=0)][:3] == [5, 4, 4]
    first, second = [*rows[0], *rows[1], *rows[2]], [*rows[3], *rows[4], *rows[5]]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert rows == [chosen.tolist() for chosen in _updates(12, config, seed=0, step=0)]
    for other in ({"seed": 1, "step": 0}, {"seed": 0, "step": 1}):
        assert rows != [chosen.tolist() for chosen in _updates(12, config, **other)]


def test_the_updates_of_a_pass_make_its_whole_gradient(policy):
    # at a rate of almost 0
    objective = replace(GRPO, aggregate=resolve(ObjectiveConfig(aggregate="fixed_length")).aggregate)
    rollouts = rollouts_of(outputs_of(policy))
    sizes = UPDATE.model_copy(update={"outputs_per_update": 6, "learning_rate": 1e-6})
    halves, _ = step_of(policy, batch_of(policy, rollouts, config=sizes), objective=objective, config=sizes)
    whole, _ = step_of(policy, batch_of(policy, rollouts), objective=objective)
    # each half divides by 6 outputs where the whole divides by 12: together twice the whole, times the rate
    assert (halves / 1e-6 - 2 * whole).norm() < 1e-3 * whole.norm()


def test_the_gradient_is_scaled_down_to_its_limit(policy):
    batch = batch_of(policy, rollouts_of(outputs_of(policy)))
    free, tally = step_of(policy, batch)
    limit = float(free.norm()) / 4
    bound, bound_tally = step_of(policy, batch, config=UPDATE.model_copy(update={"max_grad_norm": limit}))
    assert close(tally.grad_norm, free.norm())
    assert close(bound_tally.grad_norm, free.norm())  # reported as it was
    assert (bound - free / 4).norm() < 1e-4 * bound.norm()  # torch adds 1e-6 to the norm


def test_a_gradient_that_is_not_a_number_stops_the_run_before_the_weights_change(policy):
    batch = batch_of(policy, rollouts_of(outputs_of(policy)))
    with torch.no_grad():
        policy.model.get_output_embeddings().weight[7] = torch.nan
    before = torch.nn.utils.parameters_to_vector(policy.model.parameters()).detach().clone()
    with pytest.raises(
        RunError, match=r"step 0: the loss is nan \(log-probabilities of the policy: nan\); no weight was changed"
    ):
        step_of(policy, batch)
    after = torch.nn.utils.parameters_to_vector(policy.model.parameters())
    assert torch.equal(after.isnan(), before.isnan())


def test_the_entropy_bonus_has_its_gradient(policy):
    # no advantage: -0.5 times the gradient of mean_i mean_t H
    rollouts = rollouts_of(outputs_of(policy), [[1.0] * 4] * 3)
    found, _ = step_of(policy, batch_of(policy, rollouts), objective=replace(GRPO, entropy_coef=0.5))
    mask = rollouts.output_mask
    logits = policy.model(rollouts.tokens).logits / SAMPLING.temperature  # causal: padding on the right is not seen
    entropies = torch.where(mask, predictors(entropy(logits)), 0.0)
    bonus = -0.5 * (entropies.sum(1) / mask.sum(1)).mean()
    weights = list(policy.model.parameters())
    expected = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(bonus, weights)])
    assert expected.norm() > 0.01
    assert close(found, expected)


def test_a_reference_and_its_kl(policy, tmp_path_factory, tiny_folder):
    other = build.policy_of(build.SHARING["gpt2"], tmp_path_factory.mktemp("other"), tiny_folder, seed=1)
    objective = resolve(ObjectiveConfig(kl_coef=0.1))
    rollouts = rollouts_of(outputs_of(policy), [[1.0] * 4] * 3)  # no advantage: the KL alone
    own = batch_of(policy, rollouts, objective=objective, reference=policy)
    assert own.ref_logprobs is not None
    metrics = step_of(policy, own, objective=objective)[1].metrics(**EVERYTHING)
    assert metrics["kl"] < 1e-10
    batch = batch_of(policy, rollouts, objective=objective, reference=other)
    gradient, tally = step_of(policy, batch, objective=objective)
    assert tally.metrics(**EVERYTHING)["kl"] > 0.1
    assert gradient.norm() > 0.01


def test_log_probabilities_without_gradient_are_the_policys_however_they_are_cut(policy):
    rollouts = rollouts_of(outputs_of(policy))
    expected = policy.logprobs(rollouts, rollouts.output_mask, sampling=SAMPLING).logprobs.float()
    for tokens in (1, 25, 10**6):
        found = logprobs(policy, rollouts, rollouts.output_mask, sampling=SAMPLING, tokens=tokens)
        assert not found.requires_grad
        assert close(found, expected)


def test_the_learning_rate_rises_and_falls_as_worked_by_hand():
    # 10 steps, rate 8, warm-up 2: 4 8, then over 8 steps constant, linear 8 7 .. 1, cosine 8 .. 4 in the middle
    rates = {}
    for schedule in ("constant", "linear", "cosine"):
        config = UpdateConfig(steps=10, learning_rate=8.0, warmup_steps=2, schedule=schedule)
        rates[schedule] = [learning_rate(config, step) for step in range(10)]
    assert close(rates["constant"], [4, 8, 8, 8, 8, 8, 8, 8, 8, 8])
    assert close(rates["linear"], [4, 8, 8, 7, 6, 5, 4, 3, 2, 1])
    assert rates["cosine"][:3] == [4, 8, 8]
    assert close(rates["cosine"][6], 4)  # half of the way: cos(pi / 2) = 0
    assert close(rates["cosine"][4], 4 * (1 + 0.5**0.5))  # a quarter: cos(pi / 4)
    assert 0 < rates["cosine"][9] < 0.4
    all_warm_up = UpdateConfig(steps=2, learning_rate=8.0, warmup_steps=4, schedule="linear")
    assert [learning_rate(all_warm_up, step) for step in range(2)] == [2, 4]


def test_the_rate_of_the_step_reaches_the_optimizer(policy):
    config = UPDATE.model_copy(update={"warmup_steps": 4})
    batch = batch_of(policy, rollouts_of(outputs_of(policy)), config=config)
    quarter, _ = step_of(policy, batch, config=config)
    whole, _ = step_of(policy, batch)
    assert close(quarter * 4, whole)


def test_what_a_recipe_sets_replaces_the_presets_column():
    assert (GRPO.kl_coef, GRPO.parameters) == (0.0, {"clip_low": 0.2, "clip_high": 0.2})
    assert GRPO.advantage.__name__ == "group_relative"
    changed = resolve(ObjectiveConfig(preset="dr_grpo", clip_high=0.28, aggregate="per_token", kl_estimator="k1"))
    assert changed.parameters == {"clip_low": 0.2, "clip_high": 0.28}
    names = (changed.advantage.__name__, changed.aggregate.__name__, changed.kl_estimator.__name__)
    assert names == ("group_centred", "per_token", "k1")


def test_what_steers_a_coefficient_is_measured_on_outputs_that_teach_nothing_too(policy):
    batch = batch_of(policy, rollouts_of(outputs_of(policy), [[1.0] * 4] * 3))
    before = [parameter.clone() for parameter in policy.model.parameters()]
    optimizer = make_optimizer(policy, UPDATE)
    tally = update_policy(
        policy,
        optimizer,
        batch=batch,
        objective=resolve(ObjectiveConfig(kl_coef=0, entropy_target=0.1)),
        sampling=SAMPLING,
        config=UPDATE,
        seed=0,
        step=0,
    )
    assert tally.tokens == int(batch.mask.sum())
    assert tally.metrics(**EVERYTHING)["entropy"] > 0
    assert tally.updates == 0
    assert all(a.equal(b) for a, b in zip(before, policy.model.parameters(), strict=True))
