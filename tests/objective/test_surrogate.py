"""The assembled objective: each term with its sign and weight, and what it reports of each token."""

import math
from dataclasses import replace

import pytest
import torch

from groupwise.errors import ConfigError
from groupwise.objective.advantage import group_relative
from groupwise.objective.logprobs import k3, k3_weighted
from groupwise.objective.losses import Denominators, clip, per_token
from groupwise.objective.surrogate import Objective
from tests.close import close
from tests.objective.build import terms as both

PLAIN = Objective(
    advantage=group_relative,
    loss=clip,
    aggregate=per_token,
    kl_estimator=k3,
    parameters={"clip_low": 0.2, "clip_high": 0.3},
)
RATIOS = [1.25, 1.35, 0.9, 0.75, 1.35, 0.75]
ADVANTAGES = torch.tensor([[2.0, 2.0, -2.0, -2.0, -2.0, 2.0]], dtype=torch.float64)


def terms(objective, mask=None, **changes):
    """One output of six tokens with pi = 1/2, pi_ref = 1/4, H = 0.7 and the ratios above."""
    shape = (1, len(RATIOS))
    mask = torch.ones(shape, dtype=torch.bool) if mask is None else mask
    logprobs = torch.full(shape, math.log(1 / 2), dtype=torch.float64)
    arguments = {
        "old_logprobs": logprobs - torch.tensor([RATIOS], dtype=torch.float64).log(),
        "ref_logprobs": torch.full(shape, math.log(1 / 4), dtype=torch.float64),
        "entropies": torch.full(shape, 0.7, dtype=torch.float64),
        "advantages": ADVANTAGES,
        "mask": mask,
        "denominators": Denominators.of(mask, 8),
    }
    return both(objective, logprobs, **(arguments | changes))


# -min(ratio A, clamp A): -2.5, -2.6 (clipped), 1.8, 1.6 (clipped), 2.7, -1.5; sum -0.5, six tokens
CLIP_LOSS = -0.5 / 6
K3 = math.log(2) - 0.5


def test_the_loss_alone():
    close(terms(PLAIN).loss, CLIP_LOSS)


def test_kl_is_added_with_its_weight():
    close(terms(replace(PLAIN, kl_coef=0.04)).loss, CLIP_LOSS + 0.04 * K3)


def test_entropy_is_subtracted_with_its_weight():
    close(terms(replace(PLAIN, entropy_coef=0.01)).loss, CLIP_LOSS - 0.01 * 0.7)


def test_tokens_at_a_binding_bound_are_told_apart():
    found = terms(PLAIN)
    assert found.clipped_high.tolist() == [[False, True, False, False, False, False]]
    assert found.clipped_low.tolist() == [[False, False, False, True, False, False]]


def test_tokens_told_clipped_are_those_without_a_gradient():
    logprobs = torch.full((1, 6), math.log(1 / 2), dtype=torch.float64, requires_grad=True)
    old = logprobs.detach() - torch.tensor([RATIOS], dtype=torch.float64).log()
    mask = torch.ones(1, 6, dtype=torch.bool)
    (gradient,) = torch.autograd.grad(
        clip(logprobs, old, ADVANTAGES, mask, clip_low=0.2, clip_high=0.3).sum(), logprobs
    )
    found = terms(PLAIN)
    assert torch.equal(gradient == 0, found.clipped_low | found.clipped_high)


def test_ratio_and_kl_are_reported_per_token_without_a_gradient():
    found = terms(PLAIN)
    close(found.ratio, [RATIOS])
    close(found.kl, K3)
    assert not found.ratio.requires_grad
    assert not found.kl.requires_grad


def test_outside_the_mask_nothing_is_reported():
    mask = torch.tensor([[False, False, True, False, False, False]])
    found = terms(PLAIN, mask)
    close(found.ratio, [[1, 1, 0.9, 1, 1, 1]])
    close(found.kl, [[0, 0, K3, 0, 0, 0]])
    assert not (found.clipped_low | found.clipped_high).any()
    close(found.loss, 1.8)


def test_without_a_kl_weight_no_reference_is_needed():
    found = terms(PLAIN, ref_logprobs=None, entropies=None)
    close(found.loss, CLIP_LOSS)
    close(found.kl, 0.0)


def test_kl_in_the_reward_is_reported_and_not_in_the_loss():
    in_reward = replace(PLAIN, kl_coef=0.04, kl_in="reward")
    found = terms(in_reward)
    close(found.loss, CLIP_LOSS)
    close(found.kl, K3)
    close(terms(in_reward, ref_logprobs=None).loss, CLIP_LOSS)
    assert [objective.kl_in_loss for objective in (PLAIN, replace(PLAIN, kl_coef=0.04), in_reward)] == [0, 1, 0]


def test_an_estimator_is_given_the_old_policy_if_it_names_it():
    # the first token: ratio 1.25; its k3 weighs as much, the others' by their own ratios
    found = terms(replace(PLAIN, kl_estimator=k3_weighted))
    close(found.kl, torch.tensor([RATIOS], dtype=torch.float64) * K3)


def test_a_weighted_term_without_its_input_is_refused():
    with pytest.raises(ConfigError, match=r"kl_coef = 0\.04"):
        terms(replace(PLAIN, kl_coef=0.04), ref_logprobs=None)
    with pytest.raises(ConfigError, match=r"entropy_coef = 0\.01"):
        terms(replace(PLAIN, entropy_coef=0.01), entropies=None)
