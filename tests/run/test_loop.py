"""A run that is stopped, killed or failing: what is kept, what is said, and that going on gives the same run."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import closing

import pytest
import torch
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from groupwise.config import read_recipe
from groupwise.errors import StoppedEarly
from groupwise.learn.optimizer import make_optimizer
from groupwise.record import list_runs, open_record
from groupwise.run.journal import Learned
from groupwise.run.loop import run_steps
from groupwise.run.open import open_run
from groupwise.run.progress import of_rollouts
from groupwise.run.resolve import resolve
from tests.command import RECIPE, SMALL, groupwise
from tests.forked import in_a_fork
from tests.project.sources import ROOT

OWN = ROOT / "tests" / "run" / "user_rewards.py"


@pytest.fixture(scope="module")
def recipe(tiny_folder):
    """The small recipe with a KL term, so that a wrong reference after a resume would show."""
    return (RECIPE, f"model.path={tiny_folder}", *SMALL, "objective.kl_coef=0.1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, recipe):
    """The run that nothing happens to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert groupwise("train", *recipe, "--run", folder).code == 0
    return folder


def with_reward(function, **params):
    """Overrides: the tiny recipe's rewards, and one of weight 0 that does something else."""
    own = {"function": f"{OWN}:{function}", "weight": 0, "name": "own", "params": params}
    return "rewards=" + json.dumps([*(reward.model_dump() for reward in read_recipe(RECIPE).rewards), own])


def in_a_process(*words):
    """`groupwise words...` in a process of its own."""
    command = [sys.executable, "-m", "groupwise", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)


def weights(folder):
    return load_file(folder / "checkpoints" / "step-000004" / "model.safetensors")


def metrics(folder):
    with closing(open_record(folder)) as record:
        return [
            row
            for row in record.metrics()
            if not row[1].startswith(("time/", "tokens/per", "memory/")) and not row[1].endswith("/own")
        ]


def the_same_run(folder, whole):
    """Weights and metrics equal to the last bit, and one `before` and `after` each, with equal figures."""
    ours, theirs = weights(folder), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert metrics(folder) == metrics(whole)
    found = []
    for run in (folder, whole):
        with closing(open_record(run)) as record:
            figures = [{key: e.figures[key] for key in e.figures if key != "reward/own"} for e in record.evaluations()]
            found.append([(e.name, e.step, own) for e, own in zip(record.evaluations(), figures, strict=True)])
    assert found[0] == found[1]
    assert [name for name, _, _ in found[0]] == ["before", "after"]
    return True


def test_ctrl_c_stops_at_once_says_how_to_go_on_and_loses_nothing(tmp_path, recipe, whole):
    reward = with_reward("signals_at_step", at=3, number=int(signal.SIGINT), once=str(tmp_path / "once"))
    run = tmp_path / "a run"
    stopped = in_a_process("train", *recipe, reward, "--run", run)
    assert stopped.returncode == 130, stopped.stderr
    assert f"stopped after step 3, saved in {run}/checkpoints/step-000003" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert [found.state for found in list_runs(tmp_path)] == ["stopped"]
    command = shlex.split(re.search(r"^resume with: (.*)$", stopped.stderr, re.MULTILINE)[1])
    resumed = groupwise(*command[1:])
    assert resumed.code == 0, resumed.err
    assert "steps 4 to 4" in resumed.err
    assert the_same_run(run, whole)


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path, recipe, whole):
    reward = with_reward("signals_at_step", at=3, number=int(signal.SIGKILL), once=str(tmp_path / "once"))
    assert in_a_fork("train", *recipe, reward, "--run", tmp_path / "run") == -signal.SIGKILL
    assert [found.state for found in list_runs(tmp_path)] == ["stopped"]
    resumed = groupwise("train", "--run", tmp_path / "run", "--resume")
    assert resumed.code == 0, resumed.err
    assert "steps 3 to 4" in resumed.err
    assert the_same_run(tmp_path / "run", whole)


