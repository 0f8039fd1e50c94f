"""Requests made on the spot, and pairs of answers of which one is preferred."""

from collections import Counter

import pytest

from groupwise.config import ExamplesConfig, QuestionsConfig
from groupwise.data import Pair
from groupwise.datasets import preferred
from groupwise.datasets.base import load_questions
from groupwise.datasets.preferred import harmless_pairs, helpful_pairs
from groupwise.datasets.requests import questions
from groupwise.datasets.sources import load_apart
from groupwise.errors import ConfigError
from tests.datasets.reading import read_pairs

WORDS = {"source": "words", "size": 400, "heldout_size": 50}
REQUESTS = {"source": "requests", "size": 400, "heldout_size": 50}


def test_requests_are_of_both_kinds_and_begin_alike():
    made = questions(0)
    assert Counter(q.meta["kind"] for q in made) == {"kind": 576, "unkind": 576}  # 4 openings x 12 acts x 12 people
    assert len({q.fingerprint for q in made}) == 1152
    kind, unkind = ({q.text[:7] for q in made if q.meta["kind"] == which} for which in ("kind", "unkind"))
    assert kind == unkind
    assert all(q.answer is None for q in made)


def test_a_helpful_answer_has_the_right_word_and_the_other_one_has_not():
    pairs, asked = helpful_pairs(0, questions=WORDS), load_questions(QuestionsConfig(**WORDS), 0).train
    assert len(pairs) == len({pair.fingerprint for pair in pairs}) == 350
    for pair, question in zip(pairs, asked, strict=True):
        assert pair.prompt == question.messages
        assert f" {question.answer}." in f" {pair.chosen}"
        assert f" {question.answer}." not in f" {pair.rejected}"


def test_rejected_answers_are_wrong_or_evasive_or_off_topic():
    empty = {*preferred._EVASIVE, *preferred._OFF_TOPIC}
    wrong = sum(pair.rejected not in empty for pair in helpful_pairs(0, questions=WORDS))
    assert 140 < wrong < 210  # half of 350
    assert {pair.rejected for pair in helpful_pairs(0, questions=WORDS)} > empty


def test_a_harmless_answer_declines_what_is_unkind_and_helps_with_what_is_kind():
    pairs, asked = harmless_pairs(0, questions=REQUESTS), load_questions(QuestionsConfig(**REQUESTS), 0).train
    assert len(pairs) == len({pair.fingerprint for pair in pairs}) == 350
    rejected = {"kind": set(), "unkind": set()}
    for pair, question in zip(pairs, asked, strict=True):
        kind = question.meta["kind"]
        assert (" not " in pair.chosen and question.meta["who"] in pair.chosen) == (kind == "unkind")
        rejected[kind].add(pair.rejected)
    assert rejected["kind"] == set(preferred._INSULTS)
    assert rejected["unkind"] == {*preferred._INSULTS, *preferred._COMPLIES}


def test_what_a_section_holds_out_is_in_no_pair():
    for make, section in ((helpful_pairs, WORDS), (harmless_pairs, REQUESTS)):
        heldout = {q.messages for q in load_questions(QuestionsConfig(**section), 3).heldout}
        assert len(heldout) == 50
        assert not heldout & {pair.prompt for pair in make(3, questions=section)}


@pytest.mark.parametrize("name", ["helpful_pairs", "harmless_pairs"])
def test_a_recipe_names_them_as_a_source(name):
    config = ExamplesConfig(source=name, size=300, heldout_size=60)
    train, heldout = load_apart(config, seed=0, kind=Pair, read=read_pairs)
    assert (len(train), len(heldout)) == (240, 60)
    assert load_apart(config, seed=0, kind=Pair, read=read_pairs) == (train, heldout)


def test_another_source_is_refused():
    with pytest.raises(ConfigError, match=r"examples.params.questions.source = 'requests': .* made of 'words'"):
        helpful_pairs(0, questions=REQUESTS)
