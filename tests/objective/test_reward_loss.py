"""Losses of a reward model, worked by hand."""

import pytest
import torch

from groupwise.objective.reward_loss import bradley_terry, centring, step_cross_entropy, two_classes
from tests.close import close

DOUBLE = {"dtype": torch.float64}


def test_a_pairs_loss_falls_with_the_lead_of_the_chosen_answer_over_its_margin():
    chosen, rejected = torch.tensor([1.0, 2.0, 0.0], **DOUBLE), torch.tensor([0.0, 0.0, 1.0], **DOUBLE)
    margin = torch.tensor([0.0, 2.0, 0.5], **DOUBLE)
    # leads 1, 0, -1.5: log(1 + e^-1) = 0.3132617, log 2 = 0.6931472, log(1 + e^1.5) = 1.7014133
    close(bradley_terry(chosen, rejected, margin), [0.31326168751822286, 0.6931471805599453, 1.7014132779827524])


def test_its_slope_is_the_chance_given_to_the_wrong_answer():
    chosen, rejected = torch.tensor([0.5], **DOUBLE).requires_grad_(), torch.tensor([0.0], **DOUBLE).requires_grad_()
    bradley_terry(chosen, rejected, torch.zeros(1, **DOUBLE)).sum().backward()
    # sigmoid(-0.5) = 0.3775407
    close([chosen.grad.item(), rejected.grad.item()], [-0.3775406687981454, 0.3775406687981454])


def test_only_the_centring_sees_where_the_rewards_lie():
    chosen, rejected = torch.tensor([1.0, 11.0], **DOUBLE), torch.tensor([-0.5, 9.5], **DOUBLE)
    losses = bradley_terry(chosen, rejected, torch.zeros(2, **DOUBLE))
    close(losses[0], losses[1])
    close(centring(chosen, rejected), [0.25, 420.25])  # (1 - 0.5)^2, (11 + 9.5)^2


def test_two_steps_by_hand():
    # a right step with logits (0, 1): log(1 + e^-1) = 0.3132617; a wrong one with (2, 2): log 2
    logits = torch.tensor([[0.0, 1.0], [2.0, 2.0]], **DOUBLE)
    close(step_cross_entropy(logits, torch.tensor([True, False])), [0.31326168751822286, 0.6931471805599453])


@pytest.mark.parametrize("score", [-3.0, 0.0, 1.5])
def test_one_label_is_the_right_one_beside_nothing(score):
    # sigmoid(s) = e^s / (e^0 + e^s)
    found = two_classes(torch.tensor([[score]], **DOUBLE)).exp()
    right = 1 / (1 + torch.tensor(-score, **DOUBLE).exp())
    close(found, [[1 - right, right]])


def test_a_sure_mistake_costs_its_logit_and_is_finite():
    close(step_cross_entropy(torch.tensor([[1000.0, 0.0]], **DOUBLE), torch.tensor([True])), [1000.0])
    close(bradley_terry(torch.tensor([-1000.0]), torch.tensor([0.0]), torch.zeros(1)), [1000.0])
