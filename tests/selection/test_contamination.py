"""Held-out questions found again: n words in a row, short ones whole, and what is only the wording of a task."""

import pytest

from groupwise.data import Message
from groupwise.selection.contamination import asked, contents, held_out

LONG = "a b c d e f g h"
WORDING = "think step by step and give the answer"


def found(*messages, questions=None, n=5, documents=()):
    return held_out(questions or {"long": LONG}, n=n, documents=documents).question_in(messages)


@pytest.mark.parametrize(
    ("said", "is_there"),
    [
        ("x A b, c! D e y", True),  # five in a row, whatever case and punctuation
        ("a b c d x e f g h", False),  # four, and four
        ("d e f g", False),
        ("d e f g h", True),
    ],
)
def test_n_words_in_a_row_are_too_many(said, is_there):
    assert found(said) == ("long" if is_there else None)


def test_words_in_a_row_do_not_reach_over_two_messages():
    assert found("a b c", "d e f") is None
    assert found("nothing", "c d e f g") == "long"


def test_a_shorter_question_counts_as_a_whole():
    questions = {"sum": "What is 6 + 7?"}
    assert found("First, what is 6 + 7? It is 13.", questions=questions, n=13) == "sum"
    assert found("What is 6 - 7?", questions=questions, n=13) is None
    assert found("What is 6 +", questions=questions, n=13) is None


def test_a_question_of_fewer_than_four_words_must_be_the_whole_message():
    questions = {"why": "Why is it?"}
    assert found("why is it", questions=questions) == "why"
    assert found("I ask why is it so", questions=questions) is None


def test_what_more_than_ten_documents_share_is_the_wording_of_a_task():
    questions = {"q": f"How many eggs? {WORDING}"}
    ten = [[f"question {number} {WORDING}"] for number in range(10)]
    assert found(ten[0][0], questions=questions, documents=ten) == "q"
    eleven = [*ten, [f"question 10 {WORDING}"]]
    assert found(ten[0][0], questions=questions, documents=eleven) is None
    assert found(ten[0][0], questions=questions, documents=[*ten, ten[0]]) == "q"  # the same document counts once


def test_a_whole_question_is_found_whatever_its_wording_shares():
    questions = {"q": f"How many eggs? {WORDING}", "short": "think step by step"}
    many = [[f"How many eggs? {WORDING} {number}"] for number in range(11)]
    assert found(f"please: how many eggs? {WORDING}", questions={"q": questions["q"]}, documents=many) == "q"
    assert found(WORDING, questions=questions, documents=many) == "short"


def test_what_is_asked_is_the_last_user_turn_and_a_system_prompt_is_looked_at_nowhere():
    turns = [Message("system", "s"), Message("user", "u"), Message("assistant", "a"), Message("user", "v")]
    assert asked(turns) == "v"
    assert contents(turns) == ["u", "a", "v"]
    assert asked([Message("system", "s")]) == ""
    assert found("anything", "", questions={"none": ""}) is None


@pytest.mark.parametrize(
    "text",
    [
        "What is $6 + 7$?",
        r"what is \(6+7\)",
        r"What is \[ 6 + 7 \]",
        r"What is $\mathbf{6} + \text{7}$?",
        "<b>What</b> is 6&nbsp;+&nbsp;7?",
        "What\u00a0is\u200b **\uff16 + 7**\uff1f",
        "WHAT IS\n`6 + 7`.",
    ],
)
def test_a_question_is_found_however_it_is_laid_out(text):
    found = held_out({"sum": "What is 6 + 7?"}, n=13, documents=[])
    assert found.question_in([text]) == "sum"
    assert held_out({"sum": text}, n=13, documents=[]).question_in(["What is 6 + 7?"]) == "sum"
    assert found.question_in([text.replace("7", "8").replace("6", "9")]) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"Simplify $\frac{3}{4} \times 8$.", "simplify 3/4 * 8"),
        (r"Simplify $\dfrac12$ of 1{,}000", "Simplify 1/2 of 1000"),
        (r"Solve x^{2} \leq 4", "solve x^2 ≤ 4"),
        (r"What is $\left( 3+4 \right) \cdot 2$", "What is (3 + 4) × 2"),
    ],
)
def test_one_expression_in_two_spellings_is_one_question(one, other):
    assert held_out({"it": one}, n=13, documents=[]).question_in([other]) == "it"
