"""What a program is in an answer, when printed text and returned values are right, and what comes back of a run."""

import math

import pytest

from groupwise.rewards.programs.encoding import encoded
from groupwise.rewards.programs.extracted import program_in
from groupwise.rewards.programs.judge import _MISSING, _answers, _continued, imports_for
from groupwise.rewards.programs.output import printed_right
from groupwise.rewards.programs.rows import Asserted
from groupwise.rewards.programs.values import Iterated, Other, literal, loaded, same, shown, value_of
from groupwise.sandbox.base import Outcome

F = "```"


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (f"a\n{F}python\nx = 1\n{F}\nb", "x = 1\n"),
        (f"{F}python\nx = 1\n{F}\n{F}python\nx = 2\n{F}", "x = 2\n"),
        (f"{F}python\nx = 1\n{F}\nOutput:\n{F}\n1\n{F}", "x = 1\n"),
        (f"{F}\nx = 1\n{F}", "x = 1\n"),
        (f"{F}py\nx = 1\n{F}\n{F}bash\nls\n{F}", "x = 1\n"),
        (f"{F}Python3 title=a\nx = 1\n{F}", "x = 1\n"),
        (f"<think>{F}python\nx = 1\n{F}</think>\n{F}python\nx = 2\n{F}", "x = 2\n"),
        (f"<think>{F}python\nx = 1\n{F}</think> done", None),
        (f"<think>{F}python\nx = 1\n{F}", None),
        (f"{F}python\nx = 1", "x = 1"),
        (f'{F}python\ns = """{F}"""\n{F}', f's = """{F}"""\n'),
        (f"{F}{F}python\n{F}\nx\n{F}\n{F}{F}", f"{F}\nx\n{F}\n"),
        (f"1. so\n   {F}python\n   if x:\n       y\n   {F}", "if x:\n    y\n"),
        ("~~~python\nx = 1\n~~~", "x = 1\n"),
        (f"{F}javascript\nx\n{F}", None),
        ("no block", None),
        ("", None),
    ],
)
def test_the_program_is_the_last_block_of_python_behind_the_reasoning(text, program):
    assert program_in(text) == program


@pytest.mark.parametrize(
    ("expected", "given", "right"),
    [
        ("5\n", "5", True),
        ("1 2\n3", "1 2 \r\n3\n\n", True),
        ("1 2", "1  2", True),  # both are numbers
        ("a b", "a  b", False),
        ("1\n2", "1 2", False),
        ("YES", "yes", False),
        ("1.0", "1", True),
        ("1", "1.0", True),
        ("0.333333", "0.3333333333", True),
        ("0.3333", "0.3334", False),
        ("1000000", "1000000.4", False),
        ("50000000000000000", "50000000000000001", False),
        ("1e3", "1000", True),
        ("1300", "1_300", False),
        ("5", "٥", False),
        ("nan", "nan", True),
        ("nan", "NaN", False),
        ("1", "1e999", False),
        ("", "", True),
        ("", "x", False),
    ],
)
def test_what_is_printed_is_compared_as_live_code_bench_does(expected, given, right):
    assert printed_right(expected, given, tolerance=1e-6) is right


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, -1, 2**80, -(2**80), 0.1, -0.0, math.inf, "é\n\"'", "\ud800", b"\0\xff", 1 + 2j),
        *([], [1, [2]], (), (1,), {}, {1: "a", "b": [2]}, {(1, 2): {3}}, {1, 2}, frozenset([1]), range(0, 9, 2)),
    ],
)
def test_a_value_comes_through_with_its_types(value):
    back = value_of(loaded(encoded(value)))
    assert (back, type(back)) == (value, type(value))
    assert eval(literal(value)) == value


def test_what_has_no_plain_form_comes_through_as_its_name():
    looped = []
    looped.append(looped)
    assert value_of(loaded(encoded(object()))) == Other("object")
    assert value_of(loaded(encoded(print))) == Other("builtin_function_or_method")
    assert value_of(loaded(encoded(iter([1, 2])))) == Iterated((1, 2))
    assert "too deep" in encoded(looped)
    assert math.isnan(value_of(loaded(encoded(math.nan))))


