"""The questions of an attack: a wrong answer like the right one, the options that a question offers."""

import pytest

from groupwise.audit.attacks import ATTACKS, CONTROLS, honest
from groupwise.audit.cases import cases_of, options_in, sample, wrong_answer
from groupwise.rewards.answer import math
from tests.rewards.build import question


@pytest.mark.parametrize(
    ("gold", "wrong"),
    [
        ("72", "73"),
        ("-7", "-8"),
        ("2.50", "3.50"),
        (r"\frac{3}{4}", r"\frac{3}{5}"),
        ("x^2 + 1", "x^2 + 2"),
        ("B", "C"),
        ("(D)", "(A)"),
        ("Yes", "No"),
        ("FALSE", "TRUE"),
        ("cold", "warm"),
    ],
)
def test_a_wrong_answer_is_of_the_right_ones_kind(gold, wrong):
    assert wrong_answer(gold, ["warm"], options=4) == wrong


def test_the_options_of_a_question_are_its_letters_then_their_texts():
    assert options_in("Which?\nA) Mars\nB) Venus") == ("A", "B", "Mars", "Venus")
    assert options_in("Which? (A) 1 (B) 2 (C) 3") == ("A", "B", "C", "1", "2", "3")
    assert options_in("A. Smith and C. Jones") == ()
    assert options_in("What is 3 + 4?") == ()


def test_the_samples_right_answers_are_right_and_its_wrong_ones_wrong():
    for case in cases_of(sample()):
        assert math(case.gold, case.question) == 1, case.gold
        assert math(case.wrong, case.question) == 0, case.wrong
    assert all(math(case.solution, case.question) == 1 for case in cases_of(sample(numbers=True)))


def test_every_attack_is_a_text_or_has_no_form_for_a_question_whatever_its_answer():
    asked = [question(answer) for answer in ("4", None, 2.0, ["x"], {"rows": [1]}, "", "\ud800", "B")]
    for case in cases_of(asked):
        for name, attack in ATTACKS.items():
            assert isinstance(attack.text(case), str | None), (name, case.gold)
        for form in (*CONTROLS, "worked"):
            assert (honest(case, case.gold, form) is None) <= (case.gold is None or form == "worked")


def test_a_hedged_answer_holds_the_right_one_and_a_blind_one_of_words_does_not():
    [case] = cases_of([question("863")])
    for name, attack in ATTACKS.items():
        text = attack.text(case)
        if attack.kind == "hedged" and name != "a range around it":
            assert "863" in text, name
        if attack.kind == "blind" and text is not None:
            assert "863" not in text, name
