"""Questions about drawn pictures: what is asked is what the pixels show, and a blank picture shows nothing."""

from collections import Counter
from io import BytesIO

import numpy as np
import pytest

from groupwise.config import QuestionsConfig
from groupwise.datasets.base import load_questions
from groupwise.datasets.drawing import COLOURS, SIDE
from groupwise.datasets.shapes import KINDS, questions
from groupwise.errors import ConfigError

PIL = pytest.importorskip("PIL.Image")


def pixels(question):
    (image,) = question.messages[0].images
    return np.asarray(PIL.open(BytesIO(image.data)))


def shown(question):
    """[48, 48] name of a figure's colour; "" for the ground."""
    names = np.full((SIDE, SIDE), "", dtype="U6")
    for name, colour in COLOURS.items():
        names[(pixels(question) == colour).all(axis=-1)] = name
    return names


def separate(inside):
    """How many figures there are that do not touch along a side."""
    left, found = {tuple(place) for place in np.argwhere(inside).tolist()}, 0
    while left:
        found, waiting = found + 1, [left.pop()]
        while waiting:
            row, column = waiting.pop()
            beside = {(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)} & left
            left -= beside
            waiting += beside
    return found


def test_as_many_squares_are_drawn_as_the_answer_says():
    for question in questions(0, 30, kinds=["count"], levels=[1]):
        assert separate(shown(question) != "") == int(question.answer)
        assert question.text == "<image>How many squares?"


@pytest.mark.parametrize("level", [2, 3])
def test_other_figures_stand_among_the_squares(level):
    made = questions(0, 30, kinds=["count"], levels=[level])
    others = [separate(shown(question) != "") - int(question.answer) for question in made]
    assert min(others) >= 0
    assert max(others) == {2: 4, 3: 8}[level]


def test_the_colour_that_is_asked_for_is_drawn():
    for question in questions(0, 20, kinds=["colour"], levels=[1]):
        assert set(shown(question).flat) == {"", question.answer}
    for question in questions(0, 20, kinds=["colour"], levels=[2, 3]):
        assert question.answer in set(shown(question).flat)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_the_larger_one_covers_more_pixels(level):
    for question in questions(0, 20, kinds=["larger"], levels=[level]):
        covered = Counter(name for name in shown(question).flat if name)
        assert covered.most_common(1)[0][0] == question.answer
        assert set(covered) == {question.answer, *question.meta["wrong"]}
        assert all(name in question.text for name in covered)


def test_a_digit_has_the_same_dots_in_every_picture():
    forms = {}
    for question in questions(0, 60, kinds=["digit"], levels=[1, 2]):
        drawn = shown(question) != ""
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        dot = (rows[-1] + 1 - rows[0]) // 7
        box = drawn[rows[0] : rows[-1] + 1 : dot, columns[0] : columns[-1] + 1 : dot]
        forms.setdefault(question.answer, set()).add(box.tobytes())
    assert sorted(forms) == [str(digit) for digit in range(10)]
    assert all(len(own) == 1 for own in forms.values())
    assert len(set.union(*forms.values())) == 10


def test_a_blank_picture_is_of_one_colour_and_its_question_the_same():
    made, blank = questions(3, 40), questions(3, 40, blank=True)
    strip = [(q.id, q.answer, q.meta, q.text) for q in made]
    assert strip == [(q.id, q.answer, q.meta, q.text) for q in blank]
    for seen, unseen in zip(made, blank, strict=True):
        assert len(np.unique(pixels(unseen).reshape(-1, 3), axis=0)) == 1
        assert pixels(unseen)[0, 0].min() >= 220
        assert not (pixels(seen) == pixels(unseen)).all()
    assert len({q.fingerprint for q in blank}) == 40


def test_answers_are_as_frequent_as_each_other():
    made = Counter((q.meta["kind"], q.answer) for q in questions(0, 800, levels=[1], blank=True) if len(q.answer) == 1)
    assert all(20 <= made["count", str(squares)] <= 62 for squares in range(1, 6))  # 40, deviation 5.7
    assert all(5 <= made["digit", str(digit)] <= 38 for digit in range(10))  # 20, deviation 4.2


def test_the_seed_decides_the_draw_and_no_question_comes_twice():
    made = questions(4, 80, levels=[1, 2, 3])
    assert made == questions(4, 80, levels=[1, 2, 3])
    assert made != questions(5, 80, levels=[1, 2, 3])
    assert len({q.fingerprint for q in made}) == len({q.id for q in made}) == 80
    assert {q.meta["kind"] for q in made} == set(KINDS)
    assert {q.meta["level"] for q in made} == {1, 2, 3}


def test_each_kind_has_its_own_levels():
    made = questions(0, 20, kinds={"digit": [3], "count": [1, 2]})
    assert {(q.meta["kind"], q.meta["level"]) for q in made} == {("digit", 3), ("count", 1), ("count", 2)}


def test_what_is_held_out_is_asked_for_nowhere_else():
    found = load_questions(QuestionsConfig(source="shapes", params={"levels": [1]}, size=60, heldout_size=20), 0)
    assert len(found.heldout) == 20
    assert not {q.fingerprint for q in found.heldout} & {q.fingerprint for q in found.train}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"kinds": ["colours"]}, "no kind 'colours'"),
        ({"levels": [4]}, "no level 4"),
        ({"kinds": {"digit": [0]}}, "no level 0"),
        ({"blank": "no"}, "blank = 'no': not true or false"),
    ],
)
def test_a_wrong_parameter_is_refused(params, said):
    with pytest.raises(ConfigError, match=said):
        questions(0, 10, **params)
