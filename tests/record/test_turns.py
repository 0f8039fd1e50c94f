"""The turns of an episode and its outcome, as the record keeps and gives them."""

import json
from contextlib import closing
from dataclasses import replace

import pytest

from groupwise.api import open_run
from groupwise.data import Group, Image, Message, Reward, Sample, ToolCall, message_of_parts
from groupwise.pictures import digest_of
from groupwise.record import Answer, Recorder, open_record
from groupwise.record.turns import LEFT_OUT, MOST_OUTCOME, bounded, conversation
from tests.drawn import file_of
from tests.record.recorded_steps import output, question, write

RAW = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
TURNS = (
    Message(
        "assistant", f"first {RAW} {RAW}", calls=(ToolCall("add", {"a": 1}, RAW), ToolCall("", {}, "{", "no JSON"))
    ),
    Message("tool", "2 \ud800"),  # a lone surrogate is legal JSON
    message_of_parts("user", ["see ", Image("a.png", digest_of(file_of()), data=file_of())]),
    Message("assistant", "2"),
)
SPANS = ((0, 1), (1, 2), (1, 2), (2, 3))
EPISODE = replace(output(), messages=TURNS, spans=SPANS, outcome={"reward": 1.0, "moves": [1, 2]})


def calls(messages):
    return [[(call.name, dict(call.arguments), call.raw, call.error) for call in m.calls] for m in messages]


def recorded(folder, *outputs, keep="full"):
    recorder = Recorder.create(folder, {"stage": "rl", "recipe": "model: {path: tiny}\n"}, keep=keep)
    write(recorder, 0, [Group(question(), tuple(Sample(one, Reward(1.0)) for one in outputs))])
    recorder.write_evaluation(
        "after",
        1,
        figures={},
        answers=[Answer("q0", -1, "2", 1.0, None, "stop", 3, EPISODE.messages, EPISODE.spans, EPISODE.outcome)],
    )
    recorder.close()
    return folder


@pytest.mark.parametrize("keep", ["full", "texts"])
def test_an_episode_is_read_back_with_every_turn_its_calls_tokens_and_outcome(tmp_path, keep):
    with closing(open_record(recorded(tmp_path / "run", EPISODE, output(), keep=keep))) as record:
        found, alone = (row.output for row in record.outputs())
        [answer] = record.answers(record.evaluations()[0])
    for read in (found, answer):
        assert (read.messages, read.spans, read.outcome) == (TURNS, SPANS, EPISODE.outcome)
        assert calls(read.messages) == calls(TURNS)
    assert (alone.messages, alone.spans, alone.outcome) == ((), (), {})


def test_where_scores_alone_are_kept_there_are_no_turns(tmp_path):
    with closing(open_record(recorded(tmp_path / "run", EPISODE, keep="scores"))) as record:
        [row] = record.outputs()
    assert (row.output.messages, row.output.outcome) == ((), {})


def test_rows_show_who_said_what_and_which_tokens_it_is(tmp_path):
    with open_run(recorded(tmp_path / "run", EPISODE, output())) as run:
        row, alone = run.outputs()
        [answer] = run.answers()
    assert [(turn["role"], turn["tokens"]) for turn in row["turns"]] == [
        ("assistant", [0, 1]),
        ("tool", [1, 2]),
        ("user", [1, 2]),
        ("assistant", [2, 3]),
    ]
    assert row["turns"][0]["calls"][0] == {"name": "add", "arguments": {"a": 1}, "raw": [6, 6 + len(RAW)]}
    assert row["outcome"] == answer["outcome"] == {"reward": 1.0, "moves": [1, 2]}
    assert answer["turns"] == row["turns"]
    assert "turns" not in alone
    assert conversation(row["turns"]).splitlines()[2] == "user: see <image>"


def test_a_long_outcome_keeps_its_figures_and_names_what_it_leaves_out():
    found = bounded({"reward": 0.5, "pages": "x" * MOST_OUTCOME, "won": True})
    assert found == {"reward": 0.5, "won": True, LEFT_OUT: ["pages"]}
    many = bounded({f"{number} {'n' * 300}": number for number in range(2000)} | {"reward": 1.0})
    assert len(json.dumps(many)) < MOST_OUTCOME
