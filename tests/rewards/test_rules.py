"""Rule rewards beside mathematics: letters, patterns, nearness, schemas, length by rightness, repetition."""

import math

import pytest

from groupwise.errors import RewardError
from groupwise.rewards.adapters import adapt, find
from groupwise.rewards.repetition import repeated
from tests.rewards.build import output, question

OPTIONS = ["Paris", "Rome", "Oslo", "Bern"]
ARC = {"text": OPTIONS, "label": ["A", "B", "C", "D"]}


def part(name, text, asked, tokens=None, **params):
    ids = output(text).tokens if tokens is None else output("").tokens.__class__((len(tokens),), dtype=int)
    if tokens is not None:
        ids[:] = tokens
    [[verdict]] = adapt(find(name), params, name).scorer([(asked, text, ids)], 0)
    return verdict.part


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("B", 1),
        ("(B)", 1),
        ("B. Rome", 1),
        ("<think>A or C?</think> The answer is B.", 1),
        (r"So \boxed{B}", 1),
        ("<answer>B</answer>", 1),
        ("A. is wrong, so the answer is (B)", 1),
        ("A", 0),
        ("A and B", 0),
        ("ABCD", 0),
        ("(A) (B) (C) (D)", 0),
        ("<answer>A, B, C, D</answer>", 0),
        ("<think>B", 0),
        ("A big answer", 0),
        ("the answer is whatever is right", 0),
        ("", 0),
        ("Rome", 0),  # the options are not known
    ],
)
def test_a_choice_is_one_letter(text, right):
    assert part("multiple_choice", text, question("B")).value == right


@pytest.mark.parametrize("gold", ["B", 1, "Rome", "(B) Rome"])
@pytest.mark.parametrize("cell", [OPTIONS, ARC])
def test_a_choice_may_be_the_text_of_an_option(gold, cell):
    asked = question(gold, choices=cell)
    for text, right in (("B", 1), ("The answer is Rome.", 1), ("<answer>rome</answer>", 1), ("Paris", 0), ("E", 0)):
        assert part("multiple_choice", text, asked, options="choices").value == right, text


@pytest.mark.parametrize(("gold", "cell"), [("Lyon", OPTIONS), (4, OPTIONS), (-1, OPTIONS), ("B", None), ("B", ["x"])])
def test_a_right_answer_that_is_no_option_fails(gold, cell):
    assert part("multiple_choice", "B", question(gold, choices=cell), options="choices").state == "failed"
    assert part("multiple_choice", "B", question("Lyon")).state == "failed"


def test_the_last_match_of_a_pattern_is_compared_with_the_answer():
    regex = r"answer = (\w+)"
    for text, right in (("answer = 3, no: answer = 4", 1), ("answer = 4, no: answer = 3", 0), ("4", 0), ("", 0)):
        assert part("captured", text, question("4"), regex=regex).value == right
    assert part("captured", "is Rome", question("ROME"), regex=r"is (?P<city>\w+)", group="city").value == 0
    named = {"regex": r"is (?P<city>\w+)", "group": "city", "ignore_case": True}
    assert part("captured", "is Rome", question("ROME"), **named).value == 1
    assert "no group 1" in part("captured", "4", question("4"), regex=r"\d").detail
    assert "error" in part("captured", "4", question("4"), regex="(").detail


def test_edits_are_counted_against_the_longer_text():
    # kitten -> sitting: 3 edits of 7
    assert part("edit_similarity", "<answer>kitten</answer>", question("sitting")).value == pytest.approx(4 / 7)
    assert part("edit_similarity", "SITTING", question("sitting")).value == 0
    assert part("edit_similarity", "SITTING", question("sitting"), ignore_case=True).value == 1
    assert part("edit_similarity", "x" * 3_000_000, question("sitting")).value == 0
    assert part("edit_similarity", "It is 4", question("4")).value == pytest.approx(1 / 7)
    assert part("edit_similarity", "x", question("")).state == "failed"


