"""Rewards for the form of an output."""

import pytest

from groupwise.data import Message, Question
from groupwise.rewards.format import answer_tag, boxed, pattern, think_answer
from groupwise.rewards.opening import as_asked
from tests.model import build
from tests.rewards.build import question

ASKED = question("4")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<think>a</think><answer>b</answer>", 1),
        ("\n<think>a\nb</think>\n <answer>b</answer>\n", 1),
        ("<think>a</think><answer> </answer>", 0),
        ("<think></think><answer>b</answer>", 0),
        ("so <think>a</think><answer>b</answer>", 0),
        ("<think>a</think> so <answer>b</answer>", 0),
        ("<think>a</think><answer>b</answer> bye", 0),
        ("<answer>b</answer><think>a</think>", 0),
        ("<think>a<think>a</think><answer>b</answer>", 0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0),
        ("<think>a</think><answer>b<answer>c</answer>", 0),
        ("<think>a</think><answer>b", 0),
        ("a</think><answer>b</answer>", 0),
        ("", 0),
        ("\x00", 0),
    ],
)
def test_think_answer_is_the_whole_text_each_tag_once(text, score):
    assert think_answer(text, ASKED) == score


def test_think_answer_may_have_been_opened_by_the_prompt():
    assert think_answer("a</think><answer>b</answer>", ASKED, opened=True) == 1
    assert think_answer("<think>a</think><answer>b</answer>", ASKED, opened=True) == 0


def test_an_output_is_judged_as_if_it_began_with_what_the_prompt_has_said():
    begun, closed = (
        as_asked([ASKED], [build.output([], [], opening=opening)])[0]
        for opening in ("<think>\n", "<think>\n\n</think>\n\n")
    )
    assert think_answer("a</think><answer>b</answer>", begun) == 1
    assert think_answer("<think>a</think><answer>b</answer>", begun) == 0
    assert think_answer("a</think><answer>b</answer>", begun, opened=False) == 0
    assert think_answer("<answer>b</answer>", closed) == 0
    assert pattern("a</think> 4", begun, regex=r"\A<think>.*</think> \d\Z") == 0  # the dot stops at a line's end
    assert pattern("a</think> 4", begun, regex=r"(?s)\A<think>.*</think> \d\Z") == 1
    assert as_asked([ASKED], [build.output([], [])]) == [ASKED]
    prefilled = Question("q", (*ASKED.messages, Message("assistant", "<think>1 + 3")))
    [going_on] = as_asked([prefilled], [build.output([], [], opening="<think>\n")])
    assert think_answer("<think>1 + 3 is 4</think><answer>4</answer>", going_on) == 1


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("so <answer>4</answer>\n", 1),
        ("<answer>4</answer>", 1),
        ("<answer> </answer>", 0),
        ("<answer>4</answer> bye", 0),
        ("<answer>3</answer><answer>4</answer>", 0),
        ("<answer>3<answer>4</answer>", 0),
        ("</answer><answer>4</answer>", 0),
        ("<answer>4", 0),
        ("", 0),
    ],
)
def test_answer_tag_is_one_at_the_end(text, score):
    assert answer_tag(text, ASKED) == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (r"so \boxed{4} it is", 1),
        (r"\boxed{\frac{1}{2}}", 1),
        (r"\boxed{}", 0),
        (r"\boxed{4} \boxed{4}", 0),
        (r"\boxed{\boxed{4}}", 0),
        (r"\boxed{4} \boxed{", 0),
        (r"\boxed{4", 0),
        ("4", 0),
    ],
)
def test_boxed_is_exactly_one(text, score):
    assert boxed(text, ASKED) == score


def test_pattern_is_searched():
    assert pattern("so 42 it is", ASKED, regex=r"\d+") == 1
    assert pattern("so 42 it is", ASKED, regex=r"\A\d+\Z") == 0


@pytest.mark.timeout(20)
def test_a_megabyte_of_tags_is_read_in_one_pass():
    for hostile in ("<think>" * 130_000, "<answer>" * 130_000, "</think>" * 130_000, "\\boxed{" * 150_000):
        assert think_answer(hostile, ASKED) == answer_tag(hostile, ASKED) == boxed(hostile, ASKED) == 0
