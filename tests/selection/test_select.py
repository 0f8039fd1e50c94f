"""The whole selection: what becomes of every output, counted."""

from collections import Counter

import pytest

from groupwise.config import RejectionConfig
from groupwise.selection.select import select
from tests.selection.build import candidate, question, sampled


def selected(groups, *, seed=0, contaminated=lambda question, answer: False, **settings):
    return select(groups, RejectionConfig(**settings), seed=seed, contaminated=contaminated)


def texts(selection):
    return sorted(kept.candidate.text for kept in selection.kept)


def counts(selection):
    return {reason: count for reason, count in selection.fallen.items() if count}


def of_share(right, number):
    """A question of whose four outputs so many are right."""
    key = f"{right}-{number}"
    outputs = [candidate(f"{key}/{i}", right=i < right, sample=i, question_id=key) for i in range(4)]
    return sampled(question(key, key), *outputs)


def test_every_output_is_kept_or_fell_to_one_reason():
    outputs = [
        candidate("good", sample=0),
        candidate("good ", sample=1),  # the same up to spacing
        candidate("also", sample=2),  # past the cap
        candidate("wrong", right=False, sample=3),
        candidate("long", finish="length", sample=4),
        candidate("leak", sample=5),
    ]
    found = selected([sampled(question(), *outputs)], contaminated=lambda question, answer: answer[0].content == "leak")
    assert texts(found) == ["good"]
    assert counts(found) == {"unfinished": 1, "contaminated": 1, "rule": 1, "same": 1, "cap": 1}


def test_filters_come_before_the_rule():
    outputs = [candidate("one", tokens=1, sample=0), candidate("two", tokens=5, sample=1)]
    assert texts(selected([sampled(question(), *outputs)], keep="shortest_right", min_tokens=2)) == ["two"]


def test_the_cap_and_the_duplicates_are_of_the_question_whatever_its_id():
    twice = [
        sampled(question("7>", "a"), candidate("8", question_id="a")),
        sampled(question(" 7>\n", "b"), candidate("8", question_id="b"), candidate("9", sample=1)),
        sampled(question("9>", "c"), candidate("8", question_id="c")),  # another question may have the same answer
    ]
    found = selected(twice, per_question=2)
    assert texts(found) == ["8", "8", "9"]
    assert counts(found) == {"same": 1}
    assert counts(selected(twice)) == {"same": 1, "cap": 1}


def test_balance_keeps_as_many_of_each_quarter_as_the_scarcest_has():
    # shares 1/4, 2/4 and 4/4 are the quarters 0, 1 and 3; one question is never right, and none is in quarter 2
    groups = [of_share(right, number) for right, n in ((0, 1), (1, 3), (2, 2), (4, 5)) for number in range(n)]
    found = selected(groups, balance=True)
    assert Counter(kept.quarter for kept in found.kept) == {0: 2, 1: 2, 3: 2}
    assert counts(found) == {"rule": 4 + 9 + 4, "cap": 2 + 15, "balance": 1 + 3}
    assert Counter(kept.quarter for kept in selected(groups, balance=True, size=3).kept) == {0: 1, 1: 1, 3: 1}
    assert Counter(kept.quarter for kept in selected(groups).kept) == {0: 3, 1: 2, 3: 5}


def test_what_was_not_judged_has_no_difficulty_and_stays():
    groups = [sampled(question(str(i), str(i)), candidate(str(i), right=None)) for i in range(3)]
    found = selected([*groups, of_share(1, 0), of_share(1, 1), of_share(4, 0)], keep="every", balance=True)
    assert Counter(kept.quarter for kept in found.kept) == {None: 3, 0: 1, 3: 1}


def test_size_is_drawn_by_the_seed_and_not_by_the_order():
    groups = [of_share(4, number) for number in range(12)]
    found = selected(groups, size=5)
    assert len(found.kept) == 5
    assert counts(found) == {"cap": 36, "size": 7}
    assert selected(groups[::-1], size=5).kept == found.kept
    assert texts(selected(groups, size=5, seed=1)) != texts(found)


@pytest.mark.parametrize(("right", "quarter"), [(1, 0), (2, 1), (3, 2), (4, 3)])
def test_the_quarters_of_four_outputs(right, quarter):
    assert [kept.quarter for kept in selected([of_share(right, 0)]).kept] == [quarter]
