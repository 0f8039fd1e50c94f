"""Examples of questions and their answers as they are."""

import json

import pytest

from groupwise.config import ExamplesConfig, QuestionsConfig
from groupwise.data import Example
from groupwise.datasets.answered import examples
from groupwise.datasets.base import load_questions
from groupwise.datasets.sources import load_apart
from groupwise.errors import ConfigError, DataError
from tests.datasets.reading import read_examples

SECTION = {"source": "words", "params": {"kinds": ["last"]}, "size": 40, "system": "Be brief.", "heldout_size": 10}


def test_an_example_reads_the_question_and_learns_the_answer():
    asked = load_questions(QuestionsConfig(**SECTION), 5)
    found = examples(5, questions=SECTION, completion="It is {answer}.")
    assert [e.messages[:-1] for e in found] == [q.messages for q in asked.train]
    assert [e.messages[-1].content for e in found] == [f"It is {q.answer}." for q in asked.train]
    assert all((e.prompt_messages, e.messages[-1].role) == (2, "assistant") for e in found)
    assert not {e.messages[1] for e in found} & {q.messages[1] for q in asked.heldout}


def test_a_recipe_names_it_as_a_source():
    config = ExamplesConfig(source="answered", params={"questions": SECTION}, size=25, heldout_size=5)
    train, heldout = load_apart(config, seed=0, kind=Example, read=read_examples)
    assert (len(train), len(heldout)) == (20, 5)


def test_a_question_without_an_answer_is_refused(tmp_path):
    (tmp_path / "q.jsonl").write_text(json.dumps({"prompt": "a", "answer": ""}) + "\n")
    with pytest.raises(DataError, match=r"examples.params.questions: question 'q:1' has no answer"):
        examples(0, questions={"source": str(tmp_path / "q.jsonl"), "heldout_size": 0})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"completion": "yes"}, r"examples.params.completion = 'yes': no \{answer\}"),
        ({"size": 31}, "examples.size = 31: .* has 30 training questions"),
        ({"questions": {"source": "wrods"}}, "examples.params.questions.source = 'wrods'.*did you mean 'words'"),
    ],
)
def test_what_cannot_be_meant_is_refused(params, message):
    with pytest.raises(ConfigError, match=message):
        examples(0, **{"questions": SECTION, **params})
