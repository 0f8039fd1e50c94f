"""What is held out of examples: whole prompts, whatever the kind of example."""

import json

import pytest

from groupwise.config import ExamplesConfig
from groupwise.data import Example, Judged, Message, Pair, Stepped
from groupwise.datasets.sources import load_apart, set_aside
from groupwise.errors import DataError
from tests.datasets.reading import read_examples, read_judged


def user(text):
    return (Message("user", text),)


def judged(prompt, answer):
    return Judged(f"{prompt}{answer}", user(prompt), answer, liked=True)


MAKERS = {
    "pair": lambda prompt, answer: Pair("", user(prompt), answer, "no"),
    "judged": judged,
    "steps": lambda prompt, answer: Stepped("", user(prompt), (answer,), (True,)),
    "example": lambda prompt, answer: Example("", (*user(prompt), Message("assistant", answer)), prompt_messages=1),
}


def asked(examples):
    return {example.asked for example in examples}


@pytest.mark.parametrize("kind", MAKERS)
def test_no_prompt_is_held_out_and_learned_from(kind):
    rows = [MAKERS[kind](f"{number % 10}", f"answer {number}") for number in range(40)]  # 10 prompts, 4 rows each
    chosen = set()
    for seed in range(4):
        train, heldout = set_aside(rows, size=8, seed=seed)
        assert (len(train), len(heldout)) == (32, 8)  # two prompts, whole
        assert (len(asked(train)), len(asked(heldout))) == (8, 2)
        assert not asked(train) & asked(heldout)
        assert set_aside(rows, size=8, seed=seed) == (train, heldout)
        chosen.add(frozenset(asked(heldout)))
    assert len(chosen) > 1


def test_of_the_last_prompt_only_what_is_wanted_is_held_out_and_its_rest_is_in_neither_part():
    rows = [judged(f"{number // 4}", f"{number % 4}") for number in range(40)]
    firsts = set()
    for seed in range(8):
        train, heldout = set_aside(rows, size=5, seed=seed)
        assert (len(train), len(heldout)) == (32, 5)  # one prompt whole, and one row of another
        assert not asked(train) & asked(heldout)
        [alone] = [one for one in heldout if sum(other.prompt == one.prompt for other in heldout) == 1]
        firsts.add(alone.completion)
    assert len(firsts) > 1  # drawn, not the first in the file


def test_each_prompt_has_the_same_chance_however_many_rows():
    rows = [judged("many", str(number)) for number in range(9)] + [judged(str(n), "a") for n in range(3)]
    held = [{one.prompt for one in set_aside(rows, size=1, seed=seed)[1]} for seed in range(200)]
    # 4 prompts: 50 of 200 each, with a deviation of 6; 9 rows of 12 would be 150
    assert 30 < sum(user("many") in one for one in held) < 70


def test_where_each_prompt_has_one_row_the_rows_are_drawn_as_questions_are():
    rows = [judged(str(number), "a") for number in range(30)]
    train, heldout = set_aside(rows, size=3, seed=0)
    assert (len(train), len({one.prompt for one in heldout})) == (27, 3)


def test_what_an_example_asks_stands_before_its_first_learned_turn():
    turns = (Message("system", "s"), *user("q"), Message("assistant", "a"), *user("r"), Message("assistant", "b"))
    every, last = Example("", turns), Example("", turns, prompt_messages=4)
    assert every.asked == Example("", (*turns[:2], Message("assistant", "other"))).asked != last.asked
    assert last.asked == Example("", (*turns[:4], Message("assistant", "other")), prompt_messages=4).asked
    assert every.asked == Judged("", (Message("system", " s"), *user("q\n")), "a", liked=False).asked
    assert Example("", text="a b").asked == Example("", text="a  b").fingerprint != Example("", text="a c").asked
    # the same conversation, learned from another turn on, is not learned from either
    train, heldout = set_aside([every, last, Example("", text="x")], size=1, seed=1)
    assert not {one.fingerprint for one in train} & {one.fingerprint for one in heldout}


def test_prompts_that_leave_nothing_to_learn_from_are_counted():
    rows = [judged(prompt, answer) for prompt in "ab" for answer in "123"]
    assert [len(part) for part in set_aside(rows, size=3, seed=0)] == [3, 3]
    with pytest.raises(DataError, match=r"heldout_size = 4, .* 6 examples, 6 of them distinct, of 2 prompt\(s\): none"):
        set_aside(rows, size=4, seed=0)


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_prompt_in_both_files_is_told_with_its_row(tmp_path):
    row = {"prompt": "q", "completion": "a", "label": True}
    source = written(tmp_path / "train.jsonl", row | {"prompt": "p"}, row)
    heldout = written(tmp_path / "test.jsonl", row | {"completion": "b"})
    config = ExamplesConfig(source=source, heldout=heldout)
    with pytest.raises(DataError, match=r"train\.jsonl:2: its prompt is held out in '.*test\.jsonl' too; remove it"):
        load_apart(config, seed=0, kind=Judged, read=read_judged)
    same = ExamplesConfig(source=source, heldout=written(tmp_path / "same.jsonl", row | {"label": False}))
    with pytest.raises(DataError, match=r"train\.jsonl:2: held out in '.*same\.jsonl' too"):
        load_apart(same, seed=0, kind=Judged, read=read_judged)


def test_texts_in_two_files_are_compared_whole(tmp_path):
    source = written(tmp_path / "train.jsonl", {"text": "a"}, {"text": "b"})
    heldout = written(tmp_path / "test.jsonl", {"text": "c"})
    train, held = load_apart(ExamplesConfig(source=source, heldout=heldout), seed=0, kind=Example, read=read_examples)
    assert (len(train), len(held)) == (2, 1)
