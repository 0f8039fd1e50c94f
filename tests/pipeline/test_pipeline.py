"""A pipeline that runs: what it leaves, what becomes of it when it is killed, what is not done twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from groupwise.config import read_recipe
from groupwise.errors import DataError
from groupwise.pipeline.plan import make_plan
from groupwise.pipeline.run import run_pipeline
from groupwise.train_process import is_finished
from tests.command import groupwise
from tests.forked import runs_are_forks
from tests.project.sources import ROOT

RECIPE = str(ROOT / "recipes" / "pipeline.yaml")
SHORT = (
    *(f"stages.{name}.update.steps={steps}" for name, steps in (("cold_start", 6), ("reasoning", 4), ("taught", 3))),
    *("stages.collected.rejection.keep=every", "stages.collected.rollout.max_new_tokens=8"),  # hardly any is right yet
    *(f"stages.{name}.examples.per_step=4" for name in ("cold_start", "taught")),
    *("stages.taught.examples.heldout_size=2", "stages.reasoning.rollout.questions_per_step=4"),
    *("stages.cold_start.measure=[]", "stages.reasoning.measure=[]"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        runs_are_forks(patch)
        done = groupwise("pipeline", RECIPE, *SHORT, "--run", folder, "--json")
    assert done.code == 0, done.err
    *events, values = map(json.loads, done.out.splitlines())
    assert events[0] == {
        "event": "begin",
        "run": str(folder),
        "runs": ["cold_start", "reasoning", "collected", "taught"],
    }
    assert values.pop("event") == "end"
    return folder, values


def test_each_stage_is_a_run_and_each_policy_is_measured(finished):
    folder, values = finished
    assert [stage["name"] for stage in values["stages"]] == ["base", "cold_start", "reasoning", "collected", "taught"]
    measured = {stage["name"] for stage in values["stages"] if "digits" in stage["measured"]}
    assert measured == {"base", "taught"}
    assert values["to_do"] == []
    assert (folder / "taught" / "checkpoints" / "step-000003" / "model.safetensors").exists()
    assert (folder / "pipeline.png").stat().st_size > 10_000
    table = (folder / "pipeline.md").read_text()
    assert "| taught " in table
    assert table.startswith(f"# {folder.name}\n")  # whether or not it was resumed


def test_of_a_finished_stage_weights_are_kept_and_moments_are_not(finished):
    files = {path.name for path in (finished[0] / "taught" / "checkpoints" / "step-000003").iterdir()}
    assert "model.safetensors" in files
    assert not any(name.startswith("optimizer") for name in files)


def test_what_is_finished_is_not_run_again(finished):
    folder, values = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    done = groupwise("pipeline", "--run", folder, "--resume", "--json")
    assert done.code == 0, done.err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == before
    assert json.loads(done.out.splitlines()[-1])["stages"] == values["stages"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--run", "{folder}"], r"a pipeline is there already; add --resume"),
        (["--run", "{folder}", "--resume", "stages.cold_start.update.steps=7"], r"update.steps = 6, wanted is 7"),
        (["--run", "{folder}/taught"], r"it holds something that is no pipeline"),
    ],
)
def test_a_folder_that_is_in_the_way_is_refused(finished, words, said):
    given = [word.format(folder=finished[0]) for word in words]
    done = groupwise("pipeline", RECIPE, *SHORT, *given)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1


@pytest.mark.long
def test_a_pipeline_killed_in_a_stage_goes_on_there_and_ends_as_one_that_was_not(finished, tmp_path):
    folder = tmp_path / "killed"
    words = ["pipeline", RECIPE, *SHORT, "run.checkpoint_every=1", "--run", str(folder)]
    child = subprocess.Popen(
        [sys.executable, "-m", "groupwise", *words], stderr=subprocess.DEVNULL, start_new_session=True
    )
    until(lambda: (folder / "reasoning" / "checkpoints" / "step-000002" / "manifest.json").exists())
    for pid in [child.pid, *children(child.pid)]:
        os.kill(pid, signal.SIGKILL)
    child.wait()
    done = groupwise("pipeline", "--run", folder, "--resume", "--json")
    assert done.code == 0, done.err
    assert "cold_start  finished already" in done.err
    kept = [(place / "collected" / "examples.jsonl").read_text() for place in (folder, finished[0])]
    assert kept[0].replace(str(folder), "") == kept[1].replace(str(finished[0]), "")
    figures = [
        {s["name"]: s["measured"] for s in values["stages"]}
        for values in (json.loads(done.out.splitlines()[-1]), finished[1])
    ]
    for name, measured in figures[0].items():
        for measure, found in measured.items():
            assert found["accuracy"] == figures[1][name][measure]["accuracy"]


def test_what_was_made_from_a_stage_that_is_done_again_is_in_the_way(finished, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(finished[0], folder)  # its runs name the first folder, so it is told by what is there alone
    made = replace_folder(folder)
    for stage in made.stages:
        assert is_finished(stage)
    shutil.rmtree(folder / "reasoning")
    with pytest.raises(DataError, match=r"collected: made from what stage 'reasoning' left, which is to be done again"):
        run_pipeline(made, resume=True)


def replace_folder(folder):
    """The plan of the pipeline in a folder, its stages' recipes as they were run."""
    made = make_plan(RECIPE, SHORT, folder=lambda file: folder)
    stages = [replace(stage, recipe=read_recipe(stage.folder / "recipe.yaml")) for stage in made.stages]
    return replace(made, stages=tuple(stages))


def test_a_stage_that_fails_ends_the_pipeline_and_says_how_to_go_on(tmp_path, monkeypatch):
    runs_are_forks(monkeypatch)
    broken = ("measure={}", "stages.cold_start.model.chat_template=missing.jinja", "stages.taught.measure=[]")
    done = groupwise("pipeline", RECIPE, *SHORT, *broken, "--run", tmp_path / "broken")
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last.startswith("error: stage 'cold_start': model.chat_template = 'missing.jinja'")
    assert f"fix it, then resume with: groupwise pipeline --run {tmp_path / 'broken'} --resume" in last


def until(found, seconds=150.0):
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


def children(pid):
    """Processes that a process has started, and they."""
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*found, *(inner for child in found for inner in children(child))]