@pytest.mark.parametrize(
    ("expected", "given", "right"),
    [
        (1, True, False),
        (True, 1, False),
        (0, False, False),
        (1, 1.0, False),
        (1.0, 1, True),
        (0.1 + 0.2, 0.3, True),
        (1.0, math.nan, False),
        (1.0, 10**400, False),
        (None, 0, False),
        ([1, 2], (1, 2), True),
        ([1, 2], [1, True], False),
        ([1], {1}, False),
        ("1", 1, False),
        ({"1": [2]}, {1: [2]}, True),
        ({"1": 2}, {1: 2, "1": 2}, False),
        ({"a": 1}, {"a": True}, False),
        (5, Other("Any"), False),
        ([5], Iterated((5,)), False),
    ],
)
def test_values_of_json_are_compared_strictly(expected, given, right):
    assert same(expected, given, tolerance=1e-6) is right


def answers(*lines: str, count: int = 1):
    return _answers(Outcome("exit", 0, "\n".join([*lines, ""]).encode(), b"", 0.1), count)


def test_answers_of_a_run_count_only_if_each_stands_once():
    begun, ended, five = '{"begun": true}', '{"ended": true}', '{"call": 0, "value": 5}'
    assert answers(begun, five, ended).given == {0: ("", 5)}
    assert "ended itself" in answers(begun, five).fault
    for lines in ((five, five), (five, '{"call": 0, "raised": "E", "text": ""}'), ('{"call": 7, "value": 5}',)):
        assert answers(begun, *lines, ended).given == {}
    assert answers(begun, '{"call": 0, "value": 1, "value": 5}', ended).given == {}
    assert answers(begun, '{"call": 0, "value": 5, "more": 1}', ended).given == {}
    assert answers(begun, '{"call": true, "value": 5}', '{"call": 0, "value": 5}', ended).given == {}
    assert answers(begun, "[" * 100_000, ended).given == {}


HOSTILE = [
    *("[" * 900 + "]" * 900, '{"t": [' * 300 + "]}" * 300, "[" * 50_000, "[0" + ",0" * 3_000_000 + "]"),
    *('{"x": ["Fraction", "1e1000000000"]}', '{"x": ["Decimal", "sNaN"]}', '{"x": ["Decimal", "1e999999999999"]}'),
    *('{"x": ["Fraction", "1/0"]}', '{"x": ["os.system", "id"]}', '{"x": []}', '{"x": "Decimal"}', '{"o": ["A", 5]}'),
    *('{"o": ["A", {"d": [[1, 2]]}]}', '{"d": [1]}', '{"d": [[[], 1]]}', '{"s": [[1]]}', '{"z": [{"d": []}]}'),
    *(
        '{"i": "zz"}',
        '{"i": 5}',
        '{"f": "one"}',
        '{"c": ["1"]}',
        '{"c": 5}',
        '{"b": "zz"}',
        '{"r": []}',
        '{"r": [1, 2, 0]}',
    ),
    *(
        '{"r": [1, 2, 0]}',
        '{"r": ["a"]}',
        '{"?": 5}',
        '{"n": 5}',
        '{"q": 1}',
        '{"t": [1], "l": [2]}',
        "{}",
        "NaN",
        "1e400",
        "9" * 5000,
    ),
    *('{"s": [{"x": ["Decimal", "sNaN"]}]}', '"\\ud800"', '{"i": "' + "f" * 100_000 + '"}', "0.5", "true", ""),
]


@pytest.mark.parametrize("form", HOSTILE, ids=lambda form: form[:30])
def test_whatever_a_program_writes_as_its_value_is_judged_and_raises_nothing(form):
    found = answers('{"begun": true}', f'{{"call": 0, "value": {form}}}', '{"ended": true}').given.get(0)
    if found is not None and found[1] is not _MISSING:
        assert eval(compile(f"lambda: {literal(found[1])}", "", "eval"))
        assert len(shown(found[1])) > 0
        assert not same([5], found[1], tolerance=1e-6)
        assert not same({"5": 5}, {found[1]: 5} if isinstance(found[1], int) else found[1], tolerance=1e-6)


@pytest.mark.parametrize(
    "unit", ["\n", " ", "\t", "`", "```\n", "```python\n", "~~~\n```\n", "    def f", "from ", "<think>"]
)
def test_a_long_answer_of_any_kind_takes_no_long_time(unit):
    text = "```python\n" + unit * 30_000
    program = program_in(text) or ""
    assert imports_for(program) == ""
    assert _continued(program, Asserted(("assert f() == 1",), ("f",), ("def f():\n",), "f")) is not None


def test_usual_names_are_imported_only_if_they_are_mentioned():
    assert (
        imports_for("def f(x: List[int]): return math.inf")
        == "from typing import List; import math; from math import inf\n"
    )
    assert imports_for("x = 1") == ""
    assert imports_for("from __future__ import annotations\nx: List") == ""
