"""Figures and their intervals, against numbers worked by hand."""

from math import isnan

import pytest

from groupwise.train.intervals import bootstrap, majority, pass_at_k, shown, wilson
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
