"""Columns as TRL, verl, GSM8K and EasyR1 name them, from every kind of file."""

import json

import pytest

from groupwise.data import Message
from groupwise.datasets.dataset import read_questions
from groupwise.errors import DataError

_ROWS = [
    {"prompt": "What is 1 + 1?", "answer": "2", "level": "a"},
    {"prompt": "What is\n2, 2?", "answer": "4", "level": "b"},
]


def _jsonl(tmp_path, *rows):
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _write(tmp_path, ending):
    path = tmp_path / f"q{ending}"
    if ending == ".jsonl":
        path.write_text("\n".join(map(json.dumps, _ROWS)))
    elif ending == ".json":
        path.write_text(json.dumps(_ROWS))
    elif ending == ".csv":
        path.write_text('prompt,answer,level\nWhat is 1 + 1?,2,a\n"What is\n2, 2?",4,b\n')
    elif ending == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(_ROWS), path)
    else:
        import datasets

        datasets.Dataset.from_list(_ROWS).save_to_disk(str(path))
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".parquet", ""])
def test_every_kind_of_file_gives_the_same_questions(tmp_path, ending):
    first, second = read_questions(_write(tmp_path, ending))
    assert first.messages == (Message("user", "What is 1 + 1?"),)
    assert first.meta == {"prompt": "What is 1 + 1?", "answer": "2", "level": "a", "_plain": True}
    assert (first.id, first.answer) == ("q:1", "2")
    assert (second.id, second.answer, second.text) == ("q:2", "4", "What is\n2, 2?")
    assert read_questions(_write(tmp_path, ending) if ending else tmp_path / "q", limit=1) == [first]


def test_train_split_of_a_saved_dict_is_read(tmp_path):
    import datasets

    splits = {name: datasets.Dataset.from_list([{"prompt": name}]) for name in ("train", "test")}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "d"))
    assert [q.text for q in read_questions(tmp_path / "d")] == ["train"]
    assert [q.text for q in read_questions(tmp_path / "d" / "test")] == ["test"]


def test_saved_dict_without_train_names_its_splits(tmp_path):
    import datasets

    one = datasets.Dataset.from_list([{"prompt": "a"}])
    datasets.DatasetDict({"valid": one, "test": one}).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(DataError, match=r"no split 'train'; splits: test, valid; .*d/test"):
        read_questions(tmp_path / "d")


def test_trl_messages_and_columns(tmp_path):
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    (question,) = read_questions(_jsonl(tmp_path, {"prompt": turns, "solution": "x", "nums": [1, 2]}))
    assert question.messages == (Message("system", "s"), Message("user", "q"))
    assert question.answer == "x"
    assert question.meta == {"prompt": turns, "solution": "x", "nums": [1, 2]}


def test_verl_parquet(tmp_path):
    import pyarrow
    from pyarrow import parquet

    row = {
        "data_source": "openai/gsm8k",
        "prompt": [{"role": "user", "content": "q"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "72"},
        "extra_info": {"split": "train", "index": 5, "answer": "long"},
    }
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "q.parquet")
    (question,) = read_questions(tmp_path / "q.parquet")
    assert (question.id, question.answer, question.meta) == ("5", "72", row)


def test_gsm8k_keeps_the_whole_answer(tmp_path):
    (question,) = read_questions(_jsonl(tmp_path, {"question": "q", "answer": "1 + 1 = 2\n#### 2"}))
    assert (question.text, question.answer) == ("q", "1 + 1 = 2\n#### 2")


def test_easyr1_problem(tmp_path):
    (question,) = read_questions(_jsonl(tmp_path, {"problem": "p", "answer": "a", "question": "no"}))
    assert question.text == "p"


def test_columns_asked_for_come_first(tmp_path):
    path = _jsonl(tmp_path, {"prompt": "p", "ask": "q", "answer": "a", "gold": 3})
    (question,) = read_questions(path, prompt_column="ask", answer_column="gold")
    assert (question.text, question.answer) == ("q", 3)


def test_one_answer_column_serves_the_whole_file(tmp_path):
    # `answer` is empty in one row: its long `solution` would not be the same kind of answer.
    rows = {"prompt": "p", "answer": None, "solution": "long"}, {"prompt": "p", "answer": "2", "solution": "long"}
    assert [q.answer for q in read_questions(_jsonl(tmp_path, *rows))] == [None, "2"]


def test_an_empty_usual_column_gives_way_to_the_next(tmp_path):
    (question,) = read_questions(_jsonl(tmp_path, {"prompt": "p", "answer": " ", "target": 0}))
    assert question.answer == 0


def test_questions_without_answers_are_read(tmp_path):
    assert read_questions(_jsonl(tmp_path, {"prompt": "p"}))[0].answer is None


def test_id_column_names_the_question(tmp_path):
    assert [q.id for q in read_questions(_jsonl(tmp_path, {"prompt": "p", "id": 7}, {"prompt": "p", "id": None}))] == [
        "7",
        "q:2",
    ]


def test_line_separators_inside_a_string_do_not_end_the_line(tmp_path):
    (tmp_path / "q.jsonl").write_text('\ufeff{"prompt": "a\u2028b"}\r\n\n{"prompt": "c"}', encoding="utf-8")
    assert [(q.id, q.text) for q in read_questions(tmp_path / "q.jsonl")] == [("q:1", "a\u2028b"), ("q:3", "c")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"promt": "p", "x": 1}, "no column prompt, .*instruction or input; columns: promt, x; .*did you mean 'promt'"),
        ({}, "columns: none"),
        ({"prompt": ""}, r"q.jsonl:1: prompt = '' is empty"),
        ({"prompt": " \n"}, "is empty"),
        ({"prompt": []}, r"prompt = \[\] is empty"),
        ({"prompt": [{"role": "user", "content": ""}]}, "is empty"),
        ({"prompt": None}, "prompt = None is NoneType; give a string"),
        ({"prompt": 5}, "prompt = 5 is int"),
        ({"prompt": {"role": "user"}}, "is dict"),
        ({"prompt": ["hello"]}, r"prompt\[0\] = 'hello': no role and content"),
        ({"prompt": [{"role": "user"}]}, "no role and content"),
        ({"prompt": [{"role": "usr", "content": "q"}]}, r"role = 'usr': unknown; did you mean 'user'"),
        ({"prompt": [{"role": ["user"], "content": "q"}]}, "unknown"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image"}]}]},
            r"content\[0\] = \{.type.: .image.\}: names no picture, and there is no column images",
        ),
        ({"prompt": "ab\ud800"}, "character 2 is half of a surrogate pair"),
    ],
)
def test_wrong_prompts_are_refused(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        read_questions(_jsonl(tmp_path, row))


def test_a_row_without_the_prompt_column_is_named(tmp_path):
    with pytest.raises(DataError, match=r"q.jsonl:2: no column 'prompt'; columns: promt; did you mean 'promt'"):
        read_questions(_jsonl(tmp_path, {"prompt": "p"}, {"promt": "p"}))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"prompt_column": "promt"},
            "prompt_column = 'promt' is not there; columns: prompt, gold; did you mean 'prompt'",
        ),
        ({"answer_column": "golden"}, "answer_column = 'golden' is not there; .*did you mean 'gold'"),
        ({"answer_column": "gold"}, "answer_column = 'gold' is empty in all 2 rows"),
    ],
)
def test_columns_asked_for_and_not_there_are_refused(tmp_path, asked, message):
    path = _jsonl(tmp_path, {"prompt": "p", "gold": None}, {"prompt": "q", "gold": ""})
    with pytest.raises(DataError, match=message):
        read_questions(path, **asked)
