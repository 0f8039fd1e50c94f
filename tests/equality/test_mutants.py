"""The comparisons can fail: each family's own trait, left out or off by one, moves the gradients far over tolerance."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.equality import cases, families, naive
from tests.equality.test_gradients import Case, expected, laid_out, same, update

VISIBLE = 1e-3
"""Relative error of all gradients together, a hundred times what float32 is allowed."""


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 9000.0}}),
        ("llama", {"rms_norm_eps": 1e-2}),
        ("gemma2", {"sliding_window": 6}),
        ("gemma2", {"layer_types": ["full_attention", "sliding_attention"] * 2}),
        ("gemma2", {"attn_logit_softcapping": None}),
        ("gemma2", {"final_logit_softcapping": None}),
        ("gemma2_wide", {"sliding_window": 20}),
        ("gemma2_wide", {"query_pre_attn_scalar": 11}),
        ("gemma3", {"sliding_window": 8}),
        ("gemma3", {"rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                                        "full_attention": {"rope_type": "default", "rope_theta": 100.0}}}),
        ("mistral", {"sliding_window": 7}),
        ("mistral", {"sliding_window": None}),
        ("gpt_neox", {"use_parallel_residual": False}),
        ("gpt_neox", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
    ],
    ids=str,
)  # fmt: skip
def test_a_model_of_another_form_has_other_gradients(family, change):
    config = deepcopy(families.FAMILIES[family])
    for name, value in change.items():
        assert getattr(config, name) != value
        setattr(config, name, value)
    assert error_of(naive.reference_model(config), Case(family)) > VISIBLE


@pytest.mark.parametrize(
    ("family", "weights"),
    [("qwen2", "k_proj.bias"), ("qwen3", "q_norm.weight"), ("olmo2", "k_norm.weight"), ("gpt_neox", "dense.bias")],
)
def test_biases_and_norms_of_heads_matter(family, weights):
    model = naive.reference_model(families.FAMILIES[family])
    changed = [weight for name, weight in model.named_parameters() if name.endswith(weights)]
    assert len(changed) == 2  # one a layer
    with torch.no_grad():
        for weight in changed:
            weight.fill_(float(weight.mean()))
    assert error_of(model, Case(family)) > VISIBLE


def error_of(model: Any, case: Case) -> float:
    """Of all gradients together, where this model is taken for the family's."""
    rollouts = case.rollouts()
    mask = rollouts.output_mask
    found = naive.reference(model, rollouts, mask, sampling=case.sampling, loss=case.settings(mask)["loss"])
    return naive.errors(found.gradients, expected(case, torch.float64).gradients)[""]


@pytest.mark.parametrize("family", [name for name in families.FAMILIES if name != "gemma2_wide"])
def test_places_off_by_one_behind_the_question_are_noticed(family):
    # only distances count in a rotation, so that a shift of every place would be none
    case, policy = Case(family, questions=(9, 9), sizes=(2, 3)), laid_out(family, True)
    rollouts = case.rollouts()

    def shift(module: Any, args: Any, settings: dict[str, Any]) -> Any:
        places = settings["position_ids"]
        return args, settings | {"position_ids": places + (places >= 9)}

    hook = policy.model.get_decoder().register_forward_pre_hook(shift, with_kwargs=True)
    try:
        found = update(policy, rollouts, rollouts.output_mask, case.settings(rollouts.output_mask))
    finally:
        hook.remove()
    assert naive.errors(found.gradients, expected(case, torch.float64).gradients)[""] > VISIBLE


def test_what_the_update_is_told_of_the_loss_matters():
    case = Case("llama")
    rollouts, policy = case.rollouts(), laid_out("llama", True)
    mask = rollouts.output_mask
    right = case.settings(mask)
    assert same(update(policy, rollouts, mask, right), expected(case, torch.float64), 1e-9)
    for wrong in ({"entropy_gradient": False}, {"sampling": replace(cases.PLAIN, temperature=0.99)}):
        with pytest.raises(AssertionError):
            same(update(policy, rollouts, mask, right | wrong), expected(case, torch.float64), 1e-5)