def test_a_stop_before_the_first_step_leaves_a_run_to_go_on_with(tmp_path, recipe, whole):
    reward = with_reward("signals_at_step", at=0, number=int(signal.SIGTERM), once=str(tmp_path / "once"))
    stopped = groupwise("train", *recipe, reward, "--run", tmp_path / "run")
    assert (stopped.code, "stopped after step 0, no step was finished yet" in stopped.err) == (130, True)
    resumed = groupwise("train", "--run", tmp_path / "run", "--resume")
    assert resumed.code == 0, resumed.err
    assert "evaluated (before)" not in resumed.err  # it is on record
    assert the_same_run(tmp_path / "run", whole)


def test_ctrl_c_in_an_update_waits_for_its_end(tmp_path, recipe):
    hook = register_optimizer_step_pre_hook(lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        stopped = groupwise("train", *recipe, "--run", tmp_path / "run")
    finally:
        hook.remove()
    assert stopped.code == 130
    assert "stopped after step 1, saved in" in stopped.err
    with closing(open_record(tmp_path / "run")) as record:
        assert record.steps() == [0]


def test_a_run_stopped_in_its_last_evaluation_has_only_that_left(tmp_path, recipe, whole):
    last = str(tmp_path / "run" / "checkpoints" / "step-000004")
    reward = with_reward("signals_when_there", folder=last, number=int(signal.SIGINT), once=str(tmp_path / "once"))
    stopped = groupwise("train", *recipe, reward, "--run", tmp_path / "run")
    assert stopped.code == 130
    assert not (tmp_path / "run" / "summary.json").exists()
    resumed = groupwise("train", "--run", tmp_path / "run", "--resume")
    assert resumed.code == 0, resumed.err
    assert (tmp_path / "run" / "summary.json").exists()
    assert the_same_run(tmp_path / "run", whole)


def test_evaluations_between_steps_are_where_they_were_asked_for(tmp_path, recipe):
    done = groupwise("train", *recipe, "evaluate.every=2", "update.steps=5", "--run", tmp_path / "run")
    assert done.code == 0, done.err
    with closing(open_record(tmp_path / "run")) as record:
        found = [(evaluation.name, evaluation.step) for evaluation in record.evaluations()]
    assert found == [("before", 0), ("step-2", 2), ("step-4", 4), ("after", 5)]


@pytest.mark.parametrize(
    ("function", "where", "attempt"),
    [
        ("signals_at_step", {"at": 2}, 0),  # after the evaluation, which stands
        ("signals_when_there", {"folder": "run/checkpoints/step-000002"}, 1),  # in it, so it is made anew
    ],
)
def test_an_evaluation_is_neither_lost_nor_made_twice(tmp_path, recipe, monkeypatch, function, where, attempt):
    monkeypatch.chdir(tmp_path)
    reward = with_reward(function, **where, number=int(signal.SIGINT), once="once")
    assert groupwise("train", *recipe, "evaluate.every=2", reward, "--run", "run").code == 130
    assert groupwise("train", "--run", "run", "--resume").code == 0
    with closing(open_record("run")) as record:
        found = {evaluation.name: evaluation.attempt for evaluation in record.evaluations()}
    assert found == {"before": 0, "step-2": attempt, "after": 1}


def test_steps_that_are_done_again_are_evaluated_again(tmp_path, recipe):
    reward = with_reward("signals_at_step", at=3, number=int(signal.SIGINT), once=str(tmp_path / "once"))
    assert groupwise("train", *recipe, "evaluate.every=2", reward, "--run", tmp_path / "run").code == 130
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert groupwise("train", "--run", tmp_path / "run", "--resume", "update.learning_rate=1e-4").code == 0
    with closing(open_record(tmp_path / "run")) as record:
        found = {evaluation.name: evaluation.attempt for evaluation in record.evaluations()}
    assert found == {"before": 0, "step-2": 1, "after": 1}


def test_a_finished_run_has_nothing_left_unless_more_is_asked_for(tmp_path, whole):
    again = groupwise("train", "--run", whole, "--resume")
    assert again.code == 2
    assert again.err.count("\n") == 1
    assert "has done 4 of update.steps = 4: nothing is left to train" in again.err
    shutil.copytree(whole, tmp_path / "run")
    longer = groupwise("train", "--run", tmp_path / "run", "--resume", "update.steps=5")
    assert longer.code == 0, longer.err
    assert longer.err.startswith("changed since the run was last started: update.steps = 5 (was 4)\n")
    with closing(open_record(tmp_path / "run")) as record:
        assert record.steps() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "change", ["seed=1", "model.path=tiny", "questions.heldout_size=5", "questions.params.levels=[1]"]
)
def test_what_earlier_steps_rest_on_cannot_change(whole, change):
    done = groupwise("train", "--run", whole, "--resume", "update.steps=9", change)
    field, _, value = change.partition("=")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert done.err.startswith(f"error: {field} = ")
    assert f"{value.strip('[]')}" in done.err.partition(": the run in")[0]
    assert "began with" in done.err


