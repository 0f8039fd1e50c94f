"""The KL estimators against the exact KL of two categorical distributions: by expectation under pi, in float64."""

import math

import pytest
import torch

from groupwise.objective.logprobs import k1, k2, k3, k3_plus, k3_weighted
from groupwise.objective.surrogate import called
from tests.close import close

PI = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
REF = torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64)
OLD = torch.tensor([0.35, 0.25, 0.4], dtype=torch.float64)
"""A policy of before, which the tokens of later updates were drawn from."""
KL = (PI * (PI / REF).log()).sum()


def expected_gradient(estimator, sampler=PI):
    """E over tokens v drawn from the sampler of the gradient of estimator(v) by the logits of pi."""
    logits = PI.log().requires_grad_()
    values = estimates(estimator, logits.log_softmax(-1), sampler.log())
    return torch.autograd.grad((sampler * values).sum(), logits)[0]


def estimates(estimator, logprobs, old_logprobs):
    return called(estimator, {"logprobs": logprobs, "ref_logprobs": REF.log(), "old_logprobs": old_logprobs})


def exact_gradient(divergence):
    logits = PI.log().requires_grad_()
    return torch.autograd.grad(divergence(logits.log_softmax(-1)), logits)[0]


GRADIENT = exact_gradient(lambda log_p: (log_p.exp() * (log_p - REF.log())).sum())
"""Of KL(pi || ref), by the logits of pi."""


def test_estimators_by_hand():
    # pi = 1/2, ref = 1/4: log pi - log ref = ln 2; k3 = 1/2 + ln 2 - 1
    pi, ref, ln2 = torch.tensor(0.5).double().log(), torch.tensor(0.25).double().log(), math.log(2)
    close(k1(pi, ref), ln2)
    close(k2(pi, ref), ln2**2 / 2)
    close(k3(pi, ref), ln2 - 0.5)
    close(k3_plus(pi, ref), ln2 - 0.5)
    # pi_old = 1/3: the ratio is 3/2
    close(k3_weighted(pi, ref, torch.tensor(1 / 3, dtype=torch.float64).log()), 1.5 * (ln2 - 0.5))


def test_their_slopes_by_hand():
    # k3: 1 - ref/pi = 1/2; k2 and k3_plus: ln 2; k3_weighted: 3/2 (k3 + 1/2) = 3/2 ln 2
    pi, ref, ln2 = torch.tensor(0.5).double().log().requires_grad_(), torch.tensor(0.25).double().log(), math.log(2)
    old = torch.tensor(1 / 3, dtype=torch.float64).log()
    expected = {k1: 1, k2: ln2, k3: 0.5, k3_plus: ln2, k3_weighted: 1.5 * ln2}
    for estimator, slope in expected.items():
        value = called(estimator, {"logprobs": pi, "ref_logprobs": ref, "old_logprobs": old})
        close(torch.autograd.grad(value, pi)[0], slope)


@pytest.mark.parametrize("estimator", [k1, k3, k3_plus, k3_weighted])
def test_all_but_k2_have_the_exact_kl_as_expectation(estimator):
    close((PI * estimates(estimator, PI.log(), PI.log())).sum(), KL)


@pytest.mark.parametrize("estimator", [k2, k3_plus, k3_weighted])
def test_on_policy_their_gradients_have_the_gradient_of_the_kl_as_expectation(estimator):
    assert (expected_gradient(estimator) - GRADIENT).abs().max() < 1e-10


def test_off_policy_the_weighted_one_alone_keeps_value_and_gradient():
    close((OLD * estimates(k3_weighted, PI.log(), OLD.log())).sum(), KL)
    assert (expected_gradient(k3_weighted, OLD) - GRADIENT).abs().max() < 1e-10
    for estimator in (k1, k2, k3, k3_plus):
        assert abs((OLD * estimates(estimator, PI.log(), OLD.log())).sum() - KL) > 0.01
        assert (expected_gradient(estimator, OLD) - GRADIENT).abs().max() > 0.01


def test_the_gradient_of_k3_has_the_gradient_of_the_reverse_kl_as_expectation():
    # E_pi[(1 - ref/pi) grad log pi] = -sum ref grad log pi = grad KL(ref || pi)
    close(expected_gradient(k3), exact_gradient(lambda log_p: -(REF * log_p).sum()))


def test_the_gradient_of_k1_has_expectation_zero():
    close(expected_gradient(k1), torch.zeros(3))


def test_k2_and_k3_are_never_negative_and_zero_only_at_equality():
    for gap in [0.0, 1e-12, 1e-8, 1e-4, 0.1, 1.0, 5.0]:
        for sign in (1, -1):
            for dtype in (torch.float32, torch.float64):
                ref = torch.tensor(-1.0, dtype=dtype)
                assert k2(ref + sign * gap, ref) >= 0
                assert k3(ref + sign * gap, ref) >= 0
    assert k3(torch.tensor(-1.0), torch.tensor(-1.0)) == 0


def test_k3_of_nearly_equal_fp32_logprobs_keeps_its_digits():
    # gap d = 0.001: d^2/2 + d^3/6 = 5.0017e-7; exp(d) - d - 1 in fp32 steps by 1.2e-7
    d = 0.001
    value = float(k3(torch.tensor(-d), torch.tensor(0.0)))
    assert abs(value - (d**2 / 2 + d**3 / 6)) < 1e-9
