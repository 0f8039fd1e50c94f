"""Pairs and judged answers from TRL's columns; what no preference can be learned from is refused."""

import json
import math
import re

import pytest

from groupwise.data import Judged, Message, Pair
from groupwise.errors import DataError
from tests.datasets.reading import read_judged, read_pairs

ASKED = {"role": "user", "content": "q"}
PROMPT = (Message("user", "q"),)


def said(text):
    return {"role": "assistant", "content": text}


TALK = [{"role": "system", "content": "s"}, ASKED, said("x")]


def jsonl(tmp_path, *rows):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, PROMPT),
        ({"prompt": [ASKED], "chosen": [said("a")], "rejected": [said("b")]}, PROMPT),
        ({"prompt": [ASKED], "chosen": "a", "rejected": [said("b")], "margin": None, "id": 3}, PROMPT),
        ({"prompt": "q", "chosen": [ASKED, said("a")], "rejected": [ASKED, said("b")]}, PROMPT),
        ({"chosen": [ASKED, said("a")], "rejected": [ASKED, said("b")]}, PROMPT),
        (
            {"chosen": [*TALK, ASKED, said("a")], "rejected": [*TALK, ASKED, said("b")]},
            (Message("system", "s"), *PROMPT, Message("assistant", "x"), *PROMPT),
        ),
    ],
)  # fmt: skip
def test_pairs_are_read_in_trls_forms(tmp_path, row, prompt):
    path = jsonl(tmp_path, row)
    assert read_pairs(path) == [Pair(f"{path}:1", prompt, "a", "b")]


@pytest.mark.parametrize(("cell", "margin"), [(2, 2.0), (0, 0.0), ("1.5", 1.5), (" ", None)])
def test_a_margin_is_a_number_or_left_out(tmp_path, cell, margin):
    (pair,) = read_pairs(jsonl(tmp_path, {"prompt": "q", "chosen": "a", "rejected": "b", "margin": cell}))
    assert pair.margin == margin


@pytest.mark.parametrize(
    ("label", "liked"), [(True, True), (False, False), (1, True), (0, False), (1.0, True), ("True", True), ("0", False)]
)
def test_a_label_is_a_truth_value_or_0_or_1_also_as_a_word(tmp_path, label, liked):
    path = jsonl(tmp_path, {"prompt": "q", "completion": [said("a")], "label": label})
    assert read_judged(path) == [Judged(f"{path}:1", PROMPT, "a", liked)]


def test_a_csv_holds_pairs_and_judged_answers_too(tmp_path):
    (tmp_path / "p.csv").write_text("prompt,chosen,rejected,margin\nq,a,b,\n")
    assert read_pairs(tmp_path / "p.csv") == [Pair(f"{tmp_path / 'p.csv'}: row 1", PROMPT, "a", "b")]
    (tmp_path / "j.csv").write_text("prompt,completion,label\nq,a,false\n")
    assert read_judged(tmp_path / "j.csv") == [Judged(f"{tmp_path / 'j.csv'}: row 1", PROMPT, "a", False)]


def test_rows_past_the_limit_are_not_looked_at(tmp_path):
    path = jsonl(
        tmp_path, {"prompt": "q", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "", "rejected": ""}
    )
    assert len(read_pairs(path, 1)) == 1


