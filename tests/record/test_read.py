import os
from contextlib import closing

import pytest

from groupwise.errors import DataError
from groupwise.record import Recorder, list_runs, open_record
from tests.record.recorded_steps import group, question, start_writer, write


def stop(writer):
    writer.kill()
    writer.communicate()


def test_a_reader_sees_whole_steps_while_the_run_goes_on(tmp_path):
    writer = start_writer(tmp_path)
    try:
        writer.stdout.readline()
        with closing(open_record(tmp_path)) as record:
            seen = []
            while not seen or seen[-1] < 15:
                outputs = [row.step for row in record.outputs()]
                assert outputs == sorted([*range(outputs[-1] + 1)] * 6)  # 2 groups of 3
                metrics = record.metrics()
                assert len(metrics) == 2 * (metrics[-1][0] + 1)
                seen.append(outputs[-1])
    finally:
        stop(writer)
    assert len(set(seen)) > 1


def test_outputs_are_chosen_by_step_and_question_and_limited(tmp_path):
    recorder = Recorder.create(tmp_path, {})
    for step in range(3):
        write(recorder, step, [group(n) for n in range(2)])
    with closing(open_record(tmp_path)) as record:

        def places(*chosen, **limit):
            return [(r.step, r.question_id, r.sample) for r in record.outputs(*chosen, **limit)]

        assert places(1) == [(1, "q0", 0), (1, "q0", 1), (1, "q1", 0), (1, "q1", 1)]
        assert places(None, "q1") == [(step, "q1", sample) for step in range(3) for sample in range(2)]
        assert places(2, "q0", limit=1) == [(2, "q0", 0)]
        assert len(places()) == 12
        assert places(limit=0) == []
        assert places(7) == []
    recorder.close()


def test_a_step_is_found_without_reading_the_others(tmp_path):
    recorder = Recorder.create(tmp_path, {})
    write(recorder, 0)
    query = "EXPLAIN QUERY PLAN SELECT * FROM latest_outputs WHERE {} = ? ORDER BY step, attempt, group_index, sample"
    for column in ("step", "question_id"):
        plan = [row[3] for row in recorder._db.execute(query.format(column), (0,))]
        assert any("SEARCH o USING INDEX" in line and f"({column}=?" in line for line in plan), plan
    recorder.close()


def test_a_finished_run_is_read_beside_its_directory_name_with_odd_characters(tmp_path):
    run = tmp_path / "50% of #1? é"
    recorder = Recorder.create(run, {"stage": "rl"})
    recorder.close()
    with closing(open_record(run)) as record:
        assert record.info()["stage"] == "rl"


def test_a_reader_cannot_write(tmp_path):
    Recorder.create(tmp_path, {}).close()
    with closing(open_record(tmp_path)) as record, pytest.raises(DataError, match="readonly"):
        list(record._rows("DELETE FROM run"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder")
def test_a_finished_run_is_read_in_a_folder_that_may_not_be_written_to(tmp_path):
    recorder = Recorder.create(tmp_path, {})
    write(recorder, 0)
    recorder.close()
    tmp_path.chmod(0o500)
    try:
        with closing(open_record(tmp_path)) as record:
            assert record.steps() == [0]
    finally:
        tmp_path.chmod(0o700)


def test_a_directory_without_a_record_is_the_users_error(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DataError, match="holds no run"):
            open_record(path)


@pytest.mark.parametrize("content", [b"", b"not a database" * 100], ids=["empty", "other"])
def test_a_file_that_is_no_record_is_the_users_error(tmp_path, content):
    (tmp_path / "record.sqlite").write_bytes(content)
    with pytest.raises(DataError, match=r"record\.sqlite"):
        open_record(tmp_path)


def test_a_damaged_record_is_told_in_one_line(tmp_path):
    recorder = Recorder.create(tmp_path, {})
    for step in range(20):
        write(recorder, step, [group(text="x" * 4096)])
    recorder.close()
    path = tmp_path / "record.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"\xff" * (len(whole) // 2))
    with closing(open_record(tmp_path)) as record, pytest.raises(DataError, match="cannot be read") as caught:
        list(record.outputs())
    assert "\n" not in str(caught.value)


def test_runs_are_listed_with_their_state_and_accuracy(tmp_path):
    done = Recorder.create(tmp_path / "done", {"started": "2026-01-01", "stage": "rl", "model": "tiny", "steps": "2"})
    done.add_questions("heldout", [question(9)])
    done.write_evaluation("before", 0, figures={"accuracy": 0.25})
    write(done, 0)
    write(done, 1)
    done.write_evaluation("after", 2, figures={"accuracy": 0.5})
    done.set_info("state", "finished")
    done.close()
    Recorder.create(tmp_path / "a later one", {"started": "2026-01-02"}).close()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "record.sqlite").write_text("no record")
    (tmp_path / "not a run").mkdir()
    broken, first, ended = list_runs(tmp_path)
    assert (broken.path.name, broken.state) == ("broken", "unreadable")
    assert (first.state, first.stage, first.model, first.last_step, first.steps) == ("finished", "rl", "tiny", 1, 2)
    assert (first.accuracy_before, first.accuracy_after) == (0.25, 0.5)
    assert (ended.state, ended.last_step, ended.steps, ended.accuracy_after) == ("stopped", None, None, None)


def test_the_runs_of_a_comparison_or_a_pipeline_stand_behind_it(tmp_path):
    for place, begun in (
        ("both/rloo/seed-0", "2026-01-03"),
        ("both/grpo/seed-0", "2026-01-02"),
        ("r1/sft", "2026-01-05"),
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Recorder.create(tmp_path / place, {"started": begun}).close()
    finished = Recorder.create(tmp_path / "alone", {"started": "2026-01-04"})
    finished.set_info("state", "finished")
    finished.close()
    (tmp_path / "both" / "compare.json").write_text("{}")
    (tmp_path / "r1" / "pipeline.yaml").write_text("")
    found = list_runs(tmp_path)
    assert [(str(run.path.relative_to(tmp_path)), run.kind) for run in found] == [
        ("both", "comparison"),
        ("both/grpo/seed-0", "run"),
        ("both/rloo/seed-0", "run"),
        ("alone", "run"),
        ("r1", "pipeline"),
        ("r1/sft", "run"),
    ]
    assert (found[0].state, found[0].last_step, found[0].steps) == ("stopped", -1, 2)  # none of its 2 runs is finished
    assert [run.path.name for run in list_runs(tmp_path / "alone")] == ["alone"]  # a run itself


def test_a_folder_that_is_not_there_holds_no_runs(tmp_path):
    assert list_runs(tmp_path / "runs") == []


def test_a_run_is_running_until_its_process_is_killed(tmp_path):
    writer = start_writer(tmp_path / "run")
    try:
        writer.stdout.readline()
        assert [run.state for run in list_runs(tmp_path)] == ["running"]
        writer.kill()
        os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet waited for by its parent
        assert [run.state for run in list_runs(tmp_path)] == ["stopped"]
    finally:
        stop(writer)
    assert [run.state for run in list_runs(tmp_path)] == ["stopped"]
