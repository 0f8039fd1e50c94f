"""A run's folder: what may be begun, resumed, or is in the way, whatever an earlier start left there."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from groupwise.config import read_recipe
from groupwise.errors import ConfigError, DataError
from groupwise.record import Recorder, open_record
from groupwise.record.place import found_in
from groupwise.run.place import check_changes, check_place, info_of
from tests.command import RECIPE, SMALL, groupwise
from tests.record.recorded_steps import write


@pytest.fixture(scope="module")
def words(tiny_folder):
    return ("train", RECIPE, f"model.path={tiny_folder}", *SMALL, "questions.heldout_size=0")


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory):
    """A run of four steps, with checkpoints after 2 and 4."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert groupwise(*words, "--run", folder).code == 0
    return folder


@pytest.fixture
def run(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def steps(folder):
    with closing(open_record(folder)) as record:
        return record.steps()


LEFT = {
    "no file": [],
    "the mark of who wrote": ["writer.json"],
    "half a recipe": ["writer.json", ".recipe.yaml.partial"],
    "a recipe": ["writer.json", "recipe.yaml"],
    "half a record": ["writer.json", "recipe.yaml", ".record.sqlite.partial", ".record.sqlite.partial-journal"],
    "an empty record": ["record.sqlite", "record.sqlite-wal", "record.sqlite-shm"],
    "a record set aside": ["writer.json", "recipe.yaml", "record.aside-1.sqlite", "record.aside-1.sqlite-wal"],
}


@pytest.mark.parametrize("left", LEFT)
def test_what_a_start_left_that_was_cut_short_blocks_nothing(tmp_path, left):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in LEFT[left]:
        (folder / name).touch()
    assert found_in(folder) == "nothing"
    assert check_place(folder, resume=False) is False
    if LEFT[left]:
        assert check_place(folder, resume=True) is False  # there is nothing to go on from: it begins


def test_a_recipe_that_the_user_put_there_is_not_ours_to_write_over(tmp_path):
    (tmp_path / "recipe.yaml").write_text("mine")
    with pytest.raises(DataError, match="it exists and is not an empty folder"):
        check_place(tmp_path, resume=False)


def test_a_name_that_is_too_long_is_told_in_one_short_line():
    with pytest.raises(DataError, match=r"^--run x{50,95}\.\.\.: File name too long; give another name$"):
        check_place(Path("x" * 300), resume=False)


def test_a_run_without_a_step_begins_anew_by_the_same_command(tmp_path, words):
    folder = tmp_path / "run"
    Recorder.create(folder, {"recipe": "other"}).close()
    assert found_in(folder) == "started"
    done = groupwise(*words, "update.steps=1", "--run", folder)
    assert done.code == 0, done.err
    assert f"{folder} held a run without a step, which begins anew; its record is record.aside-1.sqlite" in done.err
    assert steps(folder) == [0]


def test_a_run_that_a_full_disk_ended_before_its_record_was_whole_begins_by_the_same_command(
    tmp_path, words, monkeypatch
):
    folder = tmp_path / "run"
    connect = sqlite3.connect

    def full(*given, **named):
        database = connect(*given, **named)
        database.execute("PRAGMA max_page_count = 3")
        return database

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", full)
        ended = groupwise(*words, "update.steps=1", "--run", folder)
    assert ended.code == 1
    assert re.search(r"record \S+ cannot be written: .*full; free space there, then start the run again$", ended.err)
    assert list(folder.iterdir()) == []
    assert groupwise(*words, "update.steps=1", "--run", folder).code == 0


def test_a_run_without_its_recipe_has_it_from_its_record(run):
    (run / "recipe.yaml").unlink()
    done = groupwise("train", "--run", run, "--resume", "update.steps=5")
    assert done.code == 0, done.err
    assert steps(run) == [0, 1, 2, 3, 4]


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(run):
    with (run / "checkpoints" / "step-000004" / "optimizer.safetensors").open("r+b") as file:
        file.truncate(1000)
    done = groupwise("train", "--run", run, "--resume", "update.steps=5")
    assert done.code == 0, done.err
    assert "damaged checkpoint left out: " in done.err
    with closing(open_record(run)) as record:
        assert {(row.step, row.attempt) for row in record.outputs()} == {(0, 0), (1, 0), (2, 1), (3, 1), (4, 1)}


def test_eval_takes_the_checkpoint_before_a_damaged_one(run):
    (run / "checkpoints" / "step-000004" / "manifest.json").write_text("[1, 2]")
    done = groupwise("eval", run, "questions.heldout_size=4", "--json")
    assert done.code == 0, done.err
    assert "damaged checkpoint left out" in done.err
    assert json.loads(done.out)["steps"] == 2


def lost(run):
    for file in run.glob("record.sqlite*"):
        file.unlink()


def damaged(run):
    file = run / "record.sqlite"
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * 64 + content[4160:])


def not_a_record(run):
    (run / "record.sqlite").write_bytes(b"a diary" * 100)


