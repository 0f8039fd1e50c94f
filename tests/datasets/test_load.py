"""Sources, the held-out split, the system prompt and the template."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.config import QuestionsConfig
from groupwise.datasets.base import load_questions
from groupwise.errors import ConfigError, DataError


def _write(path, prompts):
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return str(path)


def _load(seed=0, **fields):
    return load_questions(QuestionsConfig(**fields), seed)


def _texts(questions):
    return [question.text for question in questions]


def _prints(questions):
    return {question.fingerprint for question in questions}


def test_heldout_is_set_aside_from_the_source():
    loaded = _load(source="arithmetic", size=300, heldout_size=50)
    assert len(loaded.train) == 250
    assert len(loaded.heldout) == 50
    assert not _prints(loaded.train) & _prints(loaded.heldout)


def test_seed_decides_what_is_held_out(tmp_path):
    source = _write(tmp_path / "q.jsonl", [f"question {number}" for number in range(50)])
    first, again, other = (_load(seed=seed, source=source, heldout_size=10).heldout for seed in (1, 1, 2))
    assert first == again
    assert first != other


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=4, max_size=40), st.integers(0, 3), st.integers(0, 1000))
def test_a_held_out_question_leaves_no_twin_in_train(tmp_path_factory, numbers, heldout_size, seed):
    if len(set(numbers)) <= heldout_size:
        return
    source = _write(tmp_path_factory.mktemp("q") / "q.jsonl", [f"question {number}" for number in numbers])
    loaded = _load(seed=seed, source=source, heldout_size=heldout_size)
    held = _texts(loaded.heldout)
    assert len(set(held)) == len(held) == heldout_size
    # Duplicates are the user's weighting: train keeps every copy of what is not held out, in the file's order.
    assert _texts(loaded.train) == [text for text in (f"question {n}" for n in numbers) if text not in held]


def test_same_question_in_other_spacing_is_a_twin(tmp_path):
    source = _write(tmp_path / "q.jsonl", ["a  b", "a b", "c"])
    for seed in range(6):
        loaded = _load(seed=seed, source=source, heldout_size=1)
        assert not _prints(loaded.train) & _prints(loaded.heldout)


def test_too_few_distinct_questions_to_set_aside_are_refused_with_the_numbers(tmp_path):
    source = _write(tmp_path / "q.jsonl", ["a", "a", "b"])
    with pytest.raises(DataError, match=r"heldout_size = 2.*gave 3 questions, 2 of them distinct"):
        _load(source=source, heldout_size=2)


def test_heldout_file_is_read_once_each_up_to_heldout_size(tmp_path):
    source = _write(tmp_path / "train.jsonl", ["a", "b"])
    heldout = _write(tmp_path / "test.jsonl", ["c", "d", "c", "e"])
    assert _texts(_load(source=source, heldout=heldout).heldout) == ["c", "d", "e"]
    assert _texts(_load(source=source, heldout=heldout, heldout_size=2).heldout) == ["c", "d"]
    assert _texts(_load(source=source, heldout=heldout).train) == ["a", "b"]


def test_overlapping_files_are_refused_with_count_and_example(tmp_path):
    source = _write(tmp_path / "train.jsonl", ["a", "b", "what is  this", "c"])
    heldout = _write(tmp_path / "test.jsonl", ["x", "what is this", "c"])
    with pytest.raises(DataError) as caught:
        _load(source=source, heldout=heldout)
    assert "2 of 3 held-out questions" in caught.value.message
    assert "'test:2' = 'train:3': 'what is this'" in caught.value.message
    assert "train.jsonl" in caught.value.hint
    assert "test.jsonl" in caught.value.hint


def test_overlap_of_a_generated_source_with_a_file_is_refused(tmp_path):
    heldout = _write(tmp_path / "test.jsonl", ["What is 2 + 2?"])
    with pytest.raises(DataError, match="1 of 1 held-out"):
        _load(source="arithmetic", params={"kinds": ["sum"], "levels": [1]}, heldout=heldout)


def test_overlap_past_heldout_size_is_refused_too(tmp_path):
    source = _write(tmp_path / "train.jsonl", ["a"])
    heldout = _write(tmp_path / "test.jsonl", ["b", "a"])
    with pytest.raises(DataError, match="1 of 2 held-out"):
        _load(source=source, heldout=heldout, heldout_size=1)


def test_size_limits_the_source(tmp_path):
    source = _write(tmp_path / "q.jsonl", "abcdef")
    assert _texts(_load(source=source, size=4, heldout_size=0).train) == ["a", "b", "c", "d"]


def test_repeated_ids_are_told_apart(tmp_path):
    for name, prompts in (("train", "ab"), ("test", "cd")):
        rows = [{"prompt": prompt, "id": "same"} for prompt in prompts]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    loaded = _load(source=str(tmp_path / "train.json"), heldout=str(tmp_path / "test.json"))
    assert [q.id for q in (*loaded.train, *loaded.heldout)] == ["same", "same#2", "same#3", "same#4"]


def test_a_renamed_id_is_not_one_that_is_there_already(tmp_path):
    rows = [{"prompt": prompt, "id": name} for prompt, name in (("a", "x"), ("b", "x"), ("c", "x#2"))]
    (tmp_path / "q.json").write_text(json.dumps(rows))
    ids = [q.id for q in _load(source=str(tmp_path / "q.json"), heldout_size=0).train]
    assert ids == ["x", "x#3", "x#2"]


def test_system_comes_first_and_template_goes_around_the_last_user_message(tmp_path):
    turns = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "so")]
    row = {"prompt": [{"role": role, "content": content} for role, content in turns]}
    (tmp_path / "q.jsonl").write_text(json.dumps(row))
    fields = {"system": "Be brief.", "template": "Q: {question} {x}", "heldout_size": 0}
    (question,) = _load(source=str(tmp_path / "q.jsonl"), **fields).train
    assert [(m.role, m.content) for m in question.messages] == [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", "two"),
        ("user", "Q: three {x}"),
        ("assistant", "so"),
    ]


def test_held_out_questions_are_framed_as_training_ones_are(tmp_path):
    source, heldout = _write(tmp_path / "train.jsonl", "a"), _write(tmp_path / "test.jsonl", "b")
    loaded = _load(source=source, heldout=heldout, system="s", template="<{question}>")
    assert [[m.content for m in q.messages] for q in (*loaded.train, *loaded.heldout)] == [["s", "<a>"], ["s", "<b>"]]


def test_second_system_message_is_refused(tmp_path):
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    (tmp_path / "q.jsonl").write_text(json.dumps({"prompt": messages}))
    with pytest.raises(DataError, match=r"q.jsonl:1 .*already has a system message.*drop questions.system"):
        _load(source=str(tmp_path / "q.jsonl"), system="mine", heldout_size=0)


def test_template_without_a_user_message_is_refused(tmp_path):
    (tmp_path / "q.jsonl").write_text(json.dumps({"prompt": [{"role": "assistant", "content": "q"}]}))
    with pytest.raises(DataError, match=r"q.jsonl:1 .*no user message"):
        _load(source=str(tmp_path / "q.jsonl"), template="{question}", heldout_size=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "arithmetic", "template": "Answer:"}, r"questions.template = 'Answer:'.*put \{question\}"),
        ({"source": "arithmetic", "params": {"kind": ["sum"]}}, r"questions.params.kind.*did you mean 'kinds'"),
        ({"source": "arithmetic", "params": {"size": 3}}, "questions.params.size = 3.*set questions.size"),
        ({"source": "arithmetic", "params": {"seed": 3}}, "questions.params.seed = 3.*set seed"),
        ({"source": "arithmetic", "prompt_column": "q"}, "prompt_column = 'q'.*has no columns"),
        ({"source": "arithmetic", "answer_column": "a"}, "answer_column = 'a'.*has no columns"),
        ({"source": "reasoning_gym"}, "questions.params.name: missing"),
        ({"source": "q.jsonl", "params": {"kinds": ["sum"]}}, "questions.params .*'q.jsonl' is a file"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        _load(**fields)
