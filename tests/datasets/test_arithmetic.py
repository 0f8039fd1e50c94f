"""Generated arithmetic: right answers, no question twice, even shares, the same draw for the same seed."""

import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from groupwise.datasets.arithmetic import KINDS, questions
from groupwise.errors import ConfigError


def _answer_from_text(kind, text):
    """The answer worked out from the words alone, by other rules than those that made them."""
    n = [int(number) for number in re.findall(r"\d+", text)]
    match kind:
        case "sum" | "difference" | "product":
            return {"+": n[0] + n[1], "-": n[0] - n[1], "*": n[0] * n[1]}[text.split()[3]]
        case "comparison":
            return sorted(n)[-1]
        case "sequence":
            assert n[1] - n[0] == n[2] - n[1] == n[3] - n[2]
            return n[3] + (n[3] - n[2])
        case "successor":
            return int("1234567890"[int(text[-2])])
    if "packs" in text:
        return n[0] * n[1]
    if "bags" in text:
        return n[0] * n[1] + n[2]
    if "more" in text and "How many more" in text:
        return n[0] - n[1]
    total = n[0]
    for number, before in zip(n[1:], re.split(r"\d+", text)[1:], strict=False):
        total += -number if "gives" in before else number
    return total


@pytest.mark.parametrize("negatives", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_the_one_worked_out_from_its_text(kind, negatives):
    made = questions(3, 100 if kind == "successor" else 140, kinds=[kind], negatives=negatives)
    for question in made:
        assert question.answer == str(_answer_from_text(kind, question.text)), question.text
        assert question.meta["kind"] == kind


def test_the_phrasings_are_plain():
    shown = {q.id: (q.text, q.answer) for q in questions(0, kinds=["sum", "comparison", "successor"], levels=[1])}
    assert shown["sum-1-57"] == ("What is 7 + 5?", "12")  # 57 = 7 + 10 * 5
    assert shown["comparison-1-1"] == ("Which is larger, 0 or 2?", "2")  # pairs 01, 02, ...
    assert shown["successor-1-9"] == ("9>", "0")


@pytest.mark.parametrize("kind", KINDS)
def test_level_is_the_number_of_digits(kind):
    for level in (1, 2):
        for question in questions(1, 10 if kind == "successor" else 50, kinds=[kind], levels=[level]):
            numbers = re.findall(r"\d+", question.text)
            counted = re.search("boxes with|bags with", question.text)  # few boxes come before the many things in them
            assert len(numbers[1 if counted else 0]) == level
            assert question.meta["level"] == level


def test_word_problems_have_one_or_two_steps_and_many_names():
    made = [q.text for q in questions(0, 700, kinds=["word"])]
    assert {len(re.findall(r"\d+", text)) for text in made} == {2, 3}
    assert len({re.sub(r"[A-Z][a-z]+|\d+", "", text) for text in made}) > 50
    assert len({text.split()[0] for text in made}) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_no_question_comes_twice(kind):
    made = questions(5, kinds=[kind])
    assert len({q.fingerprint for q in made}) == len({q.id for q in made}) == len(made)


def test_kinds_and_levels_have_equal_shares():
    # 240 over 6 kinds x 2 levels = 20 each
    counts = Counter((q.meta["kind"], q.meta["level"]) for q in questions(0, 240))
    assert len(counts) == 12
    assert set(counts.values()) == {20}


def test_what_a_small_kind_lacks_the_others_give():
    # one digit: 10 successors, 100 sums; 90 asked for = 45 each, but only 10 successors: 10 and 80
    counts = Counter(q.meta["kind"] for q in questions(0, 90, kinds=["successor", "sum"], levels=[1]))
    assert counts == {"successor": 10, "sum": 80}


def test_kinds_are_mixed_from_the_start():
    assert len({q.meta["kind"] for q in questions(0)[:60]}) == 6


def test_no_difference_is_negative_unless_asked_for():
    usual, asked = (questions(0, kinds=["difference"], negatives=negatives) for negatives in (False, True))
    assert min(int(q.answer) for q in usual) == 0
    assert min(int(q.answer) for q in asked) < -50


def test_without_a_size_a_small_kind_gives_all_it_has():
    # 0>..9> and 00>..99>; pairs of digits a >= b: 10 + 9 + ... + 1 = 55
    assert len(questions(0, kinds=["successor"])) == 110
    assert len(questions(0, kinds=["difference"], levels=[1])) == 55


def test_more_than_there_are_is_refused_with_how_many_there_are():
    with pytest.raises(ConfigError, match=r"questions.size = 11.*10 different"):
        questions(0, 11, kinds=["successor"], levels=[1])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"kinds": ["sums"]}, "'sums'.*did you mean 'sum'"),
        ({"kinds": "sum"}, "not a list of kinds"),
        ({"kinds": []}, "not a list of kinds"),
        ({"kinds": ["sum", "sum"]}, "twice"),
        ({"levels": [3]}, "no level 3"),
        ({"levels": [1.0]}, "no level 1.0"),
        ({"levels": 1}, "not a list of levels"),
        ({"negatives": "no"}, "negatives = 'no'"),
    ],
)
def test_wrong_parameters_are_refused(params, message):
    with pytest.raises(ConfigError, match=message):
        questions(0, 10, **params)


def test_seed_decides_the_draw():
    assert questions(1, 50) == questions(1, 50)
    assert questions(1, 50) != questions(2, 50)


def test_draw_does_not_depend_on_the_hash_seed():
    code = "from groupwise.datasets.arithmetic import questions; print([q.id for q in questions(4, 60)])"
    shown = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert shown == {f"{[q.id for q in questions(4, 60)]}\n".encode()}
