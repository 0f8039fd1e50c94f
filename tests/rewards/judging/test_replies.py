"""A judge's reply read as grades, or refused: nothing in doubt is a number."""

import pytest

from groupwise.rewards.judging.replies import Unreadable, choice, grades, score
from groupwise.rewards.judging.rubric import Rubric

TWO = {"right": {"weight": 3}, "clear": {}}


def rubric(read, criteria=None, low=0, high=10):
    tree = {"prompt": "{output}", "reply": {"read": read, "range": [low, high]}}
    return Rubric.model_validate({**tree, **({"criteria": criteria} if criteria else {})})


@pytest.mark.parametrize(
    ("read", "reply", "found"),
    [
        ("json", '{"score": 7}', 7),
        ("json", 'Thoughts {about} it.\n```json\n{"why": "x", "score": 7.5}\n```', 7.5),
        ("json", '{"score": "7"}', 7),
        ("json", '<think>{"score": 1}</think>{"score": 2}', 2),
        ("json", '{"score": 2} I repeat: {"score": 2.0}', 2),
        ("json", '{"outer": {"score": 9}} {"score": 3}', 3),
        ("tag", "Fine. <score> 10 </score>", 10),
        ("number", "It is good.\n8", 8),
        ("number", "Score: **8** / 10.", 8),
        ("number", "**Grade:** 0", 0),
    ],
)
def test_what_is_a_grade(read, reply, found):
    assert grades(rubric(read), reply) == {"score": found}


@pytest.mark.parametrize(
    ("read", "reply", "why"),
    [
        ("json", "", "it is empty"),
        ("json", "<think>on and on", "cut in its reasoning"),
        ("json", "7", "it holds no score"),
        ("json", '{"Score": 7}', "it holds no score"),
        ("json", '{"score": 7} {"score": 8}', "different grades"),
        ("json", '{"score": 7, "score": 8}', "a key twice"),
        ("json", '{"score": 11}', "score is 11, outside 0 to 10"),
        ("json", '{"score": -1}', "outside"),
        ("json", '{"score": true}', "'True', not a number"),
        ("json", '{"score": null}', "not a number"),
        ("json", '{"score": NaN}', "it holds no score"),
        ("json", '{"score": 1e999}', "not a number"),
        ("json", '{"score": 9' + "9" * 400 + "}", "not a number"),
        ("json", '{"score": "8/10"}', "not a number"),
        ("json", "{" * 90_000, "it holds no score"),
        ("json", '{"a":' * 19_000, "it holds no score"),
        ("json", "x" * 100_001, "100,001 characters"),
        ("tag", "<score>7</score><score>8</score>", "twice"),
        ("tag", "<score>seven</score>", "not a number"),
        ("tag", "<score></score>", "not a number"),
        ("number", "8 or 9", "no number alone"),
        ("number", "8/100", "out of 100, not of 10"),
        ("number", "ten", "no number alone"),
    ],
)
def test_what_is_none(read, reply, why):
    with pytest.raises(Unreadable, match=why):
        grades(rubric(read), reply)


def test_grades_are_weighed_on_their_range():
    # right (5 - 1) / 4 = 1, clear (2 - 1) / 4 = 0.25: (3 * 1 + 1 * 0.25) / 4 = 0.8125
    given = rubric("tag", TWO, low=1, high=5)
    assert score(given, grades(given, "<right>5</right> <clear>2</clear>")) == 0.8125
    with pytest.raises(Unreadable, match="it holds no right and clear"):
        grades(given, "<right>5</right>")


@pytest.mark.parametrize(
    ("reply", "share"), [("<choice>A</choice>", 1), ("x <choice> b </choice>", 0), ("<choice>C</choice>", 0.5)]
)
def test_a_choice(reply, share):
    assert choice(reply) == share


@pytest.mark.parametrize("reply", ["A", "<choice>D</choice>", "<choice>A</choice> or <choice>B</choice>", ""])
def test_no_choice(reply):
    with pytest.raises(Unreadable):
        choice(reply)
