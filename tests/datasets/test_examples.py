"""Examples from columns as TRL, ShareGPT and Alpaca name them; what no policy could learn from is refused."""

import json

import pytest

from groupwise.data import Example, Message
from groupwise.datasets.sources import set_aside
from groupwise.errors import DataError
from tests.datasets.reading import read_examples

ASKED, ANSWERED = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
TURNS = (Message("user", "q"), Message("assistant", "a"))


def _jsonl(tmp_path, *rows):
    path = tmp_path / "e.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _turns(*roles):
    return [{"role": role, "content": role[0]} for role in roles]


@pytest.mark.parametrize(
    ("row", "messages", "prompt_messages"),
    [
        ({"messages": [ASKED, ANSWERED]}, TURNS, 0),
        ({"conversations": [ASKED, ANSWERED], "id": 5}, TURNS, 0),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, TURNS, 0),
        (
            {"conversations": [{"from": name, "value": name[0]} for name in ("system", "human", "gpt", "tool", "gpt")]},
            tuple(Message(*turn) for turn in zip(("system", "user", "assistant", "tool", "assistant"), "shgtg",
                                                 strict=True)),
            0,
        ),
        ({"prompt": "q", "completion": "a", "text": None}, TURNS, 1),
        ({"prompt": "q", "response": "a"}, TURNS, 1),
        ({"prompt": [ASKED], "completion": "a"}, TURNS, 1),
        ({"prompt": [ASKED, ANSWERED, ASKED], "completion": [ANSWERED]}, TURNS * 2, 3),
        ({"prompt": "q", "completion": [ANSWERED, ASKED, ANSWERED]}, TURNS * 2, 1),
        ({"instruction": "q", "output": "a"}, TURNS, 1),
        ({"instruction": "q", "input": "", "output": "a"}, TURNS, 1),
        ({"instruction": "q", "input": "x", "output": "a"}, (Message("user", "q\nx"), TURNS[1]), 1),
    ],
)  # fmt: skip
def test_usual_columns_are_read(tmp_path, row, messages, prompt_messages):
    path = _jsonl(tmp_path, row)
    assert read_examples(path) == [Example(f"{path}:1", messages, prompt_messages=prompt_messages)]


def test_a_plain_text_is_kept_as_it_is(tmp_path):
    path = _jsonl(tmp_path, {"text": " a\n", "id": 5})
    assert read_examples(path) == [Example(f"{path}:1", text=" a\n")]


def test_turns_may_alternate_with_tools_behind_the_assistants(tmp_path):
    roles = ["system", "user", "assistant", "tool", "tool", "assistant", "user", "assistant"]
    (example,) = read_examples(_jsonl(tmp_path, {"messages": _turns(*roles)}))
    assert [message.role for message in example.messages] == roles


def test_other_files_are_read_and_name_their_rows(tmp_path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([{"messages": [ASKED, ANSWERED]}]), tmp_path / "e.parquet")
    (tmp_path / "e.csv").write_text('prompt,completion\n"q","a"\n')
    for name in ("e.parquet", "e.csv"):
        (example,) = read_examples(tmp_path / name)
        assert example.messages == TURNS
        assert example.where == f"{tmp_path / name}: row 1"


