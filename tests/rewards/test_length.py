"""Rewards for the length of an output."""

import pytest

from groupwise.rewards.length import soft_overlong
from tests.close import close
from tests.rewards.build import parts, question


def test_soft_overlong_falls_from_0_to_minus_1_over_the_cache():
    lengths = [0, 1, 6, 7, 8, 9, 10, 11, 1000]
    # L_max = 10, L_cache = 4: 0 up to 6; (6 - |y|) / 4 from there: -0.25, -0.5, -0.75, -1 at 10; then -1
    expected = [0, 0, 0, -0.25, -0.5, -0.75, -1, -1, -1]
    found = soft_overlong([""] * 9, [[5] * length for length in lengths], max_tokens=10, cache=4)
    assert close(found, expected)


def test_soft_overlong_may_begin_at_the_first_token():
    # L_max = L_cache = 4: -|y| / 4
    assert close(soft_overlong([""] * 3, [[], [1], [1, 2, 3]], max_tokens=4, cache=4), [0, -0.25, -0.75])


def test_soft_overlong_counts_tokens_and_not_characters():
    # three tokens each, whatever the text (tests.rewards.build.output); L_max = 4, L_cache = 2: (2 - 3) / 2
    scored = parts(soft_overlong, ["abc", "x" * 1000], question(), max_tokens=4, cache=2)
    assert [part.value for part in scored] == [-0.5, -0.5]


@pytest.mark.parametrize(("max_tokens", "cache"), [(10, 0), (10, -1), (10, 11), (0, 0), (10, float("nan"))])
def test_soft_overlong_refuses_a_cache_outside_its_limit(max_tokens, cache):
    with pytest.raises(ValueError, match=f"cache = {cache}, max_tokens = {max_tokens}: cache must be within 1 and"):
        soft_overlong([""], [[1]], max_tokens=max_tokens, cache=cache)


def test_soft_overlong_without_its_params_says_so():
    assert "params.cache" in parts(soft_overlong, ["abc"], question(), max_tokens=4)[0].detail
