"""Long files are kept in a file without a name: the same questions in the same order as in memory."""

import json

import pytest

from groupwise.config import QuestionsConfig
from groupwise.data import Message, Question
from groupwise.datasets import base, files
from groupwise.datasets import stored as kept
from groupwise.datasets.base import batch, load_questions


def _file(tmp_path, count):
    path = tmp_path / "q.jsonl"
    numbers = range(count)
    rows = [{"prompt": f"{number % (count - 5)} + 1?", "answer": str(number), "id": number % 7} for number in numbers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("size", [0, 10, None])
def test_a_long_file_gives_the_questions_that_it_gives_in_memory(tmp_path, monkeypatch, size):
    config = QuestionsConfig(source=_file(tmp_path, 60), heldout_size=size)
    whole = load_questions(config, 3)
    assert isinstance(whole.train, tuple)
    monkeypatch.setattr(base, "kept", lambda items: kept.kept(items, in_memory=20))
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


def test_items_are_kept_as_they_are_and_read_by_their_place():
    items = [Question(str(number), (Message("user", "x" * number),)) for number in range(9)]
    held = kept.kept(iter(items), in_memory=4)
    assert [held[0], held[-1], len(held), list(held)] == [items[0], items[-1], 9, items]
    assert list(kept.chosen(held, kept.np.array([5, 2]), {2: items[8]})) == [items[5], items[8]]
    with pytest.raises(IndexError):
        held[9]