@pytest.mark.parametrize(
    ("row", "said_of_it"),
    [
        ({"chosen": " a  b", "rejected": "a b "}, "jsonl:1: chosen and rejected are equal up to spacing: ' a b'; "),
        ({"chosen": "", "rejected": "b"}, r"p\.jsonl:1: chosen = '' is empty; drop the row"),
        ({"chosen": "a", "rejected": [said(" ")]}, r"p\.jsonl:1: rejected = \[.*\] is empty"),
        ({"chosen": "a"}, r"p\.jsonl:2: no 'rejected'; columns: prompt, chosen"),
        ({"chosen": "a", "rejected": 5}, "rejected = 5 is int; give a string or a list"),
        ({"prompt": [ASKED, said("x")], "chosen": "a", "rejected": "b"}, "turn 3 of role 'assistant' behind"),
        ({"prompt": [said("x")], "chosen": "a", "rejected": "b"}, "turn 1 of role 'assistant' at the start"),
        ({"chosen": [ASKED], "rejected": "b"}, "prompt and chosen: turn 2 of role 'user' behind a turn of role 'user'"),
        ({"chosen": [ASKED | {"content": "other"}, said("a")], "rejected": "b"}, "chosen has 2 turns behind the pr"),
        ({"chosen": "a", "rejected": "b", "margin": math.nan}, r"p\.jsonl:1: margin = nan: no finite number; give"),
        ({"chosen": "a", "rejected": "b", "margin": -0.5}, r"jsonl:1: margin = -0\.5: below 0, .*; give .* from 0"),
        ({"chosen": "a", "rejected": "b", "margin": -math.inf}, "margin = -inf: no finite number"),
        ({"chosen": "a", "rejected": "b", "margin": "far"}, "margin = 'far': no finite number"),
        ({"chosen": "a", "rejected": "b", "margin": True}, "margin = True: no finite number"),
        ({"chosen": "a", "rejected": "b", "margin": 10**400}, "margin = 1000.*: no finite number"),
    ],
)  # fmt: skip
def test_a_pair_that_teaches_nothing_is_refused_in_one_line(tmp_path, row, said_of_it):
    rows = [{"prompt": "q", **row}]
    if "rejected" not in row:
        rows.insert(0, {"prompt": "q", "chosen": "a", "rejected": "b"})
    with pytest.raises(DataError) as caught:
        read_pairs(jsonl(tmp_path, *rows))
    assert re.search(said_of_it, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("chosen", "rejected", "said_of_it"),
    [
        ("a", "b", "chosen = 'a' is a string, and the file has no column 'prompt'; add 'prompt'"),
        ([ASKED, said("a")], [ASKED, said("a ")], "chosen and rejected are equal up to spacing: 'a'"),
        (
            [ASKED, said("a"), ASKED, said("c")],
            [ASKED, said("b"), ASKED, said("c")],
            "chosen and rejected differ from turn 2 on, before their last: 'a' and 'b'",
        ),
        ([ASKED, said("a")], [ASKED], "chosen has 2 turns behind the prompt, from 'q' on"),
        ([said("a")], [said("b")], "turn 1 of role 'assistant' at the start"),
    ],
)
def test_conversations_without_a_prompt_differ_in_their_last_turn_alone(tmp_path, chosen, rejected, said_of_it):
    with pytest.raises(DataError, match=re.escape(said_of_it)):
        read_pairs(jsonl(tmp_path, {"chosen": chosen, "rejected": rejected}))


@pytest.mark.parametrize(
    ("row", "said_of_it"),
    [
        ({"completion": "a", "label": 2}, "p.jsonl:1: label = 2: no label that is allowed; give true (liked) or"),
        ({"completion": "a", "label": "good"}, "label = 'good': no label that is allowed"),
        ({"completion": "a", "label": [True]}, "label = [True]: no label that is allowed"),
        ({"completion": "a", "label": math.nan}, "label = nan: no label that is allowed"),
        ({"completion": " ", "label": True}, "completion = ' ' is empty"),
        ({"completion": [said("a"), said("b")], "label": True}, "completion has 2 turns behind the prompt"),
        ({"completion": "a", "label": None}, "no 'label'; columns: prompt, completion"),
    ],
)  # fmt: skip
def test_a_judged_answer_that_teaches_nothing_is_refused_in_one_line(tmp_path, row, said_of_it):
    with pytest.raises(DataError) as caught:
        read_judged(jsonl(tmp_path, {"prompt": "q", **row}))
    assert said_of_it in str(caught.value)
    assert caught.value.hint


def test_a_file_of_the_other_kind_is_told_with_the_loss_to_take(tmp_path):
    with pytest.raises(
        DataError, match=r"no column 'completion' or 'label'; .*; these seem to be pairs: set .* to dpo"
    ):
        read_judged(jsonl(tmp_path, {"prompt": "q", "chosen": "a", "rejected": "b"}))
    with pytest.raises(
        DataError, match=r"no column 'chosen' or 'rejected'; .* liked or not: set preference.loss to kto"
    ):
        read_pairs(jsonl(tmp_path, {"prompt": "q", "completion": "a", "label": True}))
    with pytest.raises(
        DataError, match=r"no column 'chosen'; columns: prompt, chosne, rejected; did you mean 'chosne'"
    ):
        read_pairs(jsonl(tmp_path, {"prompt": "q", "chosne": "a", "rejected": "b"}))
