"""Scores from pairs: numbers worked by hand."""

import math
from itertools import pairwise

import pytest

from groupwise.rewards.judging.pairs import PRIOR, bradley_terry, inconsistent, pairs_of, win_rates


def test_all_pairs_or_a_ring_in_which_each_output_is_in_so_many():
    assert pairs_of(3, None) == [(0, 1), (0, 2), (1, 2)]
    assert pairs_of(3, 9) == pairs_of(3, None)
    ring = pairs_of(6, 2)
    assert ring == [(0, 1), (0, 5), (1, 2), (2, 3), (3, 4), (4, 5)]
    assert all(sum(i in pair for pair in pairs_of(8, 4)) == 4 for i in range(8))
    assert pairs_of(1, None) == pairs_of(0, None) == []


def test_win_rates_are_means_over_an_outputs_own_pairs():
    # 0 beats 1, draws with 2; 1 beats 2 in one order of two; 3 was never judged
    assert win_rates(4, {(0, 1): 1.0, (0, 2): 0.5, (1, 2): 0.5}) == [0.75, 0.25, 0.5, None]


def test_strengths_solve_the_likelihoods_equation():
    won = {(0, 1): 1.0, (0, 2): 0.5, (1, 2): 0.75}
    found = bradley_terry(3, won)
    strengths = [score / (1 - score) for score in found]

    def expected(i):  # wins that the strengths expect, those against the average output among them
        games = [(j, share) for (a, b), share in won.items() for j in ((b,) if a == i else (a,) if b == i else ())]
        return sum(strengths[i] / (strengths[i] + strengths[j]) for j, _ in games) + PRIOR * found[i]

    wins = [1.5, 0.75, 0.75]
    assert [expected(i) for i in range(3)] == pytest.approx([w + PRIOR / 2 for w in wins], abs=1e-7)
    assert found[0] > found[1]


def test_one_game_won_has_the_strength_of_its_closed_form():
    # p_0 = 1 / p_1 = p by symmetry: 1 + PRIOR/2 = p^2 / (p^2 + 1) + PRIOR p / (p + 1)
    strong, weak = bradley_terry(2, {(0, 1): 1.0})
    p = strong / (1 - strong)
    assert strong + weak == pytest.approx(1.0)
    assert p * p / (p * p + 1) + PRIOR * p / (p + 1) == pytest.approx(1 + PRIOR / 2, abs=1e-7)


def test_equal_outputs_score_a_half_and_one_without_a_pair_nothing():
    assert bradley_terry(3, {(0, 1): 0.5}) == [pytest.approx(0.5), pytest.approx(0.5), None]
    chain = bradley_terry(30, {(i, i + 1): 1.0 for i in range(29)})
    assert all(a > b for a, b in pairwise(chain))
    assert all(math.isfinite(score) and 0 < score < 1 for score in chain)


def test_a_judge_that_goes_by_the_place_is_inconsistent():
    assert inconsistent([1.0, 0.0, None], [1.0, 1.0, 0.0]) == 0.5
    assert inconsistent([None], [None]) == 0.0
    assert inconsistent([0.9, 0.9, 0.5], [0.6, 0.4, 0.6]) == pytest.approx(2 / 3)  # shares: by the side they fall on
