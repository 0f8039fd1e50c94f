"""The arithmetic in an output: what is an equation, where it ends, whether it holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.rewards.equations import equations, verified
from tests.rewards.build import parts, question, verdicts

ASKED = question("4")


@pytest.mark.parametrize(
    "text",
    [
        "3 + 4 = 7",
        "3+4-1=6",
        "3 + 4 * 2 = 11",
        "8 / 2 * 4 = 16",
        "2.5 * 4 = 10",
        "0.1 + 0.2 = 0.3",  # exact; in binary floating point it is not
        "1 / 3 = 2 / 6",
        "6 × 7 = 42",
        "6 x 7 = 42",
        "8 ÷ 2 = 4",
        r"6 \times 7 = 42",
        r"8 \div 2 = 4",
        r"6 \cdot 7 = 42",
        "7 − 9 = −2",
        "-2 * 3 = -6",
        "5 - -3 = 8",
        "5 + (-3) = 2",
        "7 = 3 + 4",
        "3 + 4 == 7",
        "$5 + $3 = $8",
        r"\$5 * 2 = \$10",
        "-$5 + $8 = $3",
        "1,000 + 1 = 1,001",
        ".5 + .5 = 1",
    ],
)
def test_a_true_equation_holds_and_ends_with_its_last_digit(text):
    assert list(verified(text)) == [(len(text), True)]
    assert list(verified(f"So {text}, which is it.")) == [(len(text) + 3, True)]


@pytest.mark.parametrize("text", ["3 + 4 = 8", "10 / 3 = 3.33", "1 / 0 = 0", "0 = 1 / 0", "1/0 = 1/0", "-3 + 4 = 7"])
def test_a_false_equation_does_not_hold(text):
    assert list(verified(text)) == [(len(text), False)]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("48/2 = <<48/2=24>>24 clips", ">>24 clips"),
        ("x = 2 + 3 = 5 apples", " apples"),
        ("**3 + 4 = 7** is it", "** is it"),
        ("3 + 4 = **7**.", "**."),
        (r"\(3 + 4 = 7\)", r"\)"),
        (r"$3 + 4 = \boxed{7}$", "}$"),
        ("$3+4$ = $7$", "$"),
        (r"&3 + 4 &= 7 \\", r" \\"),
        ("1) 3 + 4 = 7.", "."),
        ("(3 + 4 = 7)", ")"),
        ("f(2) = 2 * 2 + 3 = 7", ""),
        ("3 + 4 = 7\n- so", "\n- so"),
    ],
)
def test_an_equation_is_found_in_what_surrounds_it(text, ends):
    assert list(verified(text)) == [(len(text) - len(ends), True)]


def test_each_line_and_each_sign_of_equality_is_a_step():
    # 2 + 3 = 5 + 1 is false, 5 + 1 = 6 is true
    assert list(verified("2 + 3 = 5 + 1 = 6")) == [(13, False), (17, True)]
    assert list(verified("- 2 + 2 = 4\n- 3 + 3 = 6")) == [(11, True), (23, True)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = 5",
        "5 = 5",
        "x + 3 = 7",
        "2x + 3 = 7",
        "x * 2 + 3 = 7",
        "y - 2 + 3 = 5",
        "2(3 + 4) = 14",
        "(2 + 3) * 4 = 20",
        "(2 + 3) * 4 + 1 = 21",
        "2 + 3(4) + 1 = 15",
        "2^2 + 1 = 5",
        "x^2 + 1 = 5",
        "x**2 + 1 = 5",
        "x ** 2 + 1 = 5",
        "4² + 1 = 17",
        "3 + 4² = 19",
        "5 + 3 = 8 ** 1",
        "5 + 3 = 8x",
        "5 + 3 = 8 + x",
        "5 + 115 = 5!",
        "5 / 20 = 25%",
        "20% of 50 + 1 = 11",
        "half of 10 + 2 = 7",
        "sqrt(16) + 1 = 5",
        r"\frac{1}{2} + 1 = 1.5",
        "3,5 + 4 = 7,5",
        "1.2.3 + 1 = 2",
        "1 1/2 + 1 = 2.5",
        "1 + 2 + ... + 9 + 10 = 55",
        "10 / 3 = 3.33...",
        "3 * 4 = 2 (mod 5)",
        "17 / 5 = 3 remainder 2",
        "17 / 5 = 3 remainder of 2",
        "17 ÷ 5 = 3 R2",
        "17 / 5 = 3 r. 2",
        "17 / 5 = 3 with 2 left",
        "10 / 3 = 3 1/3",
        "10 / 4 = 2 and 1/2",
        "12:30 + 15 = 12:45",
        "5 * 200 = 1 thousand",
        "3 cm + 4 cm = 7 cm",
        "3 + 4 != 8",
        "3 + 4 => 8",
        "3 + 4 <= 8",
        "3\n+ 4\n= 7",
        "= 1 + 1",
        "1 + 1 =",
        "1" * 300 + " + 1 = 2",
    ],
)
def test_what_cannot_be_read_for_certain_is_no_step(text):
    assert list(verified(text)) == []
    assert list(verified(f"So {text}")) == []


def test_score_is_the_share_that_holds_and_each_is_a_step():
    text = "1 + 1 = 2, 2 + 2 = 5, 3 + 3 = 6, 4 + 4 = 8."
    #       0        9          20         31         42;  3 of 4 hold
    assert equations(text, ASKED) == {"score": 0.75, "steps": [[9, 1.0], [20, 0.0], [31, 1.0], [42, 1.0]]}
    assert equations(text, ASKED, wrong=-0.5)["steps"][1] == [20, -0.5]
    (verdict,) = verdicts(equations, [text], ASKED, wrong=-1)
    assert (verdict.part.value, verdict.steps) == (0.75, ((9, 1.0), (20, -1.0), (31, 1.0), (42, 1.0)))


def test_to_write_no_equation_scores_as_to_write_a_wrong_one():
    assert equations("I do not know.", ASKED) == {"score": 0.0, "steps": []}
    assert equations("2 + 2 = 5", ASKED)["score"] == 0.0


@pytest.mark.parametrize("wrong", [1, 1.5, float("nan"), float("-inf"), float("inf")])
def test_a_wrong_equation_may_not_earn_what_a_right_one_does(wrong):
    for text in ("", "1 + 1 = 3"):  # a run that cannot work is found before its first wrong equation
        detail = parts(equations, [text], ASKED, wrong=wrong)[0].detail
        assert f"wrong = {wrong}: give a number below 1" in detail


@given(st.lists(st.tuples(st.sampled_from("+-*"), st.integers(-99, 99)), min_size=1, max_size=6), st.integers(0, 3))
def test_what_holds_is_what_python_says(terms, off):
    side = "7" + "".join(f" {operator} {number}" for operator, number in terms)
    value = eval(side) + off
    assert list(verified(f"{side} = {value}")) == [(len(side) + 3 + len(str(value)), off == 0)]


@given(st.text(alphabet="12 .,=+-*/()$%x\\\n\ud800🙂{}^!<>", max_size=80))
def test_any_text_is_read_and_every_end_is_within_it(text):
    ends = [end for end, _ in verified(text)]
    assert ends == sorted(set(ends))
    assert all(1 <= end <= len(text) for end in ends)


@pytest.mark.timeout(20)
def test_a_long_text_of_nearly_equations_is_read_in_one_pass():
    repeated = ("1 ", "1+", "1=", "=", "(1)", "1,111", "$-", "(", "1.1", "**", "x ", "1 x ", "\\times", "a 1+1=", "\n")
    for hostile in (part * (250_000 // len(part)) for part in repeated):
        assert list(verified(hostile)) == []
