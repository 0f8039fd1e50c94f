"""Settings that other trainers have by a like name and that differ: the worked numbers of docs/names.md."""

import torch

from groupwise.objective.advantage import group_centred_batch_scaled
from groupwise.objective.losses import Denominators, per_output, per_token
from tests.close import close


def test_a_masked_output_leaves_the_denominator_where_trl_keeps_it():
    # 12 outputs of one token, a loss of 1 each; 3 are masked: 9 / 9 here, 9 / 12 in TRL
    loss, mask = torch.ones(12, 1), torch.ones(12, 1, dtype=torch.bool)
    mask[9:] = False
    ours = per_output(loss, mask, Denominators.of(mask, 1))
    theirs = torch.where(mask, loss, 0.0).sum() / 12
    assert close(ours, 1.0)
    assert close(theirs / ours, 0.75)


def test_the_entropy_follows_the_aggregate_where_trl_averages_tokens():
    # one token with 2 nats; three tokens with 1 nat each: (2 + 1) / 2 by outputs, (2 + 3) / 4 by tokens
    entropies = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, False, False], [True, True, True]])
    assert close(per_output(entropies, mask, Denominators.of(mask, 3)), 1.5)
    assert close(per_token(entropies, mask, Denominators.of(mask, 3)), 1.25)


def test_the_batch_scale_is_that_of_centred_rewards_where_trl_takes_that_of_rewards():
    # rewards 1, 0 and 1, 1: centred 0.5, -0.5, 0, 0, whose std is sqrt(0.5 / 3) = 0.408; of the rewards it is 0.5
    rewards, group = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([0, 0, 1, 1])
    ours = group_centred_batch_scaled(rewards, group, torch.ones(4, 1, dtype=torch.bool))[0, 0]
    theirs = 0.5 / (rewards.std() + 1e-4)
    assert abs(float(ours / theirs) - 1.2247) < 1e-3
