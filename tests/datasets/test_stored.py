"""Long files are kept in a file without a name: the same questions and examples in the same order as in memory."""

import base64
import json

import pytest

from groupwise.config import ExamplesConfig, QuestionsConfig
from groupwise.data import Example, Judged, Message, Pair, Question
from groupwise.datasets import files, stored
from groupwise.datasets.base import batch, load_questions
from groupwise.datasets.examples import each_example
from groupwise.datasets.labelled_steps import each_judgement
from groupwise.datasets.pairs import each_judged, each_pair
from groupwise.datasets.sources import load_apart
from tests.drawn import file_of


def _file(tmp_path, count):
    path = tmp_path / "q.jsonl"
    numbers = range(count)
    rows = [{"prompt": f"{number % (count - 5)} + 1?", "answer": str(number), "id": number % 7} for number in numbers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_questions_with_many_bytes_of_pictures_are_kept_in_a_file_too(tmp_path, monkeypatch):
    url = base64.b64encode(file_of(size=(200, 90))).decode()
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"prompt": f"{n}?", "image": url}) + "\n" for n in range(9)))
    config = QuestionsConfig(source=str(tmp_path / "q.jsonl"), heldout_size=2)
    whole = load_questions(config, 3)
    monkeypatch.setattr(stored, "BYTES_IN_MEMORY", 1000)
    monkeypatch.setattr(files, "_bytes", lambda cell: 10**9)
    found = load_questions(config, 3)
    assert (isinstance(whole.train, tuple), isinstance(found.train, tuple)) == (True, False)
    assert (tuple(found.train), found.heldout) == (whole.train, whole.heldout)
    assert found.train[3].messages[0].images[0].data == whole.train[3].messages[0].images[0].data


@pytest.mark.parametrize("size", [0, 10, None])
def test_a_long_file_gives_the_questions_that_it_gives_in_memory(tmp_path, monkeypatch, size):
    config = QuestionsConfig(source=_file(tmp_path, 60), heldout_size=size)
    whole = load_questions(config, 3)
    assert isinstance(whole.train, tuple)
    monkeypatch.setattr(stored, "IN_MEMORY", 20)
    monkeypatch.setattr(files, "KEPT", 20)
    found = load_questions(config, 3)
    assert not isinstance(found.train, tuple)
    assert (tuple(found.train), found.heldout) == (whole.train, whole.heldout)
    assert found.train[-1] == whole.train[-1]
    assert tuple(found.train[3:9:2]) == whole.train[3:9:2]
    asked = [batch(part.train, 4, questions_per_step=8, seed=3) for part in (found, whole)]
    assert asked[0] == asked[1]
    ids = [question.id for question in (*found.train, *found.heldout)]
    assert len(set(ids)) == len(ids)


ROWS = {
    each_example: (Example, {"completion": "a"}),
    each_pair: (Pair, {"chosen": "a", "rejected": "b", "margin": 0.5}),
    each_judged: (Judged, {"completion": "a", "label": True}),
    each_judgement: (object, {"completions": ["a", "b"], "labels": [True, False]}),
}


@pytest.mark.parametrize("read", ROWS)
@pytest.mark.parametrize("own", [True, False])
def test_a_long_file_gives_the_examples_that_it_gives_in_memory(tmp_path, monkeypatch, read, own):
    kind, row = ROWS[read]

    def written(name, numbers):
        rows = [json.dumps({"prompt": f"{number} + 1?", **row}) + "\n" for number in numbers]
        (tmp_path / name).write_text("".join(rows))
        return str(tmp_path / name)

    heldout = {"heldout": written("h.jsonl", range(100, 130))} if own else {"heldout_size": 30}
    config = ExamplesConfig(source=written("e.jsonl", [number % 55 for number in range(60)]), **heldout)
    train, held = load_apart(config, seed=3, kind=kind, read=read)
    monkeypatch.setattr(stored, "IN_MEMORY", 20)
    monkeypatch.setattr(files, "KEPT", 20)
    found = load_apart(config, seed=3, kind=kind, read=read)
    assert isinstance(train, tuple)
    assert not isinstance(found[0], tuple)
    assert (tuple(found[0]), found[1]) == (train, held)
    assert len(held) == 30


def test_items_are_kept_as_they_are_and_read_by_their_place(monkeypatch):
    monkeypatch.setattr(stored, "IN_MEMORY", 4)
    items = [Question(str(number), (Message("user", "x" * number),)) for number in range(9)]
    held = stored.kept(iter(items))
    assert [held[0], held[-1], len(held), list(held)] == [items[0], items[-1], 9, items]
    assert list(stored.chosen(held, stored.np.array([5, 2]), {2: items[8]})) == [items[5], items[8]]
    with pytest.raises(IndexError):
        held[9]
