"""Losses of preferences on two tokens, worked by hand, and what their papers say of them."""

import math

import pytest
import torch

from groupwise import registry
from groupwise.objective import preference
from groupwise.objective.surrogate import reads
from tests.close import close


def logs(*probabilities):
    return torch.tensor(probabilities, dtype=torch.float64).log()


# Two tokens each. chosen: pi 1/2, 1/2, pi_ref 1/4, 1/2: h = log 2. rejected: pi 1/4, 1/2, pi_ref 1/2, 1/2: h = -log 2.
CHOSEN = (logs(1 / 2, 1 / 2) - logs(1 / 4, 1 / 2)).sum()[None]
REJECTED = (logs(1 / 4, 1 / 2) - logs(1 / 2, 1 / 2)).sum()[None]


def test_dpo_of_two_tokens():
    # m = 1 (log 2 + log 2) = log 4, sigmoid(log 4) = 4/5: -log 4/5
    close(preference.dpo(CHOSEN, REJECTED, 1.0, 0.0), [math.log(5 / 4)])
    # beta 1/2: m = log 2, sigmoid = 2/3
    close(preference.dpo(CHOSEN, REJECTED, 0.5, 0.0), [math.log(3 / 2)])
    # a quarter the wrong way round: 3/4 log 5/4 + 1/4 log 5
    close(preference.dpo(CHOSEN, REJECTED, 1.0, 0.25), [0.75 * math.log(5 / 4) + 0.25 * math.log(5)])


def test_ipo_of_two_tokens_averages_over_each_output():
    # means: log 2 / 2 and -log 2 / 2; beta 1/2 aims at 1: (log 2 - 1)^2
    close(preference.ipo(CHOSEN / 2, REJECTED / 2, 0.5), [(math.log(2) - 1) ** 2])


def test_ipo_is_least_at_its_margin_and_grows_beyond():
    zero = torch.zeros(1, dtype=torch.float64)
    close(preference.ipo(zero + 5, zero, 0.1), [0.0])
    close(preference.ipo(zero + 7, zero, 0.1), [4.0])


def test_kto_of_two_tokens():
    h, liked = torch.cat([CHOSEN, REJECTED]), torch.tensor([True, False])
    z0 = torch.zeros((), dtype=torch.float64)
    # 1 - sigmoid(log 2) = 1/3 on both sides, weighed by 1.5 and 0.3
    close(preference.kto(h, liked, z0, 1.0, 1.5, 0.3), [0.5, 0.1])
    # z0 = log 2: liked 1 - sigmoid(0) = 1/2, disliked 1 - sigmoid(log 4) = 1/5
    close(preference.kto(h, liked, z0 + math.log(2), 1.0, 1.0, 1.0), [0.5, 0.2])
    # both on the wrong side: 2/3
    close(preference.kto(h, ~liked, z0, 1.0, 1.0, 1.0), [2 / 3, 2 / 3])


def test_the_reference_point_is_a_mean_from_0_on_without_gradient():
    h = torch.tensor([0.5, 1.5], dtype=torch.float64, requires_grad=True)
    close(preference.reference_point(h), 1.0)
    close(preference.reference_point(-h), 0.0)
    assert not preference.reference_point(h).requires_grad


def test_agreement_counts_a_tie_half():
    close(preference.agreement(torch.tensor([2.0, 0.0, -0.1])), torch.tensor([1.0, 0.5, 0.0]))


@pytest.mark.parametrize("name", sorted(registry.PREFERENCES))
def test_every_loss_names_known_inputs_and_tells_its_kind(name):
    loss = registry.load(registry.PREFERENCES, name)
    assert set(reads(loss)) <= set(preference.INPUTS)
    assert preference.of_pairs(loss) == (name != "kto")


@pytest.mark.parametrize("name", sorted(registry.PREFERENCES))
def test_every_loss_raises_the_better_and_lowers_the_worse(name):
    loss = registry.load(registry.PREFERENCES, name)
    h = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    liked = torch.tensor([True, False])
    inputs = {
        "log_ratios": h,
        "liked": liked,
        "reference_point": torch.zeros((), dtype=torch.float64),
        "chosen": h[liked],
        "rejected": h[~liked],
        "chosen_mean": h[liked] / 2,
        "rejected_mean": h[~liked] / 2,
        "beta": 0.5,
        "label_smoothing": 0.1,
        "desirable_weight": 1.0,
        "undesirable_weight": 1.0,
    }
    (slope,) = torch.autograd.grad(loss(**{key: inputs[key] for key in reads(loss)}).sum(), h)
    assert slope[0] < 0 < slope[1]


def test_dpo_does_not_overflow_on_a_pair_far_apart():
    far = torch.tensor([1e4], dtype=torch.float32)
    assert preference.dpo(far, -far, 1.0, 0.0).isfinite().all()
    assert preference.dpo(-far, far, 1.0, 0.0).isfinite().all()
