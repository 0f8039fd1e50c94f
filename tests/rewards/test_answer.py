"""Rewards for answers: where the final answer is, and when it equals the right one."""

import pytest

from groupwise.data import Message, Question
from groupwise.rewards.answer import boxes, exact, extract, math, number, reasoning_gym
from tests.rewards.build import question


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("just 42 ", "just 42"),
        ("<answer>1</answer> or <answer> 2 </answer> bye", "2"),
        ("<answer>first<answer>second</answer>", "second"),
        (r"<answer>so \boxed{5}</answer>", "5"),
        (r"\boxed{7} <answer>5</answer>", "5"),
        (r"\boxed{1} then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{x = \boxed{3}}", "3"),
        ("48/2=<<48/2=24>>24\n#### 72\n", "72"),
        ("#### Step 1\nThe answer is 3", "#### Step 1\nThe answer is 3"),
        ("<answer>5", "<answer>5"),
        ("</answer>5<answer>", "</answer>5<answer>"),
        ("<answer></answer>", ""),
        ("", ""),
        ("\x00", "\x00"),
        ("<answer>\U0001f600</answer>", "\U0001f600"),
    ],
)
def test_final_answer_is_in_the_tags_then_the_box_then_after_the_hashes(text, answer):
    assert extract(text) == answer


def test_the_calculation_that_a_question_asks_for_is_no_answer_to_it():
    asked = Question("q", (Message("user", "What is $1250 - 387$, exactly?"),), "863")
    for echo in (
        "1250 - 387",
        "1250-387",
        r"\boxed{1250 - 387}",
        "What is $1250 - 387$, exactly?",
        "It is 1250 - 387.",
    ):
        assert math(echo, asked) == 0, echo
    for right in ("863", "1250 - 387 = 863", "What is 1250 - 387? It is 863.", "800 + 63", "1726/2"):
        assert math(right, asked) == 1, right
    larger = Question("q", (Message("user", "Which is larger, 3/4 or 2/3?"),), r"\frac{3}{4}")
    assert math("3/4", larger) == 1  # a fraction is a number, not a calculation
    expanded = Question("q", (Message("user", "Write x^2 - 1 without a power."),), "x^2-1")
    assert math("x^2 - 1", expanded) == 1  # only a number is what a calculation comes to


def test_a_number_that_is_denied_is_found_in_little_time():
    assert number("not 4, " * 3_000, question("4")) == 0
    assert number("It isn't 4", question("4")) == 0
    assert number("first 4, not 5", question("4")) == 1
    assert number("not 3 but 4", question("4"), where="first") == 1


@pytest.mark.timeout(20)
def test_a_megabyte_of_unclosed_marks_is_read_in_one_pass():
    for hostile in ("<answer>" * 130_000, "\\boxed{" * 150_000, "{" * 1_000_000, "}" * 1_000_000, "#" * 1_000_000):
        assert extract(hostile) == hostile
        assert boxes(hostile) == []


@pytest.mark.parametrize(
    ("gold", "text", "score"),
    [
        ("42", "The answer is 42.", 1),
        ("42", r"\boxed{42}", 1),
        (42, r"\boxed{42.0}", 1),
        (r"\frac{1}{2}", "<answer>0.5</answer>", 1),
        ("x^2+2x+1", r"\boxed{(x+1)^2}", 1),
        ("7", r"\boxed{x=7}", 1),
        ("7", r"\boxed{3, 7}", 0),  # the right one among several is not an answer
        ("7", r"7 \boxed{8}", 0),
        ("7", r"<answer>8</answer> 7", 0),
        ("1 000", r"\boxed{0}", 0),  # not 1 times 000
        ("1,000", r"\boxed{1 000}", 1),
        ("5", r"\boxed{\$5}", 1),
        ("72", "She sold 72.\n#### 72", 1),
        ("... \n#### 72", r"\boxed{72}", 1),
        ("Alice", r"\boxed{\text{Alice}}", 1),
        ("Alice", r"\boxed{Alcie}", 0),  # an anagram is not a product
        ("Mary Ann", r"\boxed{\text{Mary Ann}}", 1),
        ("42", "", 0),
        ("42", "\x00\U0001f600</answer><answer>", 0),
        ("42", r"\boxed{" + "(" * 50_000 + ")" * 50_000 + "}", 0),
        ("42", "1 " * 500_000, 0),
    ],
)
@pytest.mark.timeout(20)
def test_math_compares_as_mathematics(gold, text, score):
    assert math(text, question(gold)) == score


