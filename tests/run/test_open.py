"""Opening a run: what it finds, what it leaves behind, and how one is taken up again."""

import json
from contextlib import closing

import pytest

from groupwise.config import RewardConfig, read_recipe
from groupwise.errors import CheckpointError, ConfigError, DataError
from groupwise.learn.optimizer import make_optimizer
from groupwise.record import open_record
from groupwise.run.journal import Learned, save
from groupwise.run.open import open_run
from groupwise.run.resolve import resolve
from tests.command import RECIPE, SMALL, groupwise


@pytest.fixture
def recipe(tiny_folder):
    return read_recipe(RECIPE, (f"model.path={tiny_folder}", *SMALL))


def opened(recipe, folder, *, resume=False):
    return open_run(recipe, folder, resume=resume, objective=resolve(recipe.objective))


def saved_after(recipe, folder, *, steps):
    """A stopped run with one checkpoint, said to be that many steps old."""
    with opened(recipe, folder) as run:
        for step in range(steps):
            run.journal.recorder.write_step(step, [], advantages=[], metrics={})
        state = run.journal.state
        state.step, state.policy_version, state.seconds, state.tokens = steps, 2 * steps, 1.5, 100
        return save(run.journal, Learned(run.policy, run.tokenizer, make_optimizer(run.policy, recipe.update)))


def test_the_recipe_in_the_folder_is_the_one_that_runs(tmp_path, recipe):
    with opened(recipe, tmp_path / "run"):
        pass
    assert read_recipe(tmp_path / "run" / "recipe.yaml") == recipe


def test_held_out_questions_are_on_record_from_the_start(tmp_path, recipe):
    with opened(recipe, tmp_path / "run") as run, closing(open_record(run.journal.folder)) as record:
        assert list(record.questions("heldout")) == list(run.questions.heldout)
        assert len(run.questions.heldout) == 6


def test_an_error_inside_closes_everything(tmp_path, recipe):
    seen = []

    def use():
        with opened(recipe, tmp_path / "run") as run:
            seen.append(run.rewards)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    with closing(open_record(tmp_path / "run")) as record:
        assert record.info()["state"] == "stopped"
    assert all(child._process is None for pool in seen[0]._pools.values() for child in pool._children)


def test_a_run_is_taken_up_where_its_checkpoint_is(tmp_path, recipe):
    folder = saved_after(recipe, tmp_path / "run", steps=3)
    with opened(recipe, tmp_path / "run", resume=True) as run:
        state = run.journal.state
        assert (state.step, state.policy_version, state.seconds, state.tokens) == (3, 6, 1.5, 100)
        assert run.journal.resumed_from == folder


def test_a_run_without_a_checkpoint_begins_anew(tmp_path, recipe):
    with opened(recipe, tmp_path / "run"):
        pass
    with opened(recipe, tmp_path / "run", resume=True) as run:
        assert (run.journal.state.step, run.journal.resumed_from) == (0, None)


def test_other_changes_on_resume_are_told_in_one_line(tmp_path, recipe, capsys):
    saved_after(recipe, tmp_path / "run", steps=3)
    changed = read_recipe(tmp_path / "run" / "recipe.yaml", ("rewards.0.weight=2", "rollout.temperature=0.5"))
    capsys.readouterr()
    with opened(changed, tmp_path / "run", resume=True):
        pass
    told = "rewards.0.weight = 2.0 (was 1.0), rollout.temperature = 0.5 (was 1.0)"
    assert f"changed since the run was last started: {told}\n" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named(tmp_path, recipe):
    folder = saved_after(recipe, tmp_path / "run", steps=3)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(2000)
        file.write(b"\xff\xff\xff\xff")
    said = r"model\.safetensors: its bytes are not those that were saved"
    with pytest.raises(CheckpointError, match=said), opened(recipe, tmp_path / "run", resume=True):
        pass


def test_fewer_steps_than_are_done_leave_nothing_to_do(tmp_path, recipe):
    saved_after(recipe, tmp_path / "run", steps=3)
    shorter = read_recipe(tmp_path / "run" / "recipe.yaml", ("update.steps=2",))
    said = r"has done 3 of update\.steps = 2: nothing is left"
    with pytest.raises(ConfigError, match=said), opened(shorter, tmp_path / "run", resume=True):
        pass


def test_only_a_built_in_reward_must_judge_an_empty_output(tmp_path, recipe):
    file = tmp_path / "own.py"
    file.write_text("def picky(text):\n    return 1 / len(text)\n")
    own = RewardConfig(function=f"{file}:picky")
    with opened(recipe.model_copy(update={"rewards": (own,)}), tmp_path / "run"):
        pass
    built_in = RewardConfig(function="pattern", params={"regex": "("})
    said = r"reward 'pattern' cannot judge question 'successor-.*missing \)"
    bad = recipe.model_copy(update={"rewards": (own, built_in)})
    with pytest.raises(DataError, match=said), opened(bad, tmp_path / "other"):
        pass
    assert not (tmp_path / "other").exists()


def test_seconds_and_tokens_count_over_all_attempts(tmp_path, tiny_folder):
    words = (RECIPE, f"model.path={tiny_folder}", *SMALL, "questions.heldout_size=0", "--run", tmp_path / "run")
    assert groupwise("train", *words, "update.steps=2").code == 0
    assert groupwise("train", "--run", tmp_path / "run", "--resume", "update.steps=3").code == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    with closing(open_record(tmp_path / "run")) as record:
        assert summary["tokens"] == sum(value for _, _, value in record.metrics("tokens/sampled"))
        seconds = sum(value for _, _, value in record.metrics("time/step"))
    assert abs(summary["seconds"] - seconds) < 1e-6
