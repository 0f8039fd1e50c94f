"""Every published row: its names are in the tables, its numbers are the paper's, its first step goes the right way."""

import dataclasses

import pytest
import torch

from groupwise import registry
from groupwise.objective.presets import Preset
from tests.objective.made import batch, loss_and_gradient, objective_of

PRESETS = [registry.load(registry.PRESETS, name) for name in registry.PRESETS]
every_preset = pytest.mark.parametrize("row", PRESETS, ids=list(registry.PRESETS))


@every_preset
def test_a_preset_names_rows_that_are_there_and_its_source(row):
    assert isinstance(row, Preset)
    assert row.advantage in registry.ADVANTAGES
    assert row.loss in registry.LOSSES
    assert row.aggregate in registry.AGGREGATES
    assert row.kl_estimator in registry.KL_ESTIMATORS
    assert "arXiv:" in row.source
    assert row.equation
    assert "\n" not in row.equation
    assert 0 <= row.clip_low < 1
    assert row.clip_high >= 0
    assert row.kl_coef >= 0


@every_preset
def test_a_preset_has_a_finite_loss_and_moves_every_good_token_up(row):
    made = batch()
    made = dataclasses.replace(made, old_logprobs=made.logprobs, ref_logprobs=made.logprobs)
    loss, gradient = loss_and_gradient(objective_of(row), made)
    assert loss.isfinite()
    assert torch.equal(gradient.sign(), torch.where(made.mask, -made.advantages.sign(), 0.0))


def test_the_published_rows_are_as_published():
    grpo, dr_grpo = (registry.load(registry.PRESETS, name) for name in ("grpo", "dr_grpo"))
    assert (grpo.advantage, grpo.loss, grpo.aggregate, grpo.kl_estimator) == (
        "group_relative",
        "clip",
        "per_output",
        "k3",
    )
    assert (grpo.clip_low, grpo.clip_high, grpo.kl_coef, grpo.entropy_coef) == (0.2, 0.2, 0.04, 0.0)
    assert (dr_grpo.advantage, dr_grpo.loss, dr_grpo.aggregate) == ("group_centred", "clip", "fixed_length")
    assert (dr_grpo.clip_low, dr_grpo.clip_high, dr_grpo.kl_coef, dr_grpo.entropy_coef) == (0.2, 0.2, 0.0, 0.0)
