"""Questions of several sources as parts of one, and sections inside params."""

import json
from collections import Counter

import pytest

from groupwise.config import QuestionsConfig
from groupwise.datasets.base import load_questions
from groupwise.datasets.mixture import questions
from groupwise.errors import ConfigError, DataError

SUMS = {"source": "arithmetic", "params": {"kinds": ["sum"]}, "size": 60, "heldout_size": 20}
WORDS = {"source": "words", "params": {"kinds": ["last", "plural"]}, "size": 30, "template": "{question} One word."}
PARTS = {"sums": SUMS, "words": WORDS}


def prints(found):
    return {question.fingerprint for question in found}


def test_a_part_has_the_training_questions_of_its_section_under_its_name():
    made = questions(3, parts=PARTS)
    assert Counter(question.meta["part"] for question in made) == {"sums": 40, "words": 30}  # 60 - 20; none held out
    alone = load_questions(QuestionsConfig(**SUMS), 3)
    assert prints(q for q in made if q.meta["part"] == "sums") == prints(alone.train)
    assert all(q.text.endswith("? One word.") for q in made if q.meta["part"] == "words")


def test_what_a_section_holds_out_elsewhere_is_in_no_part():
    # the second part makes every sum there is, those that the first holds out too
    all_sums = {"source": "arithmetic", "params": {"kinds": ["sum"], "levels": [1]}}
    held = {**all_sums, "heldout_size": 30}
    made = questions(1, parts={"held": held, "all": all_sums})
    alone = load_questions(QuestionsConfig(**held), 1)
    assert not prints(made) & prints(alone.heldout)
    assert Counter(q.meta["part"] for q in made) == {"held": 70, "all": 70}


def test_ids_stay_apart_and_say_the_part():
    made = questions(0, parts={"a": WORDS, "b": WORDS})
    assert len({q.id for q in made}) == len(made) == 60
    assert all(q.id.startswith(f"{q.meta['part']}/") for q in made)


def test_parts_are_mixed_and_the_seed_decides_how():
    made = questions(0, parts=PARTS)
    assert {q.meta["part"] for q in made[:10]} == {"sums", "words"}
    assert made == questions(0, parts=PARTS)
    assert [q.id for q in made] != [q.id for q in questions(1, parts=PARTS)]


def test_size_takes_so_many_of_all():
    assert questions(0, 25, parts=PARTS) == questions(0, parts=PARTS)[:25]
    with pytest.raises(ConfigError, match=r"questions.size = 71: the parts sums, words have 70 questions"):
        questions(0, 71, parts=PARTS)


def test_a_mixture_holds_out_of_its_own_what_it_trains_on_nowhere():
    found = load_questions(QuestionsConfig(source="mixture", params={"parts": PARTS}, heldout_size=15), 0)
    assert (len(found.train), len(found.heldout)) == (55, 15)
    assert not prints(found.train) & prints(found.heldout)
    assert {q.meta["part"] for q in found.heldout} == {"sums", "words"}


def test_a_file_is_a_part(tmp_path):
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"prompt": f"q{n}", "answer": n}) + "\n" for n in range(3)))
    made = questions(0, parts={"mine": {"source": str(tmp_path / "q.jsonl")}})
    assert sorted((q.answer, q.meta["part"]) for q in made) == [(0, "mine"), (1, "mine"), (2, "mine")]


PLACE = r"questions.params.parts.sums"


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("arithmetic", rf"{PLACE} = 'arithmetic': not a section"),
        ({}, rf"{PLACE}.source: missing"),
        ({"source": "arithmetc"}, rf"{PLACE}.source = 'arithmetc'.*did you mean 'arithmetic'"),
        ({"source": "arithmetic", "sizes": 3}, rf"{PLACE}.sizes: unknown key; did you mean 'size'"),
        ({"source": "arithmetic", "size": 0}, rf"{PLACE}.size = 0: input should be greater"),
        ({"source": "arithmetic", "params": {"kind": 1}}, rf"{PLACE}.params.kind = 1: .*did you mean 'kinds'"),
        ({"source": "arithmetic", "params": {"levels": [3]}}, rf"{PLACE}.params.levels = \[3\]: no level 3"),
        ({"source": "arithmetic", "template": "x"}, rf"{PLACE}.template = 'x'.*put {{question}}"),
    ],
)
def test_what_is_wrong_with_a_part_is_told_with_its_place(tree, message):
    with pytest.raises(ConfigError, match=message):
        questions(0, parts={"sums": tree})


def test_what_is_wrong_with_its_data_is_told_with_its_place_too(tmp_path):
    with pytest.raises(DataError, match=rf"{PLACE}.heldout_size = 100, .* none would be left"):
        questions(0, parts={"sums": {**SUMS, "heldout_size": 100}})
    with pytest.raises(DataError, match=rf"{PLACE}: .*no.jsonl"):
        questions(0, parts={"sums": {"source": str(tmp_path / "no.jsonl")}})


@pytest.mark.parametrize("parts", [{}, None, ["sums"]])
def test_a_mixture_of_nothing_is_refused(parts):
    with pytest.raises(ConfigError, match=r"questions.params.parts = .*no parts"):
        questions(0, parts=parts)
