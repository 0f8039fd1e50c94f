"""Labelled steps from rows, in both forms, and what is wrong with a row in one line."""

import json
import math
import re

import pytest

from groupwise.data import Message, Pair, Stepped
from groupwise.errors import DataError
from tests.datasets.reading import read_judgements

ASKED = (Message("user", "2 + 3 + 4?"),)
GOOD = {"prompt": "2 + 3 + 4?", "completions": ["2 + 3 = 5", "5 + 4 = 8"], "labels": [True, False]}


def file(tmp_path, *rows, name="steps.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def turns(*roles):
    return [{"role": role, "content": role} for role in roles]


def test_steps_written_apart_are_read_as_in_trl(tmp_path):
    path = file(tmp_path, GOOD, GOOD | {"labels": [1, 0]}, GOOD | {"prompt": [{"role": "user", "content": "x"}]})
    first, second, third = read_judgements(path)
    assert first == Stepped(f"{path}:1", ASKED, ("2 + 3 = 5", "5 + 4 = 8"), (True, False))
    assert second.right == (True, False)
    assert third.prompt == (Message("user", "x"),)
    assert len(read_judgements(path, 1)) == 1


def test_steps_marked_in_one_text_are_its_pieces(tmp_path):
    row = {"prompt": "2 + 3 + 4?", "completion": "It is 5, then 8. Done", "step_ends": [8, 16], "labels": [True, False]}
    [found] = read_judgements(file(tmp_path, row))
    assert found.steps == ("It is 5,", " then 8.")
    assert found.rest == " Done"
    assert found.verbatim


def test_a_prompt_may_have_turns_before(tmp_path):
    roles = ("system", "user", "assistant", "tool", "assistant", "user")
    [found] = read_judgements(file(tmp_path, GOOD | {"prompt": turns(*roles)}))
    assert tuple(message.role for message in found.prompt) == roles


def test_an_end_that_a_column_with_gaps_made_a_float_is_the_number(tmp_path):
    [found] = read_judgements(file(tmp_path, MARKED | {"step_ends": [3.0, 7]}))
    assert found.steps == ("one", " two")


def test_pairs_are_told_by_their_columns(tmp_path):
    [found] = read_judgements(file(tmp_path, {"prompt": "a", "chosen": "b", "rejected": "c"}))
    assert isinstance(found, Pair)


MARKED = {"prompt": "a", "completion": "one two", "step_ends": [3, 7], "labels": [1, 0]}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (GOOD | {"labels": [True, "no"]}, r"labels\[1\] = 'no': no label that is allowed; give true .* or 1 or 0"),
        (GOOD | {"labels": [True, 0.5]}, r"labels\[1\] = 0\.5: no label that is allowed"),
        (GOOD | {"labels": [True, None]}, r"labels\[1\] = None: no label"),
        (GOOD | {"labels": [True]}, r"1 labels for 2 completions; give each step one label"),
        (GOOD | {"labels": []}, r"labels = \[\] is empty"),
        (GOOD | {"labels": "++"}, r"labels = '\+\+' is str; give a list of true and false"),
        (GOOD | {"completions": []}, r"completions = \[\] is empty"),
        (GOOD | {"completions": ["a", " "]}, r"completions\[1\] = ' ' is empty"),
        (GOOD | {"completions": "a"}, r"completions = 'a' is str; give a list of strings"),
        (GOOD | {"completions": None}, r"no 'completions'"),
        (GOOD | {"prompt": " "}, r"prompt = ' ' is empty"),
        (GOOD | {"prompt": [{"role": "assistant", "content": "x"}]}, r"prompt ends with a turn of role 'assistant'"),
        (
            GOOD | {"prompt": turns("user", "user")},
            r"2: prompt: turn 2 of role 'user' behind a turn of role 'user': 'user'",
        ),
        (GOOD | {"prompt": turns("assistant", "user")}, r"prompt: turn 1 of role 'assistant' at the start"),
        (GOOD | {"prompt": turns("system")}, r"prompt: turn 2 of role 'assistant' behind a turn of role 'system'"),
        (GOOD | {"chosen": "a"}, r"'chosen' is of a pair, and other rows have 'labels' of steps; all rows of a file"),
    ],
)
def test_a_bad_row_is_told_with_file_row_and_value(tmp_path, row, said):
    path = file(tmp_path, GOOD, row)
    with pytest.raises(DataError) as error:
        read_judgements(path)
    assert str(error.value).startswith(f"{path}:2: "), error.value
    assert re.search(said, str(error.value)), error.value


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"step_ends": [3, 8]}, r"step_ends\[1\] = 8: no whole number within 4 and 7"),
        ({"step_ends": [3, 3]}, r"step_ends\[1\] = 3: no whole number within 4 and 7"),
        ({"step_ends": [0, 3]}, r"step_ends\[0\] = 0: no whole number within 1 and 7"),
        ({"step_ends": [2.5, 3]}, r"step_ends\[0\] = 2\.5: no whole number"),
        ({"step_ends": [math.nan, 3]}, r"steps\.jsonl:1: step_ends\[0\] = nan: no whole number within 1 and 7; count"),
        ({"step_ends": [3, math.inf]}, r"steps\.jsonl:1: step_ends\[1\] = inf: no whole number within 4 and 7; count"),
        ({"step_ends": [3, "7"]}, r"step_ends\[1\] = '7': no whole number"),
        ({"step_ends": [True, 3]}, r"step_ends\[0\] = True: no whole number"),
        ({"step_ends": [3]}, r"2 labels for 1 step_ends"),
        ({"completion": ["one"]}, r"completion = \['one'\] is list; give a string"),
    ],
)
def test_marks_that_end_no_step_are_told(tmp_path, changed, said):
    with pytest.raises(DataError, match=said):
        read_judgements(file(tmp_path, MARKED | changed))


def test_columns_of_neither_kind_are_told(tmp_path):
    with pytest.raises(DataError, match=r"neither pairs nor labelled steps; columns: prompt, completion; give prompt"):
        read_judgements(file(tmp_path, {"prompt": "a", "completion": "b"}))
