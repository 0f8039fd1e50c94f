"""What an output falls to, by hand; and the repetition of a text."""

import pytest

from groupwise.config import RejectionConfig
from groupwise.selection.filters import FILTERS, PER_OUTPUT, REASONS, fallen_to
from groupwise.selection.words import ngrams, repetition, words
from tests.close import close
from tests.selection.build import candidate

LOOP = "so we go on so we go on so we go on"  # 12 words, 9 sequences of four, 4 of them distinct


@pytest.mark.parametrize(
    ("output", "settings", "reason"),
    [
        (candidate(), {}, None),
        (candidate(failed=True), {}, "failed"),
        (candidate(finish="length"), {}, "unfinished"),
        (candidate(finish="error"), {}, "unfinished"),
        (candidate(" \n"), {}, "empty"),
        (candidate(tokens=4), {"min_tokens": 5}, "short"),
        (candidate(tokens=5), {"min_tokens": 5, "max_tokens": 5}, None),
        (candidate(tokens=6), {"max_tokens": 5}, "long"),
        (candidate(LOOP), {"max_repetition": 0.5}, "repeats"),
        (candidate(LOOP), {"max_repetition": 0.56}, None),
        (candidate("one two three"), {"max_repetition": 0.0}, None),
        (candidate(LOOP), {}, None),
        (candidate(reward=0.5), {"require": {"number": 0.5}}, None),
        (candidate(reward=0.49), {"require": {"number": 0.5}}, "required"),
        (candidate(rewards={"number": None}), {"require": {"number": 0.0}}, "required"),
        (candidate(rewards={}), {"require": {"number": -1.0}}, "required"),
        (candidate(failed=True, finish="length"), {}, "failed"),  # the first counts
    ],
)
def test_an_output_falls_to_the_first_filter_that_holds(output, settings, reason):
    assert fallen_to(output, RejectionConfig(**settings)) == reason


def test_every_filter_has_its_words_in_its_place():
    assert list(REASONS)[: len(FILTERS)] == list(FILTERS)
    assert list(REASONS)[: len(PER_OUTPUT)] == list(PER_OUTPUT)


def test_repetition_is_one_less_the_distinct_share():
    close(repetition(LOOP), 1 - 4 / 9)
    assert repetition("one two three four") == 0.0
    assert repetition("one two three") == 0.0
    assert repetition("The end. the END! (the end) the end?") == pytest.approx(1 - 2 / 5)


def test_words_keep_numbers_and_operators_and_lose_case_and_punctuation():
    assert words("What is 6 + 7? **It's** (13.5)!") == ["what", "is", "6", "+", "7", "it's", "13.5"]
    assert words("6 - 7 * 2 — so") == ["6", "-", "7", "*", "2", "so"]
    assert words("６＋７は？ 答え") == ["6", "+", "7", "は", "答", "え"]
    assert words("<answer>13</answer> <b>5</b>") == ["<answer>13</answer>", "<b>5</b>"]
    assert ngrams(["a", "b", "c"], 2) == ["a b", "b c"]
    assert ngrams(["a"], 2) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("6+7", "6 + 7"),
        ("12 – 5", "12 - 5"),  # an en dash, as word processors write it
        ("12−5", "12 - 5"),  # a minus sign
        ("x – 5", "x - 5"),
        ("3*4 = 12", "3 * 4=12"),
        ("2**3", "2 ** 3"),
        ("3*-4", "3 * -4"),
        ("3<=5, 3<-5, 5->6", "3 <= 5, 3 < -5, 5 -> 6"),
        ("( 3 + 4 )*2", "(3 + 4) * 2"),
        ("**6 + 7** is *13*", "6 + 7 is 13"),  # Markdown at one number is no product
        ("(kindly) 5 (12) [3]", "kindly 5 12 3"),
        ("about ...5 of 3.14, 1,000.", "about 5 of 3.14 1,000"),  # an ellipsis is no decimal point
        ("well-known", "(well-known)"),
        ("有（12）个", "有 12 个"),
    ],
)
def test_texts_of_the_same_words(one, other):
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(3 + 4) * 2", "3 + (4 * 2)"),
        ("(x + 1) * 2", "x + (1 * 2)"),
        ("((1 + 2) * 3) - 4", "(1 + 2) * (3 - 4)"),
        (".5 + 2", "5 + 2"),
        ("(.5 + 2)", "(5 + 2)"),
        ("2(3)", "2 3"),
        ("6+7", "6-7"),
        ("6+7", "6 7"),
        ("a–b", "a - b"),  # a hyphen
    ],
)
def test_texts_of_other_words(one, other):
    assert words(one) != words(other)