@pytest.mark.parametrize("harm", [lost, damaged, not_a_record])
def test_a_lost_record_is_named_and_a_run_goes_on_without_it_if_the_user_says_so(run, harm):
    harm(run)
    for words in (("--resume",), ()):
        refused = groupwise("train", *(() if words else (RECIPE,)), "--run", run, *words)
        assert refused.code == 2
        assert "Traceback" not in refused.err
        assert len(refused.err.splitlines()) == 1
    refused = groupwise("train", "--run", run, "--resume", "update.steps=6")
    assert "--resume --accept-loss" in refused.err
    done = groupwise("train", "--run", run, "--resume", "--accept-loss", "update.steps=6")
    assert done.code == 0, done.err
    assert f"{run}: steps 1 to 4 are not on record" in done.err
    assert steps(run) == [4, 5]
    assert (run / "record.aside-1.sqlite").exists() == (harm is not lost)
    more = groupwise("train", "--run", run, "--resume", "update.steps=7")
    assert more.code == 0, more.err


def test_a_record_that_lacks_steps_is_named_and_gone_on_with_if_the_user_says_so(run):
    with closing(sqlite3.connect(run / "record.sqlite")) as database:  # as a log that was cut leaves it
        for table in ("metrics", "outputs", "steps"):
            if table == "outputs":
                database.execute("DELETE FROM reward_parts WHERE output IN (SELECT id FROM outputs WHERE step >= 2)")
            database.execute(f"DELETE FROM {table} WHERE step >= 2")
        database.commit()
    refused = groupwise("train", "--run", run, "--resume", "update.steps=5")
    assert refused.code == 1
    assert "lacks 2 of the 4 steps before its checkpoint, the first is step 3: its log" in refused.err
    done = groupwise("train", "--run", run, "--resume", "--accept-loss", "update.steps=5")
    assert done.code == 0, done.err
    assert f"{run}: step(s) 3 to 4 are not on record" in done.err
    assert steps(run) == [0, 1, 4]


def test_a_reader_that_holds_the_log_back_is_told_of(tmp_path):
    recorder = Recorder.create(tmp_path, {})
    write(recorder, 0)
    with closing(sqlite3.connect(recorder.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM steps").fetchone()
        write(recorder, 1)
        assert recorder.fold(0) == "a program is reading it"
        reader.execute("COMMIT")
        assert recorder.fold() == ""
        with closing(sqlite3.connect(f"{recorder.path.as_uri()}?immutable=1", uri=True)) as alone:
            assert alone.execute("SELECT count(*) FROM steps").fetchone() == (2,)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM steps").fetchone()
        write(recorder, 2)
        assert recorder.close() == "a program is reading it"


def test_the_best_checkpoint_is_kept_by_the_figure_that_is_named(tmp_path, words):
    own = ("questions.heldout_size=8", "update.steps=6", "evaluate.every=1", "run.keep_checkpoints=1")
    done = groupwise(*words, *own, "run.keep_best=reward/number", "--run", tmp_path / "run")
    assert done.code == 0, done.err
    with closing(open_record(tmp_path / "run")) as record:
        found = {e.step: e.figures["reward/number"]["value"] for e in record.evaluations() if e.step}
    best = json.loads((tmp_path / "run" / "checkpoints" / "best.json").read_text())
    assert best == {"step": max(found, key=found.get), "metric": "reward/number", "value": max(found.values())}
    kept = {path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")}
    assert kept == {f"step-{step:06d}" for step in (best["step"], 6)}


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (("run.keep_best=accuracy",), r"evaluate\.every = 0 of 4 steps: only the last weights are evaluated; set"),
        (
            ("run.keep_best=acc", "evaluate.every=2", "questions.heldout_size=4"),
            r"run\.keep_best = 'acc': the evaluation has no such figure; it has: .*accuracy",
        ),
        (("run.keep_best=accuracy", "evaluate.every=2"), "the evaluation has no such figure; it has: none"),
    ],
)
def test_a_best_that_cannot_be_told_is_refused(tmp_path, words, own, said):
    done = groupwise(*words, *own, "--run", tmp_path / "run")
    assert done.code == 2
    assert re.search(said, done.err.splitlines()[-1]), done.err


def test_a_users_function_that_was_edited_is_named_by_the_rule_of_its_key(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file, module = tmp_path / "mine.py", tmp_path / "ours.py"
    for each in (file, module):
        each.write_text("def right(text, answer):\n    return 1.0\n")
    own = ("rewards.0.function=mine.py:right", "objective.loss=ours:loss")
    recipe = read_recipe(RECIPE, own)
    info = info_of(recipe)
    check_changes(recipe, Path("run"), info)
    assert capsys.readouterr().err == ""
    file.write_text("def right(text, answer):\n    return 0.0\n")
    check_changes(recipe, Path("run"), info)
    said = "changed since the run was last started: the text of mine.py (rewards.0.function)\n"
    assert capsys.readouterr().err == said
    module.write_text("")
    check_changes(recipe, Path("run"), info)
    assert "the text of mine.py (rewards.0.function), the text of ours.py (objective.loss)" in capsys.readouterr().err
    check_changes(recipe, Path("run"), info_of(recipe))  # as the last attempt had them
    monkeypatch.setattr(type(recipe), "fixed", ("rewards",))
    with pytest.raises(ConfigError, match=r"rewards\.0\.function: mine\.py is not the text that the run in run began"):
        check_changes(recipe, Path("run"), info)
    other = read_recipe(RECIPE, ("objective.loss=ours:loss",))  # the function itself was changed: said once
    monkeypatch.undo()
    check_changes(other, Path("run"), info)
    assert "the text of mine.py" not in capsys.readouterr().err
