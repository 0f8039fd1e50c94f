"""Whatever ends a run: the last finished step is saved, its weights are valid, and the command shown goes on."""

import json
import re
import shlex
import signal
import sqlite3
from contextlib import closing

import pytest
import torch
from safetensors.torch import load_file, save_file

from groupwise.errors import RunError
from groupwise.learn import optimizer, update
from groupwise.record import open_record
from groupwise.record import write as recording
from groupwise.stages import rl
from tests.command import RECIPE, SMALL, groupwise


@pytest.fixture
def words(tiny_folder, tmp_path):
    """A run of four steps without evaluations or checkpoints between."""
    own = ("questions.heldout_size=0", "run.checkpoint_every=0", "objective.kl_coef=0.1")
    return ("train", RECIPE, f"model.path={tiny_folder}", *SMALL, *own, "--run", tmp_path / "run")


def go_on(done, *more):
    """Runs the one command that a stopped run has shown, as it was shown."""
    [command] = re.findall(r"^resume with: (.*)$", done.err, re.MULTILINE)
    resumed = groupwise(*shlex.split(command)[1:], *more)
    assert resumed.code == 0, resumed.err
    return resumed


def saved(done, run, *, step):
    """Weights and moments of the checkpoint that a stopped run names, all of them finite."""
    folder = run / "checkpoints" / f"step-{step:06d}"
    assert f"stopped after step {step}, saved in {folder}\n" in done.err, done.err
    found = load_file(folder / "model.safetensors") | load_file(folder / "optimizer.safetensors")
    assert all(tensor.isfinite().all() for tensor in found.values())
    return found


def failing_in(monkeypatch, *, module, name, step, error):
    """Makes a function of a stage raise in that step, from 0; `error` may also be a function to call."""
    whole, calls = getattr(module, name), []

    def failing(*given, **settings):
        calls.append(None)
        if len(calls) == step + 1:
            if isinstance(error, BaseException):
                raise error
            error()
        return whole(*given, **settings)

    monkeypatch.setattr(module, name, failing)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB\nmore"), 1, "error: out of memory in step 3: OutOf"),
        (RunError("record: locked"), 1, "error: record: locked"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_in_a_step_saves_the_step_before_it(error, code, told, words, tmp_path, monkeypatch):
    failing_in(monkeypatch, module=rl, name="sample_step", step=2, error=error)
    done = groupwise(*words)
    assert (done.code, done.err.splitlines()[-1].startswith(told)) == (code, True), done.err
    saved(done, tmp_path / "run", step=2)
    assert "steps 3 to 4" in go_on(done).err


def test_a_bug_saves_too_and_stays_a_traceback(words, tmp_path, monkeypatch, capsys):
    failing_in(monkeypatch, module=rl, name="sample_step", step=1, error=ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        groupwise(*words)
    assert (tmp_path / "run" / "checkpoints" / "step-000001" / "model.safetensors").exists()


def test_a_loss_that_explodes_is_stopped_before_the_weights_move(words, tmp_path):
    # at the first step the policy is its reference: a KL of 0; after it 1e30 times a little
    done = groupwise(*words, "objective.kl_coef=1e30")
    last = done.err.splitlines()[-1]
    assert done.code == 1
    assert re.match(
        r"error: step 1: the (loss|gradient's norm) is (inf|nan).*; no weight was changed; resume with", last
    )
    assert "kl_coef KL = " in last
    assert re.search(r"in that of [a-z_]+\.", last)
    saved(done, tmp_path / "run", step=1)
    go_on(done, "objective.kl_coef=0.1")


def test_weights_that_are_no_numbers_are_refused_before_anything_is_sampled(words, tmp_path, tiny_folder):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny_folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(broken / "model.safetensors")
    name = sorted(weights)[3]
    weights[name].view(-1)[5] = torch.inf
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    done = groupwise(*words, f"model.path={broken}")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert f"{name}: every output would be noise; give another checkpoint" in done.err


def test_a_step_that_changes_weights_and_fails_is_not_saved_as_one(words, tmp_path, monkeypatch):
    def half(optimizer, *, still):
        with torch.no_grad():
            optimizer.param_groups[0]["params"][0].add_(1.0)
        raise MemoryError

    failing_in(monkeypatch, module=rl, name="sample_step", step=2, error=lambda: setattr(optimizer, "_step", half))
    whole = optimizer._step
    try:
        done = groupwise(*words, "run.checkpoint_every=1")
    finally:
        optimizer._step = whole
    newest = tmp_path / "run" / "checkpoints" / "step-000002"
    assert f"could not be saved: a step was changing the weights; the newest checkpoint is {newest}" in done.err
    assert "steps 3 to 4" in go_on(done).err


def test_a_locked_record_keeps_the_step_it_could_not_take(words, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "LOCK_SECONDS", 0.1)
    other = []

    def lock():
        other.append(sqlite3.connect(tmp_path / "run" / "record.sqlite", isolation_level=None))
        other[0].execute("BEGIN IMMEDIATE")

    failing_in(monkeypatch, module=rl, name="finish_step", step=1, error=lock)
    done = groupwise(*words)
    other[0].execute("ROLLBACK")
    assert done.code == 1
    saved(replace_tail(done), tmp_path / "run", step=2)
    assert "; the record lacks that step (record " in done.err
    assert "steps 3 to 4" in go_on(done).err


def replace_tail(done):
    """What was said of the record aside."""
    return done._replace(err=re.sub(r"; the record lacks.*", "", done.err))


def test_a_second_ctrl_c_gives_up_the_step_and_saves_the_one_before(words, tmp_path, monkeypatch):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    failing_in(monkeypatch, module=update, name="policy_loss", step=3, error=twice)
    done = groupwise(*words)
    assert done.code == 130
    assert "stopping: finishes step 2, then saves" in done.err
    saved(done, tmp_path / "run", step=1)
    with closing(open_record(tmp_path / "run")) as record:
        assert record.steps() == [0]
    go_on(done)


def test_a_second_ctrl_c_between_two_updates_counts_those_taken(words, tmp_path, monkeypatch):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    optimizer_steps = []
    step = optimizer._step
    monkeypatch.setattr(optimizer, "_step", lambda *a, **k: (optimizer_steps.append(None), step(*a, **k)))
    whole = update.policy_loss

    def loss(*given, **settings):
        if len(optimizer_steps) == 3:  # of four a rollout
            optimizer_steps.append(None)
            twice()
        return whole(*given, **settings)

    monkeypatch.setattr(update, "policy_loss", loss)
    done = groupwise(*words, "update.updates_per_rollout=4", "objective.entropy_coef=0.1")
    assert done.code == 130
    assert "step 1 counts with the 3 optimizer step(s) that it took" in done.err
    saved(done, tmp_path / "run", step=1)
    state = json.loads((tmp_path / "run" / "checkpoints" / "step-000001" / "state.json").read_text())
    assert (state["step"], state["policy_version"]) == (1, 3)
    go_on(done)
