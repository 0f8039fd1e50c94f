"""Figures and their intervals, against numbers worked by hand."""

from math import isnan

import pytest

from groupwise.statistics.intervals import balanced, bootstrap, calibration, majority, mcnemar, pass_at_k, shown, wilson
from tests.close import close


def test_wilson_of_8_right_of_10():
    # p = 0.8, z = 1.96, z^2 = 3.8415: centre = (0.8 + 0.19207) / 1.38415 = 0.71674
    # half = 1.95996 / 1.38415 * sqrt(0.016 + 0.0096036) = 1.41601 * 0.160012 = 0.22658
    figure = wilson(8, 10)
    assert (figure.value, figure.n) == (0.8, 10)
    assert (round(figure.low, 4), round(figure.high, 4)) == (0.4902, 0.9433)


@pytest.mark.parametrize(("right", "low", "high"), [(0, 0.0, 0.2775), (10, 0.7225, 1.0)])
def test_wilson_stays_between_0_and_1(right, low, high):
    # None right of 10: centre = half = (3.8415 / 20) / 1.38415 = 0.13877, so from 0 to 0.27753; all right mirrors it.
    figure = wilson(right, 10)
    assert 0.0 <= figure.low <= figure.high <= 1.0
    assert (round(figure.low, 4), round(figure.high, 4)) == (low, high)


def test_of_no_questions_every_figure_is_nan():
    for figure in (wilson(0, 0), bootstrap([])):
        assert figure.n == 0
        assert all(isnan(value) for value in figure[:3])


@pytest.mark.parametrize(
    ("right", "n", "k", "expected"),
    [
        (2, 4, 2, 5 / 6),  # 1 of the 6 pairs holds no right answer
        (1, 4, 1, 1 / 4),
        (0, 4, 4, 0.0),
        (3, 4, 2, 1.0),  # one wrong answer cannot fill a pair
    ],
)
def test_pass_at_k_counts_the_subsets_with_a_right_answer(right, n, k, expected):
    assert close(pass_at_k(right, n, k), expected)


def test_the_majority_is_right_or_wrong():
    assert majority(["4", "4", "5"], [True, True, False]) == 1.0
    assert majority(["4", "5", "5"], [True, False, False]) == 0.0


def test_equally_frequent_answers_share_the_vote():
    assert majority(["4", "5"], [True, False]) == 0.5
    assert close(majority(["4", "5", "6"], [True, False, False]), 1 / 3)


def test_an_answer_judged_both_ways_counts_by_its_share_whatever_the_order():
    # "4" twice right and once wrong: 2/3, and "5" not as frequent; with "5" three times, wrong: (2/3 + 0) / 2
    for right in ([True, True, False], [False, True, True]):
        assert close(majority(["4", "4", "4", "5"], [*right, True]), 2 / 3)
        assert close(majority(["4", "4", "4", "5", "5", "5"], [*right, False, False, False]), 1 / 3)


