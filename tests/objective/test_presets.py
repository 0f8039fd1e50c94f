"""Every published row: its names are in the tables, its numbers are the paper's, its first step goes the right way."""

import dataclasses

import pytest
import torch

from groupwise import registry
from groupwise.objective.presets import Preset
from groupwise.objective.surrogate import reads
from groupwise.parameters import PARAMETERS
from groupwise.run.resolve import objective_of
from tests.objective.build import batch, loss_and_gradient

PRESETS = [registry.load(registry.PRESETS, name) for name in registry.PRESETS]
every_preset = pytest.mark.parametrize("row", PRESETS, ids=list(registry.PRESETS))


def clipped(low, high):
    return {"clip_low": low, "clip_high": high}


PUBLISHED = {
    "grpo": ("group_relative", "clip", "per_output", clipped(0.2, 0.2), 0.04, "k3"),
    "dr_grpo": ("group_centred", "clip", "fixed_length", clipped(0.2, 0.2), 0.0, "k3"),
    "reinforce": ("reward", "reinforce", "fixed_length", {}, 0.0, "k3"),
    "rloo": ("leave_one_out", "reinforce", "fixed_length", {}, 0.0, "k3"),
    "reinforce_pp": ("return_normalised", "clip", "per_output", clipped(0.2, 0.2), 0.001, "k1"),
    "reinforce_pp_baseline": ("group_centred_batch_scaled", "clip", "per_output", clipped(0.2, 0.2), 0.001, "k2"),
    "dapo": ("group_relative", "clip", "per_token", clipped(0.2, 0.28), 0.0, "k3"),
    "gspo": ("group_relative", "sequence_clip", "per_output", clipped(3e-4, 4e-4), 0.0, "k3"),
    "gspo_token": ("group_relative", "sequence_token_clip", "per_output", clipped(3e-4, 4e-4), 0.0, "k3"),
    "cispo": ("group_relative", "cispo", "per_token", clipped(1.0, 4.0), 0.0, "k3"),
    "gmpo": ("group_relative", "geometric_clip", "per_output", clipped(0.4, 0.4), 0.0, "k3"),
    "sapo": ("group_relative", "soft_gate", "per_output", {"tau_pos": 1.0, "tau_neg": 1.05}, 0.0, "k3"),
    "maxrl": ("over_mean", "clip", "fixed_length", clipped(0.2, 0.2), 0.0, "k3"),
    "online_rft": ("only_right", "nll", "per_output", {}, 0.0, "k3"),
    "r1": ("group_relative", "clip", "per_output", clipped(10.0, 10.0), 0.001, "k3"),
    "grpo_process": ("process_supervision", "clip", "per_output", clipped(0.2, 0.2), 0.04, "k3"),
    "gdpo": ("per_reward", "clip", "per_output", clipped(0.2, 0.2), 0.0, "k3"),
    "distill": ("teacher_gap", "reinforce", "per_token", {}, 0.0, "k3"),
    "ppo": ("gae_whitened", "clip", "per_token", clipped(0.2, 0.2), 0.02, "k1"),
    "a2c": ("gae", "reinforce", "per_token", {}, 0.0, "k3"),
}
"""advantage, loss, aggregate, parameters, kl_coef, kl_estimator."""
KL_IN_REWARD = {"reinforce_pp", "ppo"}
"""Rows that take the KL off each token's reward."""
IMITATING = {"online_rft"}
"""Rows that raise good tokens and leave bad ones alone."""


@every_preset
def test_a_preset_names_rows_that_are_there_and_its_source(row):
    assert isinstance(row, Preset)
    assert row.advantage in registry.ADVANTAGES
    assert row.loss in registry.LOSSES
    assert row.aggregate in registry.AGGREGATES
    assert row.kl_estimator in registry.KL_ESTIMATORS
    assert "arXiv:" in row.source or "Nature" in row.source
    assert row.equation
    assert "\n" not in row.equation
    assert set(row.parameters) <= set(PARAMETERS) & set(reads(registry.load(registry.LOSSES, row.loss)))
    assert row.kl_coef >= 0


@pytest.mark.parametrize("name", list(registry.PRESETS))
def test_a_preset_has_a_finite_loss_and_moves_every_good_token_up(name):
    made = batch()
    made = dataclasses.replace(made, old_logprobs=made.logprobs, ref_logprobs=made.logprobs)
    loss, gradient = loss_and_gradient(objective_of(registry.load(registry.PRESETS, name)), made)
    assert loss.isfinite()
    downwards = made.advantages.clamp(min=0) if name in IMITATING else made.advantages
    assert torch.equal(gradient.sign(), torch.where(made.mask, -downwards.sign(), 0.0))


@pytest.mark.parametrize("name", list(registry.PRESETS))
def test_the_published_rows_are_as_published(name):
    row = registry.load(registry.PRESETS, name)
    columns = ("advantage", "loss", "aggregate", "parameters", "kl_coef", "kl_estimator")
    assert tuple(getattr(row, column) for column in columns) == PUBLISHED[name]
    assert row.entropy_coef == 0.0
    assert row.kl_in == ("reward" if name in KL_IN_REWARD else "loss")


@every_preset
def test_the_parts_of_a_preset_can_work_together(row):
    objective = objective_of(row)
    if row.kl_in == "reward":
        assert row.kl_coef > 0
        assert "token_rewards" in reads(objective.advantage)
    if getattr(objective.loss, "one_advantage", False):
        assert "rewards" in reads(objective.advantage)
    if row.kl_in == "loss" and row.kl_coef > 0:
        assert row.kl_estimator != "k1"  # whose gradient is 0 on average
