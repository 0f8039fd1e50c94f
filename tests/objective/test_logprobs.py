"""Log-probabilities, the sampling distribution, entropy: worked numbers, and what truncation may not do."""

import math

import pytest
import torch

from groupwise.objective.logprobs import entropy, predictors, sampling_logits, token_logprobs
from tests.close import close

LN2, LN3 = math.log(2), math.log(3)
P = torch.tensor([0.4, 0.1, 0.3, 0.2], dtype=torch.float64)


def probabilities(**settings):
    return sampling_logits(P.log(), **settings).softmax(-1)


def test_the_predictor_of_a_token_is_the_state_before_it():
    states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    assert predictors(states).tolist() == [[[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]]]


def test_the_first_token_of_each_row_is_predicted_by_nothing_not_by_the_row_before():
    assert predictors(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist() == [[0.0, 1.0], [0.0, 3.0]]


def test_token_logprobs_by_hand():
    # logits ln 1, ln 2, ln 3 -> probabilities 1/6, 2/6, 3/6
    logits = torch.tensor([[0.0, LN2, LN3]] * 3, dtype=torch.float64)
    close(token_logprobs(logits, torch.tensor([0, 1, 2])), [-math.log(6), -LN3, -LN2])


def test_logprobs_of_bf16_logits_are_fp32_and_exact_for_them():
    logits = torch.tensor([20.0, 0.0, 10.0])
    narrow = token_logprobs(logits.bfloat16(), torch.tensor(1))
    assert narrow.dtype == torch.float32
    close(narrow, token_logprobs(logits, torch.tensor(1)))


def test_float64_logits_stay_float64():
    assert token_logprobs(P.log(), torch.tensor(0)).dtype == torch.float64
    assert entropy(P.log()).dtype == torch.float64
    assert sampling_logits(P.log(), temperature=0.5).dtype == torch.float64


def test_a_constant_added_to_the_logits_changes_no_logprob():
    tokens = torch.arange(4)
    close(token_logprobs((P.log() + 1e4).expand(4, 4), tokens), P.log() + 0 * P)


def test_entropy_by_hand():
    # uniform over 4: ln 4;  1/2, 1/4, 1/4: 1.5 ln 2;  certain: 0
    rows = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    close(entropy(rows.log()), [2 * LN2, 1.5 * LN2, 0.0])


def test_dropped_tokens_leave_the_gradient_of_the_entropy_finite():
    logits = torch.tensor([0.0, LN3, -math.inf], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(entropy(logits), logits)
    # dH/dz_v = -p_v (ln p_v + H), p = 1/4, 3/4, H = ln 4 - 3/4 ln 3 -> -(1/4)(-3/4 ln 3), -(3/4)(1/4 ln 3)
    close(gradient, [3 / 16 * LN3, -3 / 16 * LN3, 0.0])


def test_temperature_divides_the_logits():
    close(sampling_logits(P.log(), temperature=0.5), 2 * P.log())
    # squares 16, 1, 9, 4 of 30
    close(probabilities(temperature=0.5), torch.tensor([16, 1, 9, 4]) / 30.0)


def test_without_truncation_the_logits_are_left_as_they_are():
    logits = P.log()
    assert torch.equal(sampling_logits(logits), logits)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 2}, [4 / 7, 0, 3 / 7, 0]),
        ({"top_k": 9}, [0.4, 0.1, 0.3, 0.2]),
        ({"top_p": 0.39}, [1, 0, 0, 0]),
        ({"top_p": 0.41}, [4 / 7, 0, 3 / 7, 0]),  # 0.4 is not enough, 0.7 is
        ({"top_p": 0.69}, [4 / 7, 0, 3 / 7, 0]),
        ({"top_p": 0.71}, [4 / 9, 0, 3 / 9, 2 / 9]),
        ({"top_p": 1e-9}, [1, 0, 0, 0]),
        ({"min_p": 0.26}, [4 / 9, 0, 3 / 9, 2 / 9]),  # 0.26 * 0.4 = 0.104
        ({"min_p": 0.76}, [1, 0, 0, 0]),
        ({"top_k": 2, "top_p": 0.55}, [1, 0, 0, 0]),  # of 4/7, 3/7 the first is enough; of 0.4, 0.3 it is not
        ({"temperature": 0.5, "top_p": 0.52}, [1, 0, 0, 0]),  # 16/30 is enough; 0.4 is not
    ],
)
def test_truncation_by_hand(settings, expected):
    close(probabilities(**settings), expected)


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"top_k": 1, "min_p": 0.9}])
def test_the_most_likely_token_is_never_dropped_and_one_is_always_left(settings):
    logits = torch.randn(64, 11, generator=torch.Generator().manual_seed(0))
    kept = sampling_logits(logits, **settings).isfinite()
    assert torch.equal(kept.nonzero()[:, 1], logits.argmax(-1))


def test_equal_logits_are_not_dropped_to_nothing():
    assert sampling_logits(torch.zeros(5), top_p=0.5).isfinite().sum() == 3
    assert sampling_logits(torch.zeros(5), top_k=2).isfinite().sum() == 5


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 0.1}, {"min_p": 0.9}])
def test_kept_tokens_have_a_finite_logprob_and_a_gradient(settings):
    logits = P.log().expand(3, 4).clone().requires_grad_()
    tokens = torch.tensor([0, 1, 3])
    kept = sampling_logits(logits, keep=tokens, **settings)
    # beside the 0.4 that is always left: itself, 0.1, 0.2
    close(token_logprobs(kept, tokens), [0.0, math.log(0.1 / 0.5), math.log(0.2 / 0.6)])
    (gradient,) = torch.autograd.grad(token_logprobs(kept, tokens)[1], logits)
    close(gradient, [[0, 0, 0, 0], [-0.8, 0.8, 0, 0], [0, 0, 0, 0]])


def test_token_logprobs_and_entropy_pass_finite_differences():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: token_logprobs(z, torch.tensor([0, 3, 1])), logits)
    assert torch.autograd.gradcheck(entropy, logits)
    assert torch.autograd.gradcheck(lambda z: entropy(sampling_logits(z, temperature=0.7, top_k=2)), logits)