@pytest.mark.parametrize("gold", [None, "", "\U0001f600", "1" * 2000])
def test_math_without_a_readable_right_answer_raises(gold):
    for text in ("42", str(gold)):  # whatever the output says
        with pytest.raises(ValueError, match="answer"):
            math(text, question(gold))


def test_exact_compares_letters():
    assert exact("<answer> Paris\n</answer>", question("Paris")) == 1
    assert exact("<answer> Paris</answer>", question("Paris"), strip=False) == 0
    assert exact("paris", question("Paris")) == 0
    assert exact("paris", question("Paris"), ignore_case=True) == 1
    assert exact("It is Paris", question("Paris")) == 0
    assert exact("4", question(4)) == 1


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("The word is 'cat.'", 1),
        ("cat", 1),
        ("<answer>It is a cat!</answer> or a dog", 1),
        ("a cat is it", 0),
        ("a bobcat", 0),
        ("a Cat", 0),
        ("", 0),
    ],
)
def test_exact_at_the_end_wants_the_last_words_alone(text, right):
    assert exact(text, question("cat"), where="end") == right


def test_a_formula_nested_too_deep_to_compare_is_wrong():
    assert math("3/" + "413/" * 499 + "41", question("6")) == 0


def test_exact_at_the_end_takes_every_word_of_the_answer():
    assert exact("Repeated: red - cat.", question("red cat"), where="end") == 1
    assert exact("cat", question("red cat"), where="end") == 0
    assert exact("It is not a dog, it is not cat", question("cat"), where="end") == 0
    assert exact("It isn't cat.", question("cat"), where="end") == 0
    assert exact("It is not red, but cat", question("cat"), where="end") == 1
    assert exact("No, I can't", question("can't"), where="end") == 1
    assert exact("It is a CAT", question("cat"), where="end", ignore_case=True) == 1
    with pytest.raises(ValueError, match="where = 'last': choose from whole, end"):
        exact("cat", question("cat"), where="last")


@pytest.mark.parametrize(
    ("gold", "text", "score"),
    [
        ("1000", "so 1,000", 1),
        ("1,000", "1000.", 1),
        ("-3", "x = -3", 1),
        ("-3", "\N{MINUS SIGN}3", 1),
        ("3", "5-2=3", 1),
        ("2", "10-2", 1),  # a minus between two numbers is no sign
        ("3.5", "3.50", 1),
        ("0.5", "1/2", 1),
        ("0.5", r"\boxed{\frac{1}{2}}", 1),
        ("5", "$5.", 1),
        ("-5", "-$5", 1),
        ("50", "50%", 1),
        ("50%", "50 %", 1),
        ("0.001", "1e-3", 1),
        ("#### 72", "He has 72", 1),
        ("3", "1, 2, 3", 1),
        ("2", "1, 2, 3", 0),
        ("7", "<answer>7</answer> of 9", 1),
        ("7", "<answer>none</answer> 7", 0),
        ("1", "1.0000005", 0),  # a whole number is exact
        ("0.0000001", "0.0000002", 0),  # and small numbers are not equal for being small
        ("0.333333", "1/3", 1),  # half a unit of the last place
        ("3.14", "3.146", 0),
        ("0", "1/0", 0),
        ("0", "no number", 0),
        ("0", "", 0),
        ("1", "9" * 100_000, 0),
        ("4", "-" * 100_000 + " 4", 1),
    ],
)
def test_number_takes_the_last_number(gold, text, score):
    assert number(text, question(gold)) == score


def test_number_where_says_which_number_counts():
    assert number("3 then 4", question("3"), where="first") == 1
    assert number("3 then 4", question("3"), where="last") == 0
    assert number("4", question("4"), where="tag") == 0
    assert number("<answer>is 4</answer>", question("4"), where="tag") == 1
    assert number("4.05", question("4"), tolerance=0.1) == 1
    with pytest.raises(ValueError, match="choose from first, last, tag"):
        number("4", question("4"), where="middle")
    with pytest.raises(ValueError, match="holds no number"):
        number("4", question("four"))


def test_reasoning_gym_asks_the_data_sets_own_scorer():
    gym = pytest.importorskip("reasoning_gym")
    params = {"seed": 1, "size": 2}
    entry = gym.create_dataset("chain_sum", **params)[0]
    made = question(entry["answer"], reasoning_gym={"name": "chain_sum", "params": params, "entry": entry})
    assert reasoning_gym(f"<answer> {entry['answer']}\n</answer>", made) == 1
    assert reasoning_gym("<answer>wrong</answer>", made) == 0
    with pytest.raises(ValueError, match="reasoning_gym"):
        reasoning_gym("4", question("4"))
