"""Each column and key of a row is read, or refused by name with file and line: nothing is ignored in silence."""

import json

import pytest

from groupwise.datasets.dataset import read_questions
from groupwise.datasets.files import Source
from groupwise.errors import DataError
from tests.datasets.reading import read_examples, read_judged, read_judgements, read_pairs

ASKED, ANSWERED = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
BARE = {
    read_questions: {"prompt": "q"},
    read_examples: {"prompt": "q", "completion": "a"},
    read_pairs: {"prompt": "q", "chosen": "a", "rejected": "b"},
    read_judged: {"prompt": "q", "completion": "a", "label": True},
    read_judgements: {"prompt": "q", "completions": ["a"], "labels": [True]},
}


def _file(tmp_path, *rows):
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("read", BARE)
@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("images", ["cat.png"]),
        ("image", {"bytes": None, "path": "cat.png"}),
        ("videos", "v.mp4"),
        ("audio", "a.wav"),
        ("tools", '[{"name": "add"}]'),
        ("env_kwargs", {"seed": 1}),
        ("weight", 0.5),
        ("chat_template_kwargs", {"enable_thinking": False}),
        ("history", "what was said"),
        ("history", [["q", "a", "b"]]),
        ("system", 5),
    ],
)
def test_a_column_that_means_something_elsewhere_is_refused_with_its_line(tmp_path, read, column, cell):
    path = _file(tmp_path, BARE[read], {**BARE[read], column: cell})
    with pytest.raises(DataError, match=rf"r\.jsonl:2: {column}\b.* = ") as caught:
        read(path)
    assert caught.value.hint
    ignoring = read(Source(str(path), ignore=(column,)))[1]
    assert ignoring.fingerprint == read(_file(tmp_path, BARE[read], BARE[read]))[1].fingerprint


@pytest.mark.parametrize("read", BARE)
@pytest.mark.parametrize("cell", [None, "", [], {}, "[]", {"a": None}, float("nan")])
def test_a_column_with_nothing_in_it_is_no_reason_to_refuse(tmp_path, read, cell):
    (found,) = read(_file(tmp_path, {**BARE[read], "tools": cell, "history": cell, "system": cell, "images": cell}))
    assert found.fingerprint == read(_file(tmp_path, BARE[read]))[0].fingerprint


@pytest.mark.parametrize("read", [read for read in BARE if read is not read_questions])
def test_a_column_that_nothing_reads_is_refused_and_all_such_are_named_in_the_remedy(tmp_path, read):
    path = _file(tmp_path, {**BARE[read], "topic": None}, {**BARE[read], "source": "web", "topic": "sums"})
    with pytest.raises(
        DataError, match=r"r\.jsonl:2: source = 'web': nothing reads .*ignore_columns: \[topic, source\]"
    ):
        read(path)
    assert len(read(Source(str(path), ignore=("topic", "source")))) == 2


def test_rewards_get_every_column_of_a_question_also_those_that_the_model_is_not_to_read(tmp_path):
    path = _file(tmp_path, {"prompt": "q", "topic": "sums", "weight": 3})
    (question,) = read_questions(Source(str(path), ignore=("weight",)))
    assert question.meta == {"prompt": "q", "topic": "sums", "weight": 3, "_plain": True}


def test_what_verl_would_act_on_inside_extra_info_is_refused(tmp_path):
    kept = {"prompt": "q", "extra_info": {"index": 3, "tools": "pen", "tools_kwargs": {}}}
    assert read_questions(_file(tmp_path, kept))[0].meta["extra_info"] == kept["extra_info"]
    path = _file(tmp_path, {"prompt": "q", "extra_info": {"tools_kwargs": {"add": {"x": 1}}}})
    with pytest.raises(DataError, match=r"r\.jsonl:1: extra_info\.tools_kwargs = .*ignore_columns: \[extra_info"):
        read_questions(path)
    assert read_questions(Source(str(path), ignore=("extra_info.tools_kwargs",)))[0].meta["extra_info"] == {}


def test_a_name_to_ignore_that_is_not_there_is_refused(tmp_path):
    path = _file(tmp_path, {"prompt": "q", "topic": "x"})
    with pytest.raises(DataError, match=r"ignore_columns: no 'topics' there; did you mean 'topic'"):
        read_questions(Source(str(path), ignore=("topics",)))


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({**ANSWERED, "name": "Ann"}, r"messages\[1\]\.name = 'Ann': not read; .*ignore_columns: \[messages\.name\]"),
        ({**ANSWERED, "thinking": "hm"}, r"messages\[1\]\.thinking = 'hm': not read; write it into the content"),
        ({**ANSWERED, "tool_calls": [{"id": "1"}], "content": None}, r"messages\[1\]\.tool_calls = "),
        ({**ANSWERED, "weight": 0.5}, r"messages\[1\]\.weight = 0\.5: neither 0 nor 1"),
        ({**ANSWERED, "weight": True}, r"messages\[1\]\.weight = True: neither 0 nor 1"),
        ({**ANSWERED, "weight": 0}, r"every turn of the assistant has weight 0: nothing is learned"),
        (
            {"role": "assistant", "content": [{"type": "image_url", "image_url": "x"}]},
            r"content\[0\] = 'x': .*No such file",
        ),
        ({"role": "function_call", "content": "f()"}, r"role = 'function_call': not read, no tools are offered"),
    ],
)
def test_a_key_of_a_turn_is_read_or_refused(tmp_path, turn, message):
    with pytest.raises(DataError, match=message):
        read_examples(_file(tmp_path, {"messages": [ASKED, turn]}))


def test_a_weight_is_the_assistants_alone(tmp_path):
    with pytest.raises(DataError, match=r"messages\[0\]\.weight = 1: of a turn of role 'user'"):
        read_examples(_file(tmp_path, {"messages": [{**ASKED, "weight": 1}, ANSWERED]}))
    with pytest.raises(DataError, match=r"prompt\[1\]\.weight = 0: nothing of it is learned"):
        read_questions(_file(tmp_path, {"prompt": [ASKED, {**ANSWERED, "weight": 0}, ASKED]}))


def test_turns_of_weight_0_are_read_and_not_learned(tmp_path):
    # assistant turns at 1, 3, 5; those of 1 and 5 are not learned, and nothing behind the last learned one is read
    turns = [ASKED, {**ANSWERED, "weight": 0}, ASKED, {**ANSWERED, "weight": 1}, ASKED, {**ANSWERED, "weight": 0}]
    (example,) = read_examples(_file(tmp_path, {"messages": turns}))
    assert (len(example.messages), example.unlearned, example.learned) == (4, (1,), [3])
    split = {"prompt": [ASKED], "completion": [{**ANSWERED, "weight": 0}, ASKED, ANSWERED]}
    (example,) = read_examples(_file(tmp_path, split))
    assert (example.prompt_messages, example.unlearned, example.learned) == (1, (1,), [3])


def test_text_in_parts_is_one_text(tmp_path):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    (question,) = read_questions(_file(tmp_path, {"prompt": [{"role": "user", "content": parts}]}))
    assert question.text == "ab"
