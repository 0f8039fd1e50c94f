"""Kept outputs about pictures: a file that any stage reads, and questions that share words and not pictures."""

import json

import pytest

from groupwise.contents import Place, image_of
from groupwise.data import Example, Message, message_of_parts
from groupwise.datasets.examples import each_example
from groupwise.errors import DataError
from groupwise.selection.contamination import asked, contents, held_out
from groupwise.selection.rows import lines, row_of_example, write_lines
from tests.drawn import file_of


def example(image, words="How many?"):
    messages = (message_of_parts("user", ["Look: ", image, words]), Message("assistant", "Two."))
    return Example("x", messages, prompt_messages=1)


def test_kept_rows_have_their_pictures_wherever_the_file_is_read(tmp_path):
    (tmp_path / "a.png").write_bytes(file_of())
    place = Place(str(tmp_path))
    kept = [example(image_of(given, "x", place)) for given in ("a.png", file_of(color="blue"))]
    (tmp_path / "else").mkdir()
    path = tmp_path / "else" / "kept.jsonl"
    write_lines(path, lines([row_of_example(one, "s") for one in kept], seed=0))
    assert {one.messages for one in each_example(path)} == {one.messages for one in kept}
    (tmp_path / "a.png").write_bytes(file_of(color="green"))
    with pytest.raises(DataError, match=r"kept\.jsonl:\d: .*a\.png is not the picture that it was"):
        list(each_example(path))


def test_the_order_of_kept_rows_does_not_depend_on_where_their_pictures_are(tmp_path):
    orders = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        rows = []
        for n in range(6):
            (tmp_path / name / f"{n}.png").write_bytes(file_of(color=(n, 0, 0)))
            rows.append(row_of_example(example(image_of(f"{n}.png", "x", Place(str(tmp_path / name)))), "s"))
        written = [json.loads(line)["prompt"][0]["content"][1] for line in lines(rows, seed=3)]
        orders.append([part["digest"] for part in written])
    assert orders[0] == orders[1]


@pytest.mark.parametrize("words", ["How many squares?", " ".join(f"word{n}" for n in range(30))])
def test_the_same_words_about_another_picture_are_no_contamination(words):
    red, blue = (image_of(file_of(color=color), "x", Place(None)) for color in ("red", "blue"))
    held = example(red, words).messages[:1]
    found = held_out({"held": asked(held)}, n=13, documents=())
    assert found.question_in(contents(example(red, words).messages)) == "held"
    assert found.question_in(contents(example(blue, words).messages)) is None
    assert found.question_in(contents([Message("user", f"Look: {words}")])) is None
