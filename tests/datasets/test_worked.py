"""Arithmetic worked out in words: right in every step, for every question, and never what is held out."""

import random
import re
from collections import Counter

import pytest

from groupwise.config import QuestionsConfig
from groupwise.data import Example
from groupwise.datasets.arithmetic import KINDS
from groupwise.datasets.base import load_questions
from groupwise.datasets.on_paper import REASONING, added, multiplied, taken
from groupwise.datasets.worked import examples
from groupwise.errors import ConfigError
from groupwise.rewards.format import think_answer
from tests.rewards.build import question

SECTION = {"source": "arithmetic", "size": 300, "heldout_size": 60, "template": "{question} Think first: 1, 2, 3."}
# A product or sum with its result, as it stands in the sentences.
EQUATION = re.compile(r"(?<![\d.*+-])(?<![*+-] )(-?\d+(?: [-+*] \d+)+) = (-?\d+)")


def completions(found):
    return [example.messages[-1].content for example in found]


def last_number(text):
    return int(re.findall(r"-?\d+", text)[-1])


def wrong_steps(text):
    return [step for step, result in EQUATION.findall(text) if eval(step) != int(result)]


@pytest.mark.parametrize("negatives", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_reasoning_ends_with_the_answer_and_every_step_is_right(kind, negatives):
    draw = random.Random(0)
    for level in (1, 2):
        for space in KINDS[kind](level, negatives):
            for number in draw.sample(range(space.size), min(space.size, 400)):
                text, answer = space.question(number)
                told = REASONING[kind](draw, text)
                assert last_number(told) == answer, (text, told)
                assert wrong_steps(told) == [], (text, told)


def test_every_way_of_a_step_is_right_for_every_small_number():
    draw = random.Random(1)
    for a in range(100):
        for b in range(100):
            assert last_number(added(draw, a, b)) == a + b
            assert last_number(taken(draw, a, b)) == a - b
            if b < 10:
                assert last_number(multiplied(draw, a, b)) == a * b


def test_the_steps_are_what_one_writes_on_paper():
    draw = random.Random(0)
    told = {added(draw, 47, 38) for _ in range(40)}
    # 7 + 8 = 15; 4 + 3 + 1 = 8; 40 + 30 = 70; 70 + 15 = 85
    carried = (
        "Units first: 7 and 8 make 15, so I write 5 and carry 1. Then the tens: 4 and 3 and 1 make 8. That reads 85."
    )
    columns = "The tens are 40 + 30 = 70. The units are 7 + 8 = 15. Together 70 + 15 = 85."
    assert {carried, columns} < told
    borrowed = "2 is less than 8, so I borrow a ten: 12 - 8 = 4. Then the tens: 7 - 1 - 3 = 3. That reads 34."
    assert borrowed in {taken(draw, 72, 38) for _ in range(20)}


def test_a_wrong_step_would_be_seen():
    assert wrong_steps("I add: 40 + 30 = 80, and 4 * 3 = 12. Then 5 - 2 - 1 = 2, 3 - 9 = 6.") == ["40 + 30", "3 - 9"]


def test_an_example_is_the_question_as_it_is_asked_and_its_answer_in_tags():
    found = examples(2, questions=SECTION)
    asked = load_questions(QuestionsConfig(**SECTION), 2).train
    assert [example.messages[:-1] for example in found] == [q.messages for q in asked]
    assert all(isinstance(example, Example) and example.prompt_messages == 1 for example in found)
    for text, q in zip(completions(found), asked, strict=True):
        assert text.endswith(f"</think> <answer>{q.answer}</answer>")
        assert think_answer(text, question()) == 1


def test_what_a_stage_with_the_section_holds_out_is_in_no_example():
    heldout = load_questions(QuestionsConfig(**SECTION), 2).heldout
    assert len(heldout) == 60
    said = {example.messages[0].content for example in examples(2, questions=SECTION)}
    assert not said & {q.messages[0].content for q in heldout}


def test_plain_ends_with_the_answer_and_has_no_tags():
    for text, tagged in zip(
        completions(examples(0, 50, questions=SECTION, form="plain")),
        completions(examples(0, 50, questions=SECTION)),
        strict=True,
    ):
        reasoning, _, answer = text.rpartition(" The answer is ")
        assert f"<think>{reasoning}</think> <answer>{answer[:-1]}</answer>" == tagged


def test_a_kind_is_put_in_several_ways():
    section = {"source": "arithmetic", "params": {"kinds": ["sum"], "levels": [2]}, "size": 200, "heldout_size": 0}
    shapes = Counter(re.sub(r"\d+", "#", text) for text in completions(examples(0, questions=section)))
    assert len(shapes) > 8
    assert max(shapes.values()) < 100


def test_the_seed_decides_questions_and_words():
    assert examples(1, 20, questions=SECTION) == examples(1, 20, questions=SECTION)
    assert examples(1, 20, questions=SECTION) != examples(2, 20, questions=SECTION)
    assert examples(1, 20, questions=SECTION) == examples(1, questions=SECTION)[:20]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"questions": {"source": "words", "heldout_size": 0}}, "questions.source = 'words': only .* 'arithmetic'"),
        ({"questions": SECTION, "form": "plane"}, "examples.params.form = 'plane'.*did you mean 'plain'"),
        ({"questions": {**SECTION, "size": 0}}, r"examples.params.questions.size = 0"),
        ({"questions": SECTION, "size": 241}, "examples.size = 241: .* has 240 training questions"),
    ],
)
def test_what_cannot_be_meant_is_refused(params, message):
    with pytest.raises(ConfigError, match=message):
        examples(0, **params)