def test_other_weight_decay_and_betas_count_from_the_resume_on(tmp_path, recipe, whole):
    shutil.copytree(whole, tmp_path / "run")
    seen = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: seen.append(dict(optimizer.param_groups[0])))
    try:
        changes = ("update.steps=5", "update.weight_decay=0.5", "update.betas=[0.5, 0.6]")
        assert groupwise("train", "--run", tmp_path / "run", "--resume", *changes).code == 0
    finally:
        hook.remove()
    assert [(group["weight_decay"], tuple(group["betas"])) for group in seen] == [(0.5, (0.5, 0.6))]


def test_few_failed_rewards_are_masked_counted_and_shown_once(tmp_path, recipe):
    reward = with_reward("fails_on_calls", calls=[2, 3, 20])  # two outputs of the first step, one of the second
    some = ("questions.heldout_size=0", "run.failed_rewards_limit=0.2")
    done = groupwise("train", *recipe, *some, reward, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    assert done.err.count("reward own failed, its outputs are left out of the update:") == 1
    assert done.err.count("ValueError: no luck") == 1
    with closing(open_record(tmp_path / "run")) as record:
        shares = [value for _, _, value in record.metrics("rewards/failed")]
        failed = [out for out in record.outputs() if out.reward.failed]
    assert shares == [2 / 16, 1 / 16, 0, 0]
    assert [(out.step, out.reward.value, out.advantage) for out in failed] == [(0, None, None)] * 2 + [(1, None, None)]


def test_too_many_failed_rewards_stop_the_run_with_the_step_on_record(tmp_path, recipe):
    reward = with_reward("fails_on_calls", calls=list(range(18, 99)))  # from the second step on
    done = groupwise("train", *recipe, "questions.heldout_size=0", reward, "--run", tmp_path / "run")
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last.startswith("error: reward 'own' failed on 16 of 16 outputs, more than the limit of 0.05: ValueError")
    assert re.search(r"user_rewards\.py:\d+\); first at question 'successor-\S+', output '", last)
    assert "stopped after step 1, saved in" in done.err
    with closing(open_record(tmp_path / "run")) as record:
        assert record.steps() == [0, 1]
        assert all(out.reward.failed and out.advantage is None for out in record.outputs(step=1))
        assert record.info()["state"] == "stopped"


def test_a_run_that_did_fewer_steps_than_asked_is_an_error(tmp_path, recipe):
    settings = read_recipe(recipe[0], recipe[1:])
    with open_run(settings, tmp_path / "run", resume=False, objective=resolve(settings.objective)) as run:
        learned = Learned(run.policy, run.tokenizer, make_optimizer(run.policy, settings.update))
        progress = of_rollouts(settings)
        with pytest.raises(StoppedEarly, match="0 of 4 steps done") as error:
            run_steps(run.journal, learned, lambda _: {"time/step": 1.0}, engine=None, evaluate=None, progress=progress)
    assert error.value.exit_code == 1
    assert not (tmp_path / "run" / "summary.json").exists()
