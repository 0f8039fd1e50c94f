import os
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from groupwise.data import Group, Message, Part, Question, Reward, Sample
from groupwise.errors import DataError, RunError
from groupwise.record import Answer, Recorder, open_record
from tests.record.recorded_steps import group, output, question, start_writer, write


@pytest.fixture
def recorder(tmp_path):
    recorder = Recorder.create(tmp_path / "run", {"stage": "rl", "recipe": "model: {path: tiny}\n"})
    yield recorder
    recorder.close()


def read(recorder):
    return closing(open_record(recorder.path.parent))


def assert_same_output(a, b):
    for name in ("question_tokens", "tokens", "sampled", "logprobs"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
        assert getattr(a, name).dtype == getattr(b, name).dtype, name
    assert (a.text, a.finish, a.policy_version) == (b.text, b.finish, b.policy_version)


def test_a_step_is_read_back_as_it_was_written(recorder):
    failed = Reward(None, {"math": Part("failed", detail="Traceback"), "form": Part("abstained")})
    scored = Reward(1.5, {"math": Part("value", 1.0), "form": Part("value", 0.5)}, steps=((0, 0.25), (2, 1.25)))
    written = Group(question(3, meta={"level": 2}), (Sample(output("a"), scored), Sample(output("b", 0), failed)))
    recorder.write_step(4, [written], advantages=[[0.9375, None]], metrics={"accuracy": 0.5})
    with read(recorder) as record:
        rows = list(record.outputs())
        assert [(r.step, r.attempt, r.group_index, r.question_id, r.sample) for r in rows] == [
            (4, 0, 0, "q3", 0),
            (4, 0, 0, "q3", 1),
        ]
        assert [r.advantage for r in rows] == [0.9375, None]
        assert [r.reward for r in rows] == [scored, failed]
        for row, sample in zip(rows, written.samples, strict=True):
            assert_same_output(row.output, sample.output)
        assert list(record.questions()) == [written.question]
        assert record.metrics() == [(4, "accuracy", 0.5)]
        assert record.steps() == [4]


def test_no_steps_found_is_not_the_same_as_no_function_that_looks_for_them(recorder):
    rewards = [Reward(1.0, {}, steps) for steps in ((), None, ((2, 0.5),))]
    write(recorder, 0, [Group(question(), tuple(Sample(output(), reward) for reward in rewards))])
    with read(recorder) as record:
        assert [row.reward for row in record.outputs()] == rewards


def test_an_evaluation_is_read_back_as_it_was_written(recorder):
    answers = [Answer("q1", -1, "2", 1.0, None, "stop", 3), Answer("q1", 0, "", 0.0, 0.5, "length", 9)]
    recorder.add_questions("heldout", [question(1)])
    recorder.write_evaluation("before", 0, figures={"accuracy": 0.5, "pass": {"8": 1.0}}, answers=answers)
    recorder.write_evaluation("after", 9, figures={"accuracy": np.float32(0.75), "odd": float("nan")})
    with read(recorder) as record:
        before, after = record.evaluations()
        assert (before.name, before.step, before.figures) == ("before", 0, {"accuracy": 0.5, "pass": {"8": 1.0}})
        assert after.figures == {"accuracy": 0.75, "odd": None}
        assert record.answers(before) == answers
        assert record.answers(after) == []


def test_nan_and_infinite_metrics_are_kept_as_unknown(recorder):
    write(recorder, 0, kl=float("nan"), grad_norm=float("inf"), entropy=np.float32(0.5))
    with read(recorder) as record:
        assert record.metrics() == [(0, "entropy", 0.5), (0, "grad_norm", None), (0, "kl", None)]
        assert record.metrics("kl") == [(0, "kl", None)]


def test_a_metric_outside_the_catalogue_is_refused_before_anything_is_written(recorder):
    with pytest.raises(KeyError):
        write(recorder, 0, los=1.0)
    with read(recorder) as record:
        assert record.steps() == []


HOSTILE = [
    "a\0b\0",
    "\0",
    "",
    "🙂 𝕏 é ﷽",
    "\ud800",
    "x\udfff🙂\0",
    "\ud83d\ude42",
    "y" * 2**20,
    "'; DROP TABLE run; --",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_read_back_to_the_letter(recorder, text):
    parts = {text: Part("failed", detail=text)}
    asked = Question(f"id {text}", (Message("user", text),), answer=text, meta={text: [text]})
    written = Group(asked, (Sample(output(text), Reward(None, parts)),) * 2)
    write(recorder, 0, [written])
    recorder.write_evaluation("step", 0, figures={"worst": text}, answers=[Answer(asked.id, -1, text, 1, 1, "stop", 1)])
    recorder.set_info("recipe", text)
    with read(recorder) as record:
        rows = list(record.outputs(question=asked.id))
        assert [(r.output.text, r.reward.parts, r.question_id) for r in rows] == [(text, parts, asked.id)] * 2
        assert list(record.questions()) == [asked]
        (evaluation,) = record.evaluations()
        assert evaluation.figures == {"worst": text}
        assert [a.text for a in record.answers(evaluation)] == [text]
        assert record.info()["recipe"] == text


def test_valid_text_can_be_searched_with_plain_sql(recorder):
    write(recorder, 0, [group(text="né 🙂")])
    with closing(sqlite3.connect(recorder.path)) as db:
        assert db.execute("SELECT count(*) FROM latest_outputs WHERE text LIKE '%é 🙂%'").fetchone() == (2,)


def test_a_large_step_is_read_back_whole(recorder):
    # 64 questions x 8 samples = 512 outputs of 2 KB
    write(recorder, 0, [group(n, (0.0, 1.0) * 4, text="x" * 2048, tokens=512) for n in range(64)])
    with read(recorder) as record:
        assert sum(len(row.output.text) for row in record.outputs(step=0)) == 512 * 2048


def test_questions_added_twice_are_kept_once(recorder):
    recorder.add_questions("train", [question(0), question(1)])
    recorder.add_questions("heldout", [question(2), question(1)])
    write(recorder, 0)
    with read(recorder) as record:
        assert [q.id for q in record.questions("train")] == ["q0", "q1"]
        assert [q.id for q in record.questions("heldout")] == ["q2"]


def test_one_id_for_two_questions_is_refused(recorder):
    recorder.add_questions("train", [question(0)])
    with pytest.raises(DataError, match="'q0' names two different questions"):
        recorder.add_questions("heldout", [Question("q0", (Message("user", "Another?"),))])


def test_a_question_drawn_twice_in_a_step_keeps_its_two_groups(recorder):
    write(recorder, 0, [group(0, (1.0, 0.0)), group(0, (0.5, 0.25))])
    with read(recorder) as record:
        rewards = [(r.group_index, r.reward.value) for r in record.outputs(question="q0")]
    assert rewards == [(0, 1.0), (0, 0.0), (1, 0.5), (1, 0.25)]


def test_meta_that_json_lacks_is_kept_as_its_repr_or_as_a_list(recorder):
    recorder.add_questions("train", [question(0, answer={1}, meta={"nums": np.array([1, 2]), "n": np.int64(3)})])
    with read(recorder) as record:
        (kept,) = record.questions()
    assert (kept.answer, kept.meta) == ("{1}", {"nums": [1, 2], "n": 3})


def test_meta_that_cannot_be_json_is_named(recorder):
    with pytest.raises(DataError, match="meta of question 'q0'"):
        recorder.add_questions("train", [question(0, meta={(1, 2): 3})])


def test_a_step_that_breaks_halfway_leaves_nothing(recorder):
    write(recorder, 0)
    with pytest.raises(ValueError, match="shorter"):
        recorder.write_step(1, [group(), group()], advantages=[[0.5, 0.5], [0.5]], metrics={"accuracy": 1.0})
    write(recorder, 1)
    with read(recorder) as record:
        assert record.steps() == [0, 1]
        assert len(list(record.outputs(step=1))) == 4


def test_a_full_disk_is_told_in_one_line_and_keeps_the_steps_before(recorder):
    write(recorder, 0)
    pages = recorder._db.execute("PRAGMA page_count").fetchone()[0]
    recorder._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(RunError, match=r"record\.sqlite cannot be written: .*full; free space") as caught:
        write(recorder, 1, [group(text="x" * 2**16)])
    assert "\n" not in str(caught.value)
    with read(recorder) as record:
        assert record.steps() == [0]
        assert len(list(record.outputs())) == 4
    recorder._db.execute(f"PRAGMA max_page_count = {pages + 100}")
    write(recorder, 1)
    with read(recorder) as record:
        assert record.steps() == [0, 1]


def test_a_locked_record_is_told_in_one_line(recorder):
    recorder._db.execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(recorder.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RunError, match=r"record\.sqlite cannot be written: database is locked; end the program"):
            write(recorder, 0)


def test_the_latest_views_show_what_led_to_the_weights_there_are(tmp_path):
    first = Recorder.create(tmp_path, {})
    for step in range(4):
        write(first, step, accuracy=0.0, kl=0.0)
    for step in (0, 2, 4):
        first.write_evaluation("step", step, figures={"accuracy": 0.0})
    first.close()
    # resumed at step 2 and ended after it: steps 0 and 1 are the first attempt's, step 2 the second's; step 3 and what
    # was measured after it are given up, and what was measured before step 2 stands
    second = Recorder.resume(tmp_path, 2)
    write(second, 2, [group(5)], accuracy=1.0)
    second.close()
    with closing(open_record(tmp_path)) as record:
        assert record.steps() == [0, 1, 2]
        assert record.metrics("accuracy") == [(n, "accuracy", float(n == 2)) for n in range(3)]
        assert [step for step, _, _ in record.metrics("kl")] == [0, 1]
        assert [(r.step, r.attempt) for r in record.outputs()] == [(0, 0)] * 4 + [(1, 0)] * 4 + [(2, 1)] * 2
        assert [(e.step, e.attempt) for e in record.evaluations()] == [(0, 0), (2, 0)]
    with closing(sqlite3.connect(tmp_path / "record.sqlite")) as db:
        assert db.execute("SELECT count(*) FROM outputs").fetchone() == (18,)  # 4 x 4 of the first and 2: none deleted
        assert db.execute("SELECT attempt, first_step FROM attempts").fetchall() == [(0, 0), (1, 2)]


def test_an_evaluation_done_again_is_seen_as_the_last_attempt_made_it(tmp_path):
    for attempt, accuracy in enumerate((0.25, 0.5)):
        recorder = Recorder.resume(tmp_path, 0) if attempt else Recorder.create(tmp_path, {})
        recorder.write_evaluation("before", 0, figures={"accuracy": accuracy})
        recorder.close()
    with closing(open_record(tmp_path)) as record:
        assert [(e.attempt, e.figures["accuracy"]) for e in record.evaluations()] == [(1, 0.5)]


@pytest.mark.parametrize("keep", ["full", "texts", "scores"])
def test_a_run_keeps_of_its_outputs_what_it_is_asked_to(tmp_path, keep):
    with closing(Recorder.create(tmp_path, {}, keep=keep)) as recorder:
        write(recorder, 0, [group(0, text="two")])
    with closing(open_record(tmp_path)) as record:
        rows = list(record.outputs())
    assert [row.length for row in rows] == [3, 3]
    assert [row.reward.value for row in rows] == [1.0, 0.0]
    assert {row.output.text for row in rows} == {"" if keep == "scores" else "two"}
    for name, length in {"tokens": 3, "sampled": 3, "logprobs": 3, "question_tokens": 2}.items():
        assert {len(getattr(row.output, name)) for row in rows} == {length if keep == "full" else 0}


def test_the_tokens_of_a_question_are_kept_once(recorder):
    for step in range(3):
        write(recorder, step, [group(0, (1.0,) * 8), group(1, (0.0,) * 8)])
    with closing(sqlite3.connect(recorder.path)) as db:
        assert db.execute("SELECT count(*), length(tokens) FROM prompts").fetchone() == (1, 8)  # both read 5, 6
        assert db.execute("SELECT count(*) FROM latest_outputs WHERE length(question_tokens) = 8").fetchone() == (48,)


def test_a_run_is_not_written_over(tmp_path):
    with closing(Recorder.create(tmp_path, {})) as recorder:
        write(recorder, 0)
        with pytest.raises(DataError, match=f"is being written by process {os.getpid()}"):
            Recorder.create(tmp_path, {})
    with pytest.raises(DataError, match="already holds a run"):
        Recorder.create(tmp_path, {})
    with read(recorder) as record:
        assert record.steps() == [0]


def test_a_directory_without_a_run_is_not_resumed(tmp_path):
    with pytest.raises(DataError, match="no run to resume"):
        Recorder.resume(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_record_is_neither_resumed_nor_written_over(tmp_path):
    (tmp_path / "record.sqlite").write_bytes(b"a diary" * 1000)
    with pytest.raises(DataError, match="is not a record, or damaged"):
        Recorder.resume(tmp_path, 1)
    with pytest.raises(DataError, match="already holds a run"):
        Recorder.create(tmp_path, {})
    assert (tmp_path / "record.sqlite").read_bytes() == b"a diary" * 1000


def test_a_living_writer_keeps_its_record_and_a_killed_one_loses_no_step(tmp_path):
    writer = start_writer(tmp_path)
    try:
        for line in writer.stdout:
            if int(line) == 5:
                break
        with pytest.raises(DataError, match=f"is being written by process {writer.pid}"):
            Recorder.resume(tmp_path, 6)
    finally:
        writer.kill()
        told = [int(line) for line in writer.stdout.read().split()]
        writer.wait()
        writer.stdout.close()
    last = max([5, *told])
    with closing(open_record(tmp_path)) as record:
        steps = record.steps()
        assert steps == list(range(len(steps)))
        assert steps[-1] in (last, last + 1)  # a step may be on the disk and not yet told of
        assert len(list(record.outputs())) == 6 * len(steps)
        assert len(record.metrics()) == 2 * len(steps)
    again = Recorder.resume(tmp_path, steps[-1] + 1)
    write(again, steps[-1] + 1)
    again.close()
    with closing(open_record(tmp_path)) as record:
        assert record.steps() == [*steps, steps[-1] + 1]
