"""From rollouts to a batch: log-probabilities of the other models, the KL in the reward, values, advantages."""

from typing import Any

import torch
from torch import Tensor

from groupwise.config import UpdateConfig
from groupwise.data import Sampling
from groupwise.errors import RewardError
from groupwise.learn.auxiliary import AuxiliaryModels
from groupwise.learn.microbatches import microbatch_tokens, row_by_row
from groupwise.learn.ranks import ALONE, Ranks, over_all
from groupwise.model.batch import Batch, Rollouts, microbatches
from groupwise.model.critic import Critic
from groupwise.model.policy import Policy
from groupwise.objective.correction import uncorrected
from groupwise.objective.surrogate import Objective, called, kl_of, reads, reads_rewards
from groupwise.objective.token_advantage import gae, token_rewards

NO_MODELS = AuxiliaryModels()


def make_batch(
    policy: Policy,
    rollouts: Rollouts,
    *,
    objective: Objective,
    auxiliary: AuxiliaryModels = NO_MODELS,
    sampling: Sampling,
    truncated: Tensor,
    exact_engine: bool,
    config: UpdateConfig,
    reward_weights: tuple[float, ...] = (),
    ranks: Ranks = ALONE,
) -> Batch:
    """The rollouts with their advantages, and log-probabilities under pi_old and pi_ref where the update needs them.

    truncated: [B], outputs to leave out of the update; they stay in their group's mean. reward_weights: K, those of
    `rollouts.reward_parts`. With one update per rollout pi_old is pi and the ratio is 1 by construction; where it is
    needed, an exact engine's own log-probabilities are pi_old's, and any other's are computed here. An output without a
    reward is left out, unless neither the advantage nor a critic reads rewards (distillation). ranks: other processes
    with other outputs of the step, which an advantage may look at too.
    Raises RewardError if the advantage reads step rewards and no function gave any.
    """
    drawn = rollouts.output_mask
    if reads_rewards(objective.advantage) or auxiliary.critic is not None:
        drawn = drawn & ~rollouts.rewards.isnan()[:, None]
    mask = drawn & ~truncated[:, None]
    outputs = float(ranks.sum(torch.tensor(float(len(mask)))))
    tokens, wanted = microbatch_tokens(policy, config), reads(objective.advantage)
    on_policy = config.updates_per_rollout == 1 and (config.outputs_per_update or outputs) >= outputs
    in_reward = objective.kl_coef > 0 and objective.kl_in == "reward"
    old, of_reference = None, None
    if not on_policy or in_reward or "old_logprobs" in wanted:
        old = rollouts.sampled_logprobs
        if not exact_engine or objective.correction is not uncorrected:
            old = logprobs(policy, rollouts, drawn, sampling=sampling, tokens=tokens, ranks=ranks)
    if auxiliary.reference is not None:
        of_reference = logprobs(auxiliary.reference, rollouts, drawn, sampling=sampling, tokens=tokens, ranks=ranks)
    inputs: dict[str, Any] = {
        **_of_rewards(objective, rollouts, drawn, reward_weights),
        **_less_the_kl(objective, rollouts.rewards, drawn, old, of_reference),
        "old_logprobs": old,
    }
    if auxiliary.teacher is not None:
        inputs["teacher_logprobs"] = logprobs(
            auxiliary.teacher, rollouts, drawn, sampling=sampling, tokens=tokens, ranks=ranks
        )
    returns = None
    if (critic := auxiliary.critic) is not None:
        inputs |= {"discount": critic.config.discount, "gae_lambda": critic.config.gae_lambda}
        inputs["values"] = values(critic, rollouts, drawn, tokens=tokens, ranks=ranks)
        returns = called(gae, inputs) + inputs["values"]
    return Batch(
        rollouts=rollouts,
        mask=mask,
        advantages=torch.where(mask, _advantages(objective, inputs, ranks, mask), 0.0),
        old_logprobs=None if on_policy else old,
        ref_logprobs=of_reference,
        values=inputs.get("values"),
        returns=returns,
    )


def _advantages(objective: Objective, inputs: dict[str, Any], ranks: Ranks, mask: Tensor) -> Tensor:
    everywhere, own = over_all(ranks, inputs)
    return called(objective.advantage, {**objective.parameters, **everywhere})[own, : mask.shape[1]]


def _of_rewards(objective: Objective, rollouts: Rollouts, drawn: Tensor, weights: tuple[float, ...]) -> dict[str, Any]:
    if "step_rewards" in reads(objective.advantage) and rollouts.step_rewards is None:
        raise RewardError(
            f"objective.advantage = {objective.advantage.__name__!r}: no reward function gave the rewards of steps",
            hint="let one return {'score': ..., 'steps': [[end, reward], ...]} (docs/rewards.md)",
        )
    return {
        "group": rollouts.group,
        "mask": drawn,
        "reward_parts": rollouts.reward_parts,
        "reward_weights": torch.tensor(weights),
        "step_rewards": rollouts.step_rewards,
    }


def _less_the_kl(
    objective: Objective, rewards: Tensor, mask: Tensor, old: Tensor | None, of_reference: Tensor | None
) -> dict[str, Tensor]:
    """`rewards` and `token_rewards`, less the KL's penalty where it counts in the reward."""
    if objective.kl_coef == 0 or objective.kl_in == "loss":
        return {"rewards": rewards, "token_rewards": token_rewards(rewards, mask)}
    assert old is not None
    assert of_reference is not None
    penalty = objective.kl_coef * kl_of(objective, old, of_reference, old, mask)
    return {"rewards": rewards - penalty.sum(dim=1), "token_rewards": token_rewards(rewards, mask, penalty)}


@torch.no_grad()
def logprobs(
    policy: Policy, rollouts: Rollouts, mask: Tensor, *, sampling: Sampling, tokens: int, ranks: Ranks = ALONE
) -> Tensor:
    """log pi of the masked tokens, [B, T] nats, without gradient, so many tokens at a time."""
    result = torch.zeros(mask.shape, dtype=policy.model.dtype, device=mask.device)

    def do(rows: Tensor) -> None:
        piece = rollouts[rows]
        width = piece.tokens.shape[1]
        result[rows, :width] = policy.logprobs(piece, mask[rows, :width], sampling=sampling).logprobs

    row_by_row(policy, microbatches(rollouts, tokens, question_once=policy.question_once), do, ranks=ranks)
    return result


@torch.no_grad()
def values(critic: Critic, rollouts: Rollouts, mask: Tensor, *, tokens: int, ranks: Ranks = ALONE) -> Tensor:
    """V of the states in which the masked tokens were drawn, [B, T] reward units, so many tokens at a time."""
    result = torch.zeros(mask.shape, dtype=critic.head.weight.dtype, device=mask.device)

    def do(rows: Tensor) -> None:
        piece = rollouts[rows]
        width = piece.tokens.shape[1]
        result[rows, :width] = critic.values(piece, mask[rows, :width])

    row_by_row(critic.trunk, microbatches(rollouts, tokens, question_once=critic.trunk.question_once), do, ranks=ranks)
    return result
