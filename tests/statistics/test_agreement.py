"""Agreement of two scores: worked numbers, and what does not change them."""

import pytest

from groupwise.statistics.agreement import kappa, pearson, ranks, spearman, within_groups


def test_equal_values_share_the_mean_of_their_ranks():
    assert ranks([10, 20, 20, 5]) == [2.0, 3.5, 3.5, 1.0]


def test_correlations_of_worked_numbers():
    # means 2 and 4; products of deviations 1*2 + 0*-2 + 1*0 = 2; sqrt(2 * 8) = 4
    assert pearson([1, 2, 3], [2, 2, 8]) == pytest.approx(0.8660254)
    assert pearson([1, 2, 3], [6, 4, 2]) == pytest.approx(-1)
    assert spearman([1, 2, 3], [1, 100, 10_000]) == pytest.approx(1)
    assert spearman([1, 2, 2, 3], [1, 3, 2, 4]) == pytest.approx(0.9486833)  # ranks 1 2.5 2.5 4 and 1 3 2 4
    assert pearson([1e300, 2e300, 3e300], [1, 2, 3]) == pytest.approx(1)


def test_a_correlation_with_a_constant_is_none_and_not_0():
    assert pearson([1, 1, 1], [1, 2, 3]) is None
    assert pearson([1], [1]) is None
    assert spearman([], []) is None


def test_kappa_is_agreement_beyond_chance():
    # 3 of 4 equal; chance: 1/2 * 3/4 + 1/2 * 1/4 = 1/2  ->  (3/4 - 1/2) / (1/2)
    assert kappa([1, 1, 0, 0], [1, 1, 1, 0]) == pytest.approx(0.5)
    assert kappa([0, 1], [0, 1]) == 1
    assert kappa([0, 1], [1, 0]) == -1
    assert kappa([1, 1], [1, 1]) is None


def test_what_changes_within_groups():
    # a: 0 1 | 0 1 beside 0 1 | 1 0: one of two groups turns round; c has one member and is not compared
    found = within_groups([0, 1, 0, 1, 5], [0, 1, 1, 0, 5], ["a", "a", "b", "b", "c"])
    assert (found.n, found.sign, found.order) == (2, 0.5, 0.5)
    # 0 0 1 beside 0 0.2 0.3: the mean moves over the second, no pair turns round
    moved = within_groups([0, 0, 1], [0, 0.2, 0.3], "aaa")
    assert (moved.sign, moved.order) == (1, 0)
    flat = within_groups([1, 1], [0, 1], "aa")
    assert (flat.sign, flat.order, flat.signal_first, flat.signal_second) == (0, 0, 0, 1)