def test_who_says_the_same_of_all_is_right_in_half_of_the_kinds():
    # 1 of 4 liked: who calls all disliked is right 3 times of 4, and balanced 0.5 (0 / 1 + 3 / 3)
    kinds, questions = [True, False, False, False] * 10, [n // 4 for n in range(40)]
    for said in (False, True):
        right = [float(kind == said) for kind in kinds]
        assert balanced(right, kinds, questions) == (0.5, 0.5, 0.5, 40)
    # 9 of 10 liked ones right, of 30 others 15: 0.5 (0.9 + 0.5)
    right = [float(n != 0) if kind else float(n % 2) for n, kind in enumerate(kinds)]
    right[1::4], right[2::4], right[3::4] = [1.0] * 10, [0.0] * 10, [0.5] * 10
    figure = balanced(right, kinds, questions)
    assert close(figure.value, 0.7)
    assert figure.low < 0.7 < figure.high
    assert figure == balanced(right, kinds, questions)


def test_answers_to_one_question_are_drawn_together():
    # two questions, one all right and one all wrong: a resample has 0, 1/2 or 1, and 0 and 1 in a quarter each
    kinds, right = [True, False] * 10, [1.0] * 10 + [0.0] * 10
    assert balanced(right, kinds, [0] * 10 + [1] * 10) == (0.5, 0.0, 1.0, 20)
    assert balanced(right, kinds, range(20)).low > 0.2


def test_of_one_kind_alone_there_is_no_balanced_share():
    assert all(isnan(value) for value in balanced([1.0, 0.0], [True, True], [0, 1])[:3])
    assert balanced([], [], []).n == 0
    # one liked answer in six: every sixth or so resample without it, and none of them a nan
    figure = balanced([1.0] * 6, [True, *[False] * 5], range(6))
    assert figure == (1.0, 1.0, 1.0, 6)


def test_an_empty_answer_has_no_vote():
    assert majority(["", "", "4"], [False, False, True]) == 1.0
    assert majority(["", ""], [False, False]) == 0.0


def test_the_bootstrap_holds_the_mean_and_is_the_same_every_time():
    values = [0.0, 0.25, 0.25, 0.5, 1.0]
    figure = bootstrap(values)
    assert close(figure.value, 0.4)  # 2 / 5
    assert 0.0 <= figure.low < figure.value < figure.high <= 1.0
    assert figure == bootstrap(values)


def test_the_bootstrap_of_equal_values_has_no_width():
    assert bootstrap([0.5] * 4)[:3] == (0.5, 0.5, 0.5)


def test_the_bootstrap_of_shares_is_near_the_normal_interval():
    # 50 of 100: 0.5 +- 1.96 * sqrt(0.25 / 100) = 0.402 to 0.598
    figure = bootstrap([0.0, 1.0] * 50)
    assert abs(figure.low - 0.402) < 0.02
    assert abs(figure.high - 0.598) < 0.02


def test_a_figure_is_shown_with_its_interval_or_as_nothing():
    assert shown(wilson(8, 10)._asdict()) == "80.0% (49.0% to 94.3%)"
    assert shown(wilson(0, 0)._asdict()) == "-"
    assert shown({"value": None, "low": None, "high": None}) == "-"  # as the record gives nan back


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"),
    [
        (0, 0, 1.0),
        (5, 0, 2 / 32),  # 2 * C(5, 0) / 2^5
        (1, 5, 2 * 7 / 64),  # 2 * (1 + 6) / 2^6
        (5, 1, 2 * 7 / 64),
        (3, 3, 1.0),  # 2 * (1 + 6 + 15 + 20) / 64 is more than 1
    ],
)
def test_mcnemars_exact_p_value(only_first, only_second, expected):
    assert close(mcnemar(only_first, only_second), expected)


def test_calibration_is_how_far_what_is_stated_lies_from_what_came_true():
    # five bins from 1/2: 0.55 right (0.45 off), 0.65 wrong (0.65 off), 0.95 twice, both right (0.05 off each)
    found = calibration([0.55, 0.65, 0.95, 0.95], [1, 0, 1, 1], low=0.5, bins=5)
    close(found["value"], (0.45 + 0.65 + 2 * 0.05) / 4)
    assert [b["n"] for b in found["bins"]] == [1, 1, 2]
    close(found["bins"][2]["low"], 0.9)
    close(found["bins"][2]["confidence"], 0.95)


def test_who_is_sure_and_right_or_torn_and_half_right_is_calibrated():
    found = calibration([1.0, 0.99, 0.5], [1, 0.99, 0.5], low=0.5, bins=10)
    close(found["value"], 0.0)
    assert [b["n"] for b in found["bins"]] == [1, 2]  # 1 belongs to the last bin
    # ten bins from 0: 0.25 and 0.05 share none; 0.2 right of (0.25, 0.25, 0.25, 0.25, 0.25) is 0.05 off
    close(calibration([0.25] * 5, [1, 0, 0, 0, 0], low=0.0, bins=10)["value"], 0.05)