SCHEMA = {
    "type": "object",
    "required": ["name", "age"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('{"name": "a", "age": 3}', 1),
        ('Here:\n```json\n{"name": "a", "age": 3}\n```', 1),
        ('<think>{}</think><answer>{"name": "a", "age": 0}</answer>', 1),
        ('{"name": "a", "age": -1}', 0),
        ('{"name": "a", "age": "3"}', 0),
        ('{"name": "a", "age": 3, "x": 1}', 0),
        ('{"name": "a", "age": 3} and more', 0),
        ('{"name": "a", "name": "b", "age": 3}', 0),
        ('{"name": "a", "age": NaN}', 0),
        ("[" * 100_000, 0),
        ("", 0),
    ],
)
def test_json_meets_its_schema_or_does_not(text, right):
    assert part("json_schema", text, question(), schema=SCHEMA).value == right
    import json

    for cell in (SCHEMA, json.dumps(SCHEMA)):
        assert part("json_schema", text, question(form=cell), schema_column="form").value == right


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "params.schema: give that or params.schema_column"),
        ({"schema": {"type": "strnig"}}, "type is no JSON Schema"),
        ({"schema": [1]}, "is no schema"),
        ({"schema": {}, "schema_column": "x"}, "one of the two"),
        ({"shcema": {}}, "did you mean 'schema'?"),
    ],
)
def test_what_is_no_schema_is_refused(params, said):
    with pytest.raises(RewardError, match=said.replace("?", r"\?")):
        adapt(find("json_schema"), params, "json_schema")


def test_a_column_without_a_schema_and_a_distant_reference_fail():
    assert part("json_schema", "{}", question(form="nothing"), schema_column="form").state == "failed"
    assert part("json_schema", "{}", question(), schema={"$ref": "http://127.0.0.1:9/x"}).state == "failed"


@pytest.mark.parametrize(
    ("text", "length", "reward"),
    [
        (r"\boxed{4}", 0, 2.0),
        (r"\boxed{4}", 5, 1.5),  # half of the way: cos(pi/2) = 0
        (r"\boxed{4}", 9, 1 + (1 + math.cos(0.9 * math.pi)) / 2),
        (r"\boxed{4}", 10, -10.0),
        (r"\boxed{5}", 0, -10.0),
        (r"\boxed{5}", 5, -5.0),
        (r"\boxed{5}", 11, -10.0),
    ],
)
def test_a_cosine_leads_from_the_short_reward_to_the_long_one(text, length, reward):
    found = part("cosine_length", text, question("4"), tokens=range(length), max_tokens=10)
    assert found.value == pytest.approx(reward)


def test_a_cosine_reward_with_another_verifier_is_refused_by_name():
    assert "one of math, exact, number" in part("cosine_length", "", question("4"), max_tokens=9, verifier="x").detail


def test_tokens_within_a_repeated_n_gram_are_counted_once():
    # 1 2 3 1 2 3 1: the 2-grams 12, 23, 31 come again from place 3 on
    assert repeated([1, 2, 3, 1, 2, 3, 1], 2) == {3, 4, 5, 6}
    assert repeated([1, 1, 1], 2) == {1, 2}
    assert repeated([1, 2], 3) == set()
    asked, said = question(), [1, 2, 3, 1, 2, 3, 1]
    # tokens: 4; share: 4 of 7; ngrams: 3 of 6 are distinct
    for counted, value in ({}, -2.8), ({"counted": "share"}, -0.4), ({"counted": "ngrams"}, -0.35):
        found = part("repetition", "x", asked, tokens=said, ngram=2, penalty=-0.7, **counted)
        assert found.value == pytest.approx(value)
    assert part("repetition", "x", asked, tokens=[], ngram=2).value == 0
    for wrong in ({"ngram": 0}, {"penalty": 1.0}, {"counted": "words"}):
        assert part("repetition", "x", asked, **wrong).state == "failed"