def test_rows_past_the_limit_are_not_looked_at(tmp_path):
    path = _jsonl(tmp_path, {"text": "a"}, {"text": ""})
    assert [example.text for example in read_examples(path, 1)] == ["a"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"txt": "a", "x": 1}, "no columns messages, conversations, prompt and completion, .*, text; columns: txt, x"),
        ({"txt": "a"}, "name the columns so; did you mean 'txt'"),
        ({"prompt": "q", "x": 1}, "columns: prompt, x; 'prompt' needs 'completion' beside it$"),
        ({"promt": "q", "completion": "a"}, "'completion' needs 'prompt' beside it; did you mean 'promt'"),
        ({}, "columns: none; every row needs them$"),
        ({"prompt": "q", "completion": ""}, r"e.jsonl:1: completion = '' is empty; drop the row or fill it in"),
        ({"prompt": " ", "completion": "a"}, "prompt = ' ' is empty"),
        ({"prompt": "q", "completion": 5}, "completion = 5 is int; give a string or a list"),
        ({"prompt": "q", "completion": [{"role": "user", "content": "q"}]}, "completion has no assistant turn: "),
        (
            {"prompt": "q", "completion": [ASKED, ANSWERED]},
            "prompt and completion: turn 2 of role 'user' behind a turn",
        ),
        ({"instruction": "q", "input": 3, "output": "a"}, "input = 3 is int; give a string"),
        ({"text": "\n"}, r"e.jsonl:1: text = '\\n' is empty"),
        ({"text": ["a"]}, r"text = \['a'\] is list; give a string"),
        ({"text": "ab\ud800"}, "text: character 2 is half of a surrogate pair"),
        ({"prompt": "q", "completion": "\udc00"}, "completion: character 0 is half of a surrogate pair"),
        (
            {"messages": [ASKED, {"role": "assistant", "content": "\ud800"}]},
            r"messages\[1\].content: character 0 is half",
        ),
        ({"messages": "[]"}, "messages = '\\[\\]' is str; give a list of messages"),
        ({"messages": []}, r"messages = \[\] is empty"),
        ({"messages": ["q"]}, r"messages\[0\] = 'q': no role and content"),
        ({"messages": _turns("user")}, "messages has no assistant turn: 'u'; end with the assistant's answer"),
        ({"messages": _turns("user", "assistant", "user")}, "messages ends with a turn of role 'user': 'u'"),
        ({"messages": _turns("user", "assistant", "tool")}, "messages ends with a turn of role 'tool'"),
        ({"messages": _turns("user", "user", "assistant")}, "turn 2 of role 'user' behind a turn of role 'user': 'u'"),
        (
            {"messages": _turns("assistant")},
            "turn 1 of role 'assistant' at the start: 'a'; allowed there: system, user$",
        ),
        ({"messages": _turns("user", "assistant", "assistant")}, "turn 3 of role 'assistant' behind"),
        ({"messages": _turns("user", "system", "assistant")}, "turn 2 of role 'system' behind"),
        ({"messages": _turns("user", "tool", "assistant")}, "turn 2 of role 'tool' behind a turn of role 'user'"),
        (
            {"messages": _turns("user", "assistant", "tool", "user")},
            "turn 4 of role 'user' behind a turn of role 'tool'",
        ),
        ({"messages": [ASKED, {"role": "assistant", "content": " "}]}, "turn 2, the assistant's, is empty: ' '"),
        (
            {"messages": [ASKED, {"role": "asistant", "content": "a"}]},
            r"\[1\].role = 'asistant': unknown; did you mean",
        ),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gtp", "value": "a"}]},
            r"conversations\[1\].from = 'gtp': unknown; did you mean 'gpt'",
        ),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt"}]},
            r'conversations\[1\] = .*: no from and value; write {"from": "human", "value": "..."}',
        ),
        (
            {"messages": [ASKED, ANSWERED | {"tool_calls": [{"name": "add"}]}]},
            r"messages\[1\].tool_calls = \[\{'name': 'add'\}\]: not read; write it into the content",
        ),
    ],
)
def test_what_cannot_be_learned_from_is_refused(tmp_path, row, message):
    with pytest.raises(DataError, match=message) as caught:
        read_examples(_jsonl(tmp_path, row))
    assert "e.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("second", [{"text": "b"}, {"prompt": "q", "completion": None, "text": "b"}])
def test_rows_of_another_kind_are_refused(tmp_path, second):
    path = _jsonl(tmp_path, {"prompt": "q", "completion": "a"}, second)
    with pytest.raises(
        DataError, match=r"e.jsonl:2: no '(prompt|completion)'; columns: .*text; all rows of a file are"
    ):
        read_examples(path)


def test_file_errors_speak_of_examples(tmp_path):
    (tmp_path / "e.jsonl").write_text("[1]")
    with pytest.raises(DataError, match=r'a list, not an object: .*; write {"prompt": ..., "completion": ...}'):
        read_examples(tmp_path / "e.jsonl")
    with pytest.raises(
        DataError, match=r"^examples '.*none': no such file or folder; give .*`datasets` folder, a name on the hub"
    ):
        read_examples(tmp_path / "none")


def test_an_example_that_is_held_out_leaves_no_twin_in_train():
    texts = ["a", "b", "a", "c ", "d", " c", "e"]  # distinct: a b c d e
    examples = [Example(str(number), text=text) for number, text in enumerate(texts)]
    for seed in range(5):
        train, heldout = set_aside(examples, size=2, seed=seed)
        held = {example.fingerprint for example in heldout}
        assert len(heldout) == len(held) == 2
        assert list(train) == [example for example in examples if example.fingerprint not in held]
    assert set_aside(examples, size=2, seed=0) == set_aside(examples, size=2, seed=0)
    assert len({tuple(e.where for e in set_aside(examples, size=2, seed=seed)[1]) for seed in range(5)}) > 1
    assert set_aside(examples, size=0, seed=0) == (tuple(examples), ())


def test_an_example_is_told_apart_by_what_it_says():
    # roles, words and kind count; place, spacing and what of it is learned do not
    same = [Example("a", TURNS), Example("b", (Message("user", " q\n"), TURNS[1]), prompt_messages=1)]
    swapped = (Message("assistant", "q"), Message("user", "a"))
    texts = [Example("a", text="q a"), Example("b", text=" q\na")]
    others = [Example("a", TURNS[:1]), Example("a", swapped)]
    for twins in (same, texts):
        assert len({example.fingerprint for example in twins}) == 1
    assert len({example.fingerprint for example in (*same, *texts, *others)}) == 4


def test_too_few_distinct_examples_to_set_aside_are_refused_with_the_numbers():
    examples = [Example(str(number), text=text) for number, text in enumerate("aab")]
    with pytest.raises(
        DataError,
        match=r"heldout_size = 2, but there are 3 examples, 2 of them distinct, of 2 prompt\(s\): none .*; set",
    ):
        set_aside(examples, size=2, seed=0)
