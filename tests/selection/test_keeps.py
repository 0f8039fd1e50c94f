"""Each rule on four outputs, by hand."""

import pytest

from groupwise import registry
from groupwise.selection.keeps import chosen, reads_scores
from tests.selection.build import candidate

FOUR = [
    candidate("a", right=True, tokens=9, reward=0.5, rewards={"number": 1.0, "tone": 0.1}),
    candidate("b", right=False, tokens=2, reward=0.9, rewards={"number": 0.0, "tone": 0.9}),
    candidate("c", right=True, tokens=4, reward=0.7, rewards={"number": 1.0, "tone": None}),
    candidate("d", right=None, tokens=1, reward=None, rewards={"number": None, "tone": 0.4}),
]


@pytest.mark.parametrize(
    ("keep", "by", "said"),
    [
        ("right", None, "ac"),
        ("shortest_right", None, "ca"),
        ("best", None, "bca"),  # 0.9, 0.7, 0.5; d has no reward
        ("best", "tone", "bda"),  # 0.9, 0.4, 0.1; c has none of that name
        ("best_right", None, "ca"),
        ("best_right", "tone", "a"),
        ("every", None, "abcd"),
    ],
)
def test_a_rule_takes_these_in_this_order(keep, by, said):
    rule = registry.load(registry.KEEPS, keep)
    assert "".join(found.text for found in chosen(rule, FOUR, by=by)) == said


def test_equally_good_or_short_outputs_stay_in_the_order_sampled():
    twins = [candidate("a"), candidate("b"), candidate("c")]
    for keep in registry.KEEPS:
        assert [c.text for c in chosen(registry.load(registry.KEEPS, keep), twins, by=None)] == ["a", "b", "c"], keep


def test_rules_that_go_by_a_reward_are_known():
    found = {keep for keep in registry.KEEPS if reads_scores(registry.load(registry.KEEPS, keep))}
    assert found == {"best", "best_right"}
