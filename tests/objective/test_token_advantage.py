"""Rewards and advantages of single tokens: worked numbers, and what each is where there is nothing to tell apart."""

import math

import pytest
import torch

from groupwise.errors import DataError
from groupwise.objective.advantage import EPSILON, batch_normalised, group_relative
from groupwise.objective.losses import reinforce
from groupwise.objective.token_advantage import (
    process_supervision,
    return_normalised,
    teacher_gap,
    token_rewards,
    whitened,
)
from tests.close import close

NAN = math.nan
MASK = torch.tensor([[False, True, True, False], [False, True, False, True], [False, True, True, True]])
REWARDS = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)


def table(rows):
    return torch.tensor(rows, dtype=torch.float64)


def drawn(rows):
    return torch.tensor(rows, dtype=torch.bool)


# Two outputs of one question. The first has four tokens and two steps, the second five and three:
STEPS = [[NAN, 1, NAN, 0, NAN], [1, NAN, 1, NAN, 0]]
STEPS_MASK = [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def process(steps, mask=None, group=None):
    steps = table(steps)
    mask = torch.ones(steps.shape, dtype=torch.bool) if mask is None else drawn(mask)
    return process_supervision(steps, torch.zeros(len(steps)) if group is None else torch.tensor(group), mask)


def test_a_token_has_the_normalised_rewards_of_the_steps_that_end_at_or_after_it_by_hand():
    # R = 1, 0, 1, 1, 0: mean 3/5, squares 3 * 4/25 + 2 * 9/25 = 6/5, sample variance 3/10
    scale = math.sqrt(3 / 10) + EPSILON
    good, bad = 0.4 / scale, -0.6 / scale
    first = [good + bad, good + bad, bad, bad, 0]
    second = [2 * good + bad, good + bad, good + bad, bad, bad]
    close(process(STEPS, STEPS_MASK), [first, second])


def test_after_its_last_step_an_output_has_no_advantage():
    # R = 1, 0: mean 1/2, std sqrt(1/2)
    a = 0.5 / (math.sqrt(1 / 2) + EPSILON)
    close(process([[1, NAN, NAN], [NAN, 0, NAN]]), [[a, 0, 0], [-a, -a, 0]])


@pytest.mark.parametrize("value", [1.0, 0.1, -1 / 3])
def test_equal_steps_give_exactly_zero_however_many_there_are(value):
    assert not process([[value, NAN, value], [NAN, value, NAN], [value, value, value]]).any()


def test_one_step_at_the_last_token_of_each_output_is_outcome_supervision():
    at_end = table([[NAN, NAN, 2, NAN], [NAN, NAN, NAN, -1], [NAN, NAN, NAN, 0.5]])
    group = torch.zeros(3)
    close(process_supervision(at_end, group, MASK), group_relative(REWARDS, group, MASK))


def test_steps_are_compared_with_those_of_their_own_question():
    steps = [[1, NAN], [5, NAN], [NAN, 0], [7, 9]]
    alone = torch.cat([process([steps[0], steps[2]]), process([steps[1], steps[3]])])
    close(process(steps, group=[8, 3, 8, 3]), alone[[0, 2, 1, 3]])


def test_an_output_without_steps_is_as_if_it_were_not_there():
    values = process([*STEPS, [NAN] * 5], [*STEPS_MASK, [1] * 5])
    close(values[:2], process(STEPS, STEPS_MASK))
    assert not values[2].any()


def test_a_step_that_ends_where_the_policy_drew_nothing_does_not_count():
    close(
        process([[1, 3, NAN], [NAN, NAN, 0]], [[1, 0, 1], [1, 1, 1]]),
        process([[1, NAN, NAN], [NAN, NAN, 0]], [[1, 0, 1], [1, 1, 1]]),
    )


def test_an_infinite_step_is_refused():
    with pytest.raises(DataError, match="infinite"):
        process([[1, math.inf]])


def test_the_reward_is_earned_by_the_last_token_that_the_policy_drew():
    close(token_rewards(REWARDS, MASK), [[0, 0, 2, 0], [0, 0, 0, -1], [0, 0, 0, 0.5]])
    close(
        token_rewards(REWARDS, drawn([[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0]])),
        [[0, 2, 0, 0], [0] * 4, [0, 0, 0.5, 0]],
    )


def test_the_penalty_is_taken_off_at_each_token_by_hand():
    penalty = table([[9, 0.5, 0.25, NAN], [9, -0.5, 9, 1], [math.inf, 0, 1, 2]])
    close(token_rewards(REWARDS, MASK, penalty), [[0, -0.5, 1.75, 0], [0, 0.5, 0, -2], [0, 0, -1, -1.5]])


def test_an_outputs_token_rewards_add_up_to_its_reward_less_its_penalty():
    penalty = torch.linspace(-1, 2, 12, dtype=torch.float64).view(3, 4)
    close(token_rewards(REWARDS, MASK).sum(1), REWARDS)
    close(token_rewards(REWARDS, MASK, penalty).sum(1), REWARDS - torch.where(MASK, penalty, 0).sum(1))


def test_a_missing_reward_leaves_the_penalty_alone():
    close(token_rewards(table([NAN, 1]), drawn([[1, 1], [1, 1]]), table([[1, 2], [3, 4]])), [[-1, -2], [-3, -3]])


def test_the_returns_are_normalised_over_tokens_by_hand():
    # returns 1, 1, 1 (three tokens) and -1 (one): mean 1/2, squares 3 * 1/4 + 9/4 = 3, sample variance 1
    scale = 1 + EPSILON
    values = return_normalised(table([[0, 0, 1], [-1, NAN, 9]]), drawn([[1, 1, 1], [1, 0, 0]]))
    close(values, [[0.5 / scale] * 3, [-1.5 / scale, 0, 0]])


def test_a_token_answers_for_what_comes_after_it_and_not_before():
    # penalties -1, -2 and the reward 4 at the second: returns 1, 2 and, of the other output, 3; mean 2, variance 1
    scale = 1 + EPSILON
    values = return_normalised(table([[-1, 2], [0, 3]]), drawn([[1, 1], [0, 1]]))
    close(values, [[-1 / scale, 0], [0, 1 / scale]])


def test_without_kl_the_normalised_return_is_the_batchs_baseline_with_each_token_an_output():
    by_token = batch_normalised(
        REWARDS.repeat_interleave(MASK.sum(1)), torch.ones(int(MASK.sum()), 1, dtype=torch.bool)
    )
    close(return_normalised(token_rewards(REWARDS, MASK), MASK)[MASK], by_token[:, 0])


def test_equal_returns_give_exactly_zero():
    assert not return_normalised(token_rewards(table([0.1] * 3), MASK), MASK).any()


def test_whitened_numbers_by_hand():
    # 1, 2, 6 in the mask: mean 3, squares 4 + 1 + 9 = 14, sample variance 7
    scale = math.sqrt(7) + EPSILON
    values = whitened(table([[1, NAN, 2], [9, 6, 9]]), drawn([[1, 0, 1], [0, 1, 0]]))
    close(values, [[-2 / scale, 0, -1 / scale], [0, 3 / scale, 0]])


@pytest.mark.parametrize("value", [0.1, 1e8 + 0.1, -1 / 3])
@pytest.mark.parametrize("size", [0, 1, 3, 7])
def test_equal_numbers_whitened_are_exactly_zero(value, size):
    found = whitened(table([[value] * size + [5]]), drawn([[1] * size + [0]]))
    assert found.tolist() == [[0] * (size + 1)]


def test_whitened_fp32_numbers_far_from_zero_keep_their_digits():
    # 4096 + (0, 1, 2): mean and std in fp64, where the squares of fp32 numbers would step by 2
    close(
        whitened(torch.tensor([[4096.0, 4097.0, 4098.0]]), drawn([[1, 1, 1]])),
        [[-1 / (1 + EPSILON), 0, 1 / (1 + EPSILON)]],
    )


def test_the_gap_is_above_zero_where_the_teacher_holds_the_token_likelier():
    teacher, old = table([[0.5, 0.1, 0.2]]).log(), table([[0.25, 0.4, 0.2]]).log()
    close(teacher_gap(teacher, old, drawn([[1, 1, 1]])), [[math.log(2), -math.log(4), 0]])
    close(teacher_gap(teacher, table([[0.25, NAN, 0.2]]).log(), drawn([[1, 0, 1]])), [[math.log(2), 0, 0]])


def test_the_gap_moves_a_student_down_its_kl_to_the_teacher_in_expectation():
    # E over tokens v of the student of -A_v grad log pi_v = sum pi_v (log pi_v - log teacher_v) grad log pi_v
    student, teacher = table([0.2, 0.5, 0.3]), table([0.4, 0.35, 0.25])
    everything = torch.ones(1, 3, dtype=torch.bool)
    logits = student.log().requires_grad_()
    advantages = teacher_gap(teacher.log()[None], student.log()[None], everything)
    losses = reinforce(logits.log_softmax(-1)[None], student.log()[None], advantages, everything)
    (found,) = torch.autograd.grad((student * losses[0]).sum(), logits)
    log_p = logits.log_softmax(-1)
    (expected,) = torch.autograd.grad((log_p.exp() * (log_p - teacher.log())).sum(), logits)
    assert (found - expected).abs().max() < 1e-10
    assert found[0] < 0 < found[1]  # descent: more of what the teacher has more of
