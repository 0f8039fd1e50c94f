"""The table of docs/verdicts.md, pair by pair; and what no table can hold: hostile answers, golds that are no text."""

import json
import re
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pytest

from groupwise.rewards import answer
from groupwise.rewards.answers import symbolic
from groupwise.rewards.answers.equal import RULES, equal
from groupwise.rewards.answers.read import Several, read
from groupwise.rewards.answers.spelling import chinese_numeral
from groupwise.rewards.answers.units import UNITS, unit
from groupwise.rewards.opening import as_asked
from tests.rewards.build import output, question

PAGE = Path(__file__).parents[2] / "docs" / "verdicts.md"
CELL = re.compile(r"(?<!\\)\|")


class Pair(NamedTuple):
    reward: str
    gold: str
    output: str
    verdict: float
    why: str


def pairs() -> list[Pair]:
    found, reward = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in CELL.split(line)[1:-1]]
        if len(cells) != 4 or cells[0].startswith("---"):
            continue
        if head := re.fullmatch(r"`(\w+)`: gold", cells[0]):
            reward = head[1]
            continue
        gold, output = (re.sub("^`(.*)`$", r"\1", cell).replace("\\|", "|").replace("⏎", "\n") for cell in cells[:2])
        found.append(Pair(reward, gold, output, float(cells[2]), cells[3]))
    return found


def test_every_pair_of_the_page_has_its_verdict():
    wrong = [
        f"{pair.reward}: gold {pair.gold!r}, output {pair.output!r}: {verdict}, but {pair.why}"
        for pair in pairs()
        if (verdict := getattr(answer, pair.reward)(pair.output, question(pair.gold))) != pair.verdict
    ]
    assert not wrong, "\n".join(wrong)


def test_the_page_has_three_hundred_pairs_and_both_verdicts_in_every_table():
    found = pairs()
    assert len(found) >= 300
    assert len({(pair.reward, pair.gold, pair.output) for pair in found}) == len(found)
    assert sum(pair.verdict == 0 for pair in found) > 100


def test_a_right_answer_written_as_itself_is_right():
    own = {(pair.reward, pair.gold) for pair in pairs()}
    for reward, gold in own:
        assert getattr(answer, reward)(f"<answer>{answer.extract(gold)}</answer>", question(gold)) == 1, gold


HOSTILE = [
    *(
        "9^{9^{9^9}}",
        "10^{10^{10}}",
        "1000000000!",
        "1000000!",
        "((9!)!)!",
        "3" + "!" * 900,
        "9^" * 300 + "9",
        "1e999999999",
    ),
    *(
        "(" * 400 + ")" * 400,
        "{" * 450 + "}" * 450,
        r"\frac" * 200,
        r"\frac{" * 150,
        r"\sqrt" * 190 + "2",
        "+-" * 400 + "1",
    ),
    *(
        "1," * 490 + "1",
        "x=" * 400 + "1",
        r"\pm 1" * 180,
        "(1," * 12 + "2" + ")" * 12,
        "x " * 480,
        *("3/4" * 330, "½" * 480, "m/s^2" * 190, "1/0a" * 240, "/1" * 490, "½ " * 480, r"1\div" * 160 + "2"),
        *("A, C " * 190, "A and " * 150 + "B", "A , " * 240),
        "9" * 990,
        "一" * 900,
    ),
    *(
        r"\binom{10000000}{5000000}",
        r"(x+1)^{999999999}",
        r"\sin(9^{9^9})",
        r"\pi^{9^{9^9}}",
        r"x^{x^{x^{x^{x^{x^{x}}}}}}",
    ),
    *(
        r"\sum_{i=1}^{9^{9^9}} i",
        r"\sum_{n=1}^{99999999} \frac{1}{n^n}",
        "5 feet " * 140,
        r"\sqrt[99999999]{2}",
        "0^{0^{0^0}}",
    ),
]
GOLDS = ["42", "x^2+1", "(1,2]", "Alice"]


