"""Small tasks with words: the answer follows from the text, and what is called wrong is wrong."""

import re
from collections import Counter

import pytest

from groupwise.datasets.words import KINDS, questions
from groupwise.errors import ConfigError

OPPOSITES = {"hot": "cold", "cold": "hot", "buy": "sell", "north": "south"}
PLURALS = {"mouse": "mice", "leaf": "leaves", "box": "boxes", "dog": "dogs"}


def listed(text):
    return text.partition(": ")[2][:-1].split(", ")


def worked_out(kind, text):
    """The answer from the words alone, None if it takes knowledge that is not tried here."""
    final = text.rstrip("?.").split()[-1]
    match kind:
        case "longest":
            return max(listed(text), key=len)
        case "last":
            return listed(text)[-1]
        case "first_letter":
            return final[0]
        case "capitals":
            return re.match(r"Write the word (\w+) in", text)[1].upper()
        case "repeat":
            return text.partition(": ")[2][:-1]
        case "opposite":
            return OPPOSITES.get(final)
        case "plural":
            return PLURALS.get(final)
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_the_one_worked_out_from_its_text(kind):
    made = questions(1, 40, kinds=[kind])
    known = [(q, worked_out(kind, q.text)) for q in made]
    assert [q.answer for q, answer in known if answer] == [answer for _, answer in known if answer]
    assert any(answer for _, answer in known) or kind == "odd_one_out"


def test_the_odd_one_out_is_of_the_group_that_is_asked_for():
    kinds = {"camel": "animal", "red": "colour", "bread": "food"}
    for q in questions(0, 3000, kinds=["odd_one_out"]):
        if q.answer in kinds:
            assert kinds[q.answer] in q.text
    assert Counter(re.search(r"is an? (\w+)", q.text)[1] for q in questions(0, 600, kinds=["odd_one_out"])) == {
        "animal": 200,
        "colour": 200,
        "food": 200,
    }


def test_only_one_word_is_the_longest():
    for q in questions(0, 400, kinds=["longest"]):
        lengths = sorted(map(len, listed(q.text)))
        assert lengths[-1] > lengths[-2] + 1


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_called_wrong_is(kind):
    for q in questions(2, 40, kinds=[kind]):
        assert q.meta["wrong"]
        assert q.answer not in q.meta["wrong"]


def test_no_question_comes_twice_nor_stands_within_another():
    made = questions(0)
    assert len({q.fingerprint for q in made}) == len({q.id for q in made}) == len(made) == 2000
    small = [q.text for q in questions(0, 300)]
    assert not [one for one in small for other in small if one != other and one in other]


def test_kinds_have_equal_shares_as_far_as_they_go():
    # 480 / 8 = 60 each; of plurals there are 40, and the 20 that are missing go to the other seven
    counts = Counter(q.meta["kind"] for q in questions(0, 480))
    assert counts.pop("plural") == 40
    assert set(counts.values()) == {62, 63}


def test_the_seed_decides_the_draw():
    assert questions(1, 50) == questions(1, 50)
    assert questions(1, 50) != questions(2, 50)


def test_more_than_there_are_and_unknown_kinds_are_refused():
    with pytest.raises(ConfigError, match=r"questions.size = 41: the kinds \['plural'\] make 40 different ones"):
        questions(0, 41, kinds=["plural"])
    with pytest.raises(ConfigError, match=r"no kind 'plurals'; did you mean 'plural'"):
        questions(0, 4, kinds=["plurals"])