@pytest.mark.timeout(60)
def test_a_hostile_answer_is_wrong_and_costs_little(monkeypatch):
    monkeypatch.setattr(symbolic, "SECONDS", 0.03)
    symbolic.same(r"\int x dx", r"\int y dy")  # loads math-verify
    for text in HOSTILE:
        started = time.process_time()
        for gold in GOLDS:
            assert answer.math(rf"\boxed{{{text}}}", question(gold)) == 0, (gold, text[:60])
        assert time.process_time() - started < 10  # without the bounds most of these take for ever


def test_long_texts_without_an_answer_are_read_in_little_time():
    for text in (
        "{" * 100_000,
        r"\boxed{" * 50_000,
        "$" * 100_000,
        r"\(" * 50_000,
        "<think>" * 50_000,
        "答案是" * 30_000,
        "1:" * 50_000,
    ):
        assert answer.math(text, question("42")) == 0
        assert answer.exact(text, question("42")) == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the limit may fall into a collection
def test_what_math_verify_takes_too_long_for_is_unequal(monkeypatch):
    monkeypatch.setattr(symbolic, "SECONDS", 0.05)
    nested = r"\frac{d}{dx}" + r"(\sin " * 20 + "x" + ")" * 20
    assert not symbolic.same(r"\int x dx", nested)
    monkeypatch.undo()
    assert symbolic.same(r"\int_0^1 2x\,dx", "1")  # the next answer is not disturbed


def test_a_prompt_that_opens_the_reasoning_leaves_no_answer_in_an_output_that_never_closes_it():
    [asked] = as_asked([question("42")], [replace(output("42"), opening="<think>\n")])
    [begun] = as_asked([question("42")], [replace(output("42"), opening="So the answer is ")])
    for reward in (answer.math, answer.number, answer.exact):
        assert reward("42", question("42")) == reward("42", begun) == 1
        assert reward("42", asked) == 0
        assert reward("41?</think>42", asked) == 1


@pytest.mark.parametrize("gold", [["2"], 2.0, 2, ("2",), "2"])
def test_a_right_answer_that_is_a_number_or_a_list_of_one_is_read(gold):
    for reward in (answer.exact, answer.math, answer.number):
        assert reward("2", question(gold)) == 1
        assert reward("3", question(gold)) == 0


def test_a_right_answer_that_is_true_is_the_word():
    assert answer.exact("True", question(True)) == 1
    assert answer.math("true", question(True)) == 1
    assert answer.exact("0.25", question(0.25)) == 1


@pytest.mark.parametrize(
    "gold", [None, {}, {"value": 2}, [], ["2", "3"], float("nan"), float("inf"), json.loads("[[1, 2]]")]
)
def test_a_right_answer_that_has_no_one_text_is_refused_by_name(gold):
    for reward in (answer.exact, answer.math, answer.number):
        with pytest.raises(ValueError, match="question 'q-1'"):
            reward("2", question(gold))


def test_an_empty_right_answer_is_refused_and_not_right_for_all():
    for gold, where in (("", "whole"), ("  ", "whole"), ("!!!", "end")):
        with pytest.raises(ValueError, match="is empty"):
            answer.exact("anything", question(gold), where=where)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("零", 0),
        ("十", 10),
        ("十五", 15),
        ("二十", 20),
        ("一百零五", 105),
        ("两千零二十五", 2025),
        ("一万二千", 12_000),
        ("三亿", 300_000_000),
        ("二〇二五", 2025),
        ("三点一四", Fraction(157, 50)),
        ("四分之三", Fraction(3, 4)),
        ("负二", -2),
        ("三角形", None),
        ("一样", None),
        ("", None),
    ],
)
def test_chinese_numerals(text, value):
    assert chinese_numeral(text) == value


def test_units_convert_within_their_dimension():
    # 1 km/h is 1000 m / 3600 s; 1 ft^2 is 0.3048^2 m^2; a cubic decimetre is a litre
    assert unit("km/h").size == Fraction(1000, 3600)
    assert unit("square feet") == unit("ft^2") == UNITS["ft2"]
    assert unit("dm^3") == UNITS["L"]
    assert unit("apples") is None
    assert unit("kg^2") is None


def test_each_rule_says_nothing_of_kinds_that_are_not_its_own():
    words, numbers = read("Alice"), Several("", "", ())
    assert not equal(words, numbers)
    assert len({rule.__name__ for rule in RULES}) == len(RULES)
