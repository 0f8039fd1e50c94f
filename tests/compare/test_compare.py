"""A comparison: its numbers by hand, what it refuses, and real runs of it that are killed, fail and are taken up."""

import json
import os
import shlex
import signal
import sys
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from groupwise.activity import heard_by
from groupwise.compare.comparison import check_folder, compare
from groupwise.compare.figures import RunFigures, difference, run_curves, run_figures
from groupwise.compare.plan import make_plan
from groupwise.compare.table import content, markdown
from groupwise.config import RolloutConfig, dump_recipe
from groupwise.errors import DataError
from groupwise.record import Recorder, list_runs, open_record
from groupwise.run.progress import shown_as
from groupwise.statistics.plot import draw
from groupwise.statistics.seeds import mean_over_seeds, student_t
from groupwise.train_process import Signals, holding, run_process
from tests.close import close
from tests.command import RECIPE, SMALL, groupwise

STEPS = 20
TROUBLE = '''
import os, signal
from pathlib import Path

def trouble(completions, trainer_state, folder, **columns):
    """0; once for each file that is there: in the first step an error, in the second the end of the run."""
    act = {0: "fail", 1: "kill"}.get(trainer_state.global_step)
    if act and len(completions) > 1 and (Path(folder) / act).exists():  # the check before the run asks about one output
        (Path(folder) / act).unlink()
        if act == "kill":
            os.kill(os.getppid(), signal.SIGKILL)
        raise ValueError("no luck today")
    return [0.0] * len(completions)
'''


def made_plan(folder, *, presets="grpo,rloo", seeds="0,1,2", variants=(), overrides=()):
    steps = ("update.steps=20", "rollout.questions_per_step=4", "rollout.group_size=4", *overrides)
    return make_plan(RECIPE, steps, presets=presets, variants=variants, seeds=seeds, folder=folder)


def record_run(pair, *, rewards, accuracies, seconds=2.0, peak=2**30, groups=None, state="finished"):
    """A run as `train` would have recorded it, with these rewards, and accuracies by the evaluations' names."""
    info = {"recipe": dump_recipe(pair.recipe), "stage": "rl", "model": "tiny", "steps": str(STEPS)}
    with closing(Recorder.create(pair.folder, info)) as recorder:
        for step, reward in enumerate(rewards):
            metrics = {"reward/mean": reward, "length/mean": step, "tokens/sampled": 40, "time/step": seconds}
            if groups is not None:
                metrics["groups/sampled"] = groups
            recorder.write_step(step, [], advantages=[], metrics={**metrics, "memory/peak": peak + step})
        for name, (step, accuracy) in accuracies.items():
            recorder.write_evaluation(name, step, figures={"accuracy": accuracy})
        recorder.set_info("state", state)


def figures(after, reward=1.0):
    """Figures of a run in which only what is learned matters."""
    return RunFigures(0.1, after, reward, 3.0, outputs=320, tokens=800, seconds_per_step=2.0, peak_memory=2**30)


def hand(*numbers):
    """Numbers worked out by hand to six digits behind the point."""
    return torch.tensor(numbers, dtype=torch.float32)


def test_two_comparisons_in_one_folder_lock_each_other_out(tmp_path):
    plan, said = made_plan(tmp_path / "mine"), r"is being written by process .*; wait until it has ended"
    with holding(plan.folder), pytest.raises(DataError, match=said):
        compare(plan, resume=True)
    assert [path.name for path in plan.folder.iterdir()] == []


@pytest.mark.parametrize(("freedom", "t"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (9, 2.2622), (30, 2.0423)])
def test_students_t_is_that_of_the_printed_tables(freedom, t):
    assert abs(student_t(freedom) - t) < 5e-5


def test_the_interval_over_seeds():
    # 0.5, 0.7, 0.9: mean 0.7, s = 0.2, half = 4.302653 x 0.2 / sqrt(3) = 0.496828
    found = mean_over_seeds([0.5, 0.7, 0.9])
    close([found.value, found.low, found.high], hand(0.7, 0.203172, 1.196828))
    assert found.n == 3
    assert mean_over_seeds([0.5, 0.7, 0.9], lowest=0, highest=1).high == 1  # a share is at most 1
    assert mean_over_seeds([0.5, None]) == mean_over_seeds([0.5])
    assert (mean_over_seeds([0.5]).low, mean_over_seeds([]).value) == (None, None)


def test_a_difference_is_taken_seed_by_seed():
    # after 0.2, 0.5, 0.8 against 0.1, 0.4, 0.6: differences 0.1, 0.1, 0.2 however far apart the seeds are
    # mean 0.133333, s = 0.057735, half = 4.302653 x 0.057735 / sqrt(3) = 0.143422
    ours = {seed: figures(after, reward) for seed, after, reward in ((0, 0.2, 1.0), (1, 0.5, 1.1), (2, 0.8, 1.2))}
    theirs = {seed: figures(after, 0.0) for seed, after in ((0, 0.1), (1, 0.4), (2, 0.6), (3, 0.9))}
    found = difference("rloo", ours, to="grpo", others=theirs)
    assert found.seeds == (0, 1, 2)
    close([found.accuracy_after.value, found.accuracy_after.low], hand(0.133333, -0.010089))
    assert found.accuracy_excludes_zero is False
    # rewards 1.0, 1.1, 1.2 against 0: mean 1.1, s = 0.1, half = 4.302653 x 0.1 / sqrt(3) = 0.248414
    close([found.reward_end.low, found.reward_end.high], hand(0.851586, 1.348414))
    assert found.reward_excludes_zero is True


def test_one_seed_or_no_spread_decides_nothing():
    one = difference("b", {0: figures(0.5)}, to="a", others={0: figures(0.1)})
    assert (one.accuracy_after.low, one.accuracy_excludes_zero) == (None, None)
    alike = difference("b", {0: figures(0.5), 1: figures(0.5)}, to="a", others={0: figures(0.0), 1: figures(0.0)})
    assert alike.accuracy_excludes_zero is None


def test_figures_of_a_run_come_from_its_record(tmp_path):
    pair = made_plan(tmp_path).pairs[0]
    rewards = [0.0] * 13 + [0.4, 0.6]
    record_run(pair, rewards=rewards, accuracies={"before": (0, 0.25), "step-10": (10, 0.5), "after": (15, 0.75)})
    found = run_figures(pair.folder, pair.recipe.rollout)
    assert (found.accuracy_before, found.accuracy_after) == (0.25, 0.75)
    # the last tenth of 15 steps, rounded up, are steps 13 and 14, whose lengths are their numbers
    close([found.reward_end, found.length_end, found.seconds_per_step], [0.5, 13.5, 2.0])
    assert (found.outputs, found.tokens, found.peak_memory) == (15 * 16, 15 * 40, 2**30 + 14)
    curves = run_curves(pair.folder, pair.recipe.rollout)
    assert curves.rewards[0] == (1, 16, 0.0)
    assert curves.rewards[-1] == (15, 240, 0.6)
    assert curves.accuracies == [(0, 0, 0.25), (10, 160, 0.5), (15, 240, 0.75)]


def test_outputs_that_were_sampled_again_count(tmp_path):
    pair = made_plan(tmp_path).pairs[0]
    record_run(pair, rewards=[0.0, 1.0], accuracies={}, groups=6)
    assert run_figures(pair.folder, RolloutConfig(questions_per_step=4, group_size=4)).outputs == 2 * 6 * 4
    assert [point.outputs for point in run_curves(pair.folder, pair.recipe.rollout).rewards] == [24, 48]


def test_the_table_says_what_the_numbers_are(tmp_path):
    plan = made_plan(tmp_path, overrides=["evaluate.every=5"], variants=["wide: objective.clip_high=0.28"])
    afters = {"grpo": (0.1, 0.4, 0.6), "rloo": (0.2, 0.5, 0.8)}
    runs = {(name, seed): figures(after) for name, row in afters.items() for seed, after in enumerate(row)}
    failures = {("wide", 0): "no luck"}
    text = markdown(plan, runs, failures)
    lines = {" ".join(line.split()) for line in text.splitlines()}
    assert "tiny.yaml, every run 20 steps of 16 outputs = 320 outputs; 3 seeds: 0, 1, 2." in lines
    assert "Set by the recipe, whatever the preset: `objective.kl_coef=0.0`, `objective.entropy_coef=0.1`." in lines
    assert "wide: `objective.clip_high=0.28`." in lines
    # grpo after 0.1, 0.4, 0.6: mean 0.366667, s = 0.251661, half = 0.625162: cut at 0
    assert "| grpo | 3 of 3 | 10.0% | 36.7% (0.0% to 99.2%) | 1.000 (no spread) |" in lines
    assert "| wide | 0 of 3 | - | - | - |" in lines
    assert "| rloo - grpo | 3 | +13.3 (-1.0 to +27.7) | no | +0.000 (no spread) | - |" in lines
    assert "| rloo/seed-2 | 10.0% | 80.0% | 1.000 | 320 | 800 | 2.00 | 1.00 |" in lines
    assert "| wide/seed-0 | failed | - | - | - | - | - | - |" in lines
    assert "- wide/seed-0 failed: no luck" in lines
    assert any(
        line.startswith("Intervals are over the 3 seeds, by Student's t; with so few they are wide") for line in lines
    )
    values = content(plan, runs, failures)
    assert [run["state"] for run in values["runs"] if run["variant"] == "wide"] == ["failed", "to do", "to do"]
    assert json.loads(json.dumps(values))["differences"][0]["accuracy_excludes_zero"] is False


def test_one_seed_gives_no_interval(tmp_path):
    plan = made_plan(tmp_path, seeds="4")
    text = markdown(plan, {("grpo", 4): figures(0.5), ("rloo", 4): figures(0.7)}, {})
    assert "50.0% (1 seed)" in text
    assert "+20.0 (1 seed)" in text
    assert "1 seed: no interval" in text


def test_unequal_samples_are_told(tmp_path):
    plan = made_plan(tmp_path, seeds="0")
    more = replace(figures(0.5), outputs=400)
    text = markdown(plan, {("grpo", 0): figures(0.5), ("rloo", 0): more}, {})
    assert "Not equal samples: runs sampled 320 to 400 outputs" in text


def test_the_picture_is_drawn_unless_matplotlib_is_missing(tmp_path, monkeypatch):
    pair = made_plan(tmp_path).pairs[0]
    record_run(pair, rewards=[0.1, 0.2], accuracies={"before": (0, 0.0), "step-1": (1, 0.5), "after": (2, 1.0)})
    curves = {"grpo": [run_curves(pair.folder, pair.recipe.rollout)] * 2}
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        assert draw(curves, tmp_path / "none.png", title="t") is False
    pytest.importorskip("matplotlib")
    assert draw(curves, tmp_path / "a.png", title="t") is True
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to compare; for example --presets grpo,rloo"),
        (["--presets", "grop"], "--presets = 'grop': no such name; did you mean 'grpo'?"),
        (["--presets", ""], "--presets: an empty text; give a value, or leave it out"),
        (["--presets", "grpo,grpo"], "two variants are called 'grpo'"),
        (["--presets", "grpo", "--variant", "GRPO: update.betas=[0,0]"], "two variants are called 'grpo'"),
        (["--presets", "grpo", "--seeds", "0,0"], "0 is there twice"),
        (["--presets", "grpo", "--seeds", "0,,1"], "--seeds '0,,1': a name is missing"),
        (["--presets", "grpo", "--seeds", "-1"], "'-1' is not a whole number from 0"),
        (["--presets", "grpo", "--seeds", "0", "seed=3"], "seed is set beside --seeds"),
        (["--presets", "grpo", "objective.preset=rloo"], "objective.preset is set beside --presets"),
        (["--presets", "grpo", "update.stepps=2"], "update.stepps: unknown key; did you mean 'steps'?"),
        (["--presets", "grpo", "questions.heldout_size=500"], "questions.heldout_size = 500, but"),
        (["--presets", "grpo,sapo", "objective.clip_low=0"], "variant sapo: objective.clip_low = 0"),
        (["--variant", "a/b: update.steps=2"], "'a/b' cannot be a folder's name here"),
        (["--variant", "compare.md: update.steps=2"], "cannot be a folder's name here; give another one"),
        (["--variant", "a"], "--variant 'a' changes nothing"),
        (["--variant", "a: update.steps"], "variant a: override 'update.steps' is not of the form a.b=c"),
        (["--variant", "a: 'x"], "No closing quotation"),
        (["--variant", "a: seed=3"], "variant a: seed = 3, the recipe has 0: variants are compared at equal samples"),
        (["--variant", "a: rollout.group_size=2"], "rollout.group_size = 2, the recipe has 16"),
        (["--variant", "a: rewards.0.weight=2"], "rewards.0.weight = 2.0, the recipe has 1.0"),
        (["--presets", "grpo", "--resume"], "--resume without --run: which comparison?"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_loaded(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = groupwise("compare", RECIPE, *words)
    assert (done.code, done.out) == (2, ""), done.err
    assert said in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="it holds something that is no comparison"):
        check_folder(made_plan(tmp_path), resume=True)


@pytest.mark.parametrize(
    ("state", "overrides", "resume", "said"),
    [
        ("stopped", (), False, "a run that did not finish is there; add --resume"),
        ("running", (), False, "is being written by process"),
        ("finished", ("update.learning_rate=0.5",), True, r"has update.learning_rate = 0.003, wanted is 0.5"),
        ("stopped", (), True, None),
        ("finished", (), False, None),
    ],
)
def test_runs_that_are_in_the_way_are_refused(tmp_path, state, overrides, resume, said):
    (tmp_path / "compare.json").write_text("{}")
    record_run(made_plan(tmp_path).pairs[0], rewards=[0.1], accuracies={}, state=state)
    plan = made_plan(tmp_path, overrides=overrides)
    if state == "running":  # written by this process, once more
        recorder = Recorder.resume(plan.pairs[0].folder, 1)
    if said is None:
        check_folder(plan, resume=resume)
        return
    with pytest.raises(Exception, match=said):
        check_folder(plan, resume=resume)
    if state == "running":
        recorder.close()


def test_the_command_that_goes_on_says_every_word_of_the_one_that_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"presets": "grpo", "variants": ["wide: objective.clip_high=0.28 run.root='a b'"], "seeds": "3,4"}
    plan = make_plan(
        RECIPE, ["update.steps=2", 'questions.template="Say {question}!"'], **given, folder=Path("my runs")
    )
    words = shlex.split(plan.command)
    assert words[:2] == ["groupwise", "compare"]
    asked = []
    monkeypatch.setattr("groupwise.compare.comparison.compare", lambda plan, *, resume: asked.append((plan, resume)))
    with pytest.raises(AttributeError):  # nothing came of it
        groupwise(*words[1:])
    assert asked == [(plan, True)]


def test_events_of_a_run_are_passed_on_with_its_label_and_move_the_bar(capsys):
    told = [{"event": "begin", "done": 3}, {"event": "step", "step": 4, "metrics": {"tokens/sampled": 20.0}}]
    heard = Heard([])
    child = f"import json; [print(json.dumps(line)) for line in {told}]; print('a table')"
    with heard_by(heard), shown_as("json"):
        assert run_process([sys.executable, "-c", child], "a/seed-0", Signals()) == (0, "")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {**line, "label": "a/seed-0"} for line in told
    ]
    assert heard.advanced == [(3, 0), (1, 20)]


@dataclass
class Heard:
    advanced: list

    def advance(self, done, tokens):
        self.advanced.append((done, tokens))


def test_a_signal_is_handed_to_the_run_which_saves_and_ends(capfd):
    child = (
        "import os, signal, sys, time\n"
        "def save(*_):\n"
        "    print('half a traceback\\nstopped after step 3, saved\\nresume with: x', file=sys.stderr)\n"
        "    sys.exit(130)\n"
        "signal.signal(signal.SIGINT, save)\n"
        f"os.kill({os.getpid()}, signal.SIGINT)\n"
        "time.sleep(60)\n"
    )
    before, signals = signal.getsignal(signal.SIGINT), Signals()
    with signals.listening():
        code, last = run_process([sys.executable, "-c", child], "a/seed-0", signals)
    assert (code, last, signals.asked) == (130, "stopped after step 3, saved", True)
    assert capfd.readouterr().err == "a/seed-0  stopped after step 3, saved\n"
    assert signal.getsignal(signal.SIGINT) == before


def test_what_a_run_leaves_behind_does_not_hold_us_up():
    child = "import subprocess, sys; subprocess.Popen(['sleep', '5'], stdout=2); sys.exit('the last word')"
    started = time.monotonic()
    assert run_process([sys.executable, "-c", child], "a", Signals()) == (1, "the last word")
    assert time.monotonic() - started < 4


@pytest.mark.long
def test_a_comparison_survives_a_killed_run_and_a_failing_one(tmp_path, tiny_folder):
    """One test, since each of its five runs takes seconds to start."""
    (tmp_path / "own.py").write_text(TROUBLE)
    own = {"function": f"{tmp_path}/own.py:trouble", "weight": 0, "params": {"folder": str(tmp_path)}}
    rewards = "rewards=" + json.dumps([{"function": "number", "params": {"where": "first"}}, own])
    small = (*SMALL, "update.steps=2", "run.checkpoint_every=1", f"model.path={tiny_folder}", rewards)
    folder = tmp_path / "both"
    command = ("compare", RECIPE, *small, "--presets", "grpo,rloo", "--run", folder)

    (tmp_path / "kill").touch()
    killed = groupwise(*command, "--seeds", "0")
    assert killed.code == 1, killed.err
    assert (
        "error: 1 of 2 runs failed: grpo/seed-0: ended by SIGKILL (out of memory?); try again: groupwise " in killed.err
    )
    assert "set by the recipe, and so the same under every preset: objective.kl_coef = 0.0" in killed.err
    refused = groupwise(*command, "--seeds", "0")
    assert (refused.code, "grpo/seed-0: a run that did not finish is there; add --resume" in refused.err) == (2, True)

    (tmp_path / "fail").touch()
    torn = folder / "rloo" / "seed-1"
    torn.mkdir()
    (torn / "record.sqlite").touch()  # as a run leaves it that is killed while it makes its record
    done = groupwise(*command, "--seeds", "0,1", "--resume", "--json")
    assert done.code == 1, done.err
    assert "grpo/seed-0  grpo: 4 questions x 4 outputs = 16 outputs per step" in done.err
    assert "steps 2 to 2, in" in done.err  # the killed one went on from its checkpoint
    assert "rloo/seed-0  finished already" in done.err
    assert "ValueError: no luck today" in done.err
    *events, values = map(json.loads, done.out.splitlines())
    assert values == {"event": "end", **json.loads((folder / "compare.json").read_text())}
    assert events[0] == {
        "event": "begin",
        "run": str(folder),
        "runs": [f"{v}/seed-{s}" for s in (0, 1) for v in ("grpo", "rloo")],
    }
    # the one that was killed had done its first step
    assert [event["step"] for event in events if event["event"] == "step" and event["label"] == "grpo/seed-0"] == [2]
    states = {f"{run['variant']} {run['seed']}": run["state"] for run in values["runs"]}
    assert states == {"grpo 0": "finished", "rloo 0": "finished", "grpo 1": "failed", "rloo 1": "finished"}
    assert "reward" in next(run["reason"] for run in values["runs"] if run["state"] == "failed")
    assert [row["seeds"] for row in values["variants"]] == [[0], [0, 1]]
    assert {run["figures"]["outputs"] for run in values["runs"] if run["figures"]} == {2 * 16}
    assert "| rloo " in (folder / "compare.md").read_text()
    assert Path(values["picture"]).read_bytes().startswith(b"\x89PNG")
    assert [run.state for run in list_runs(folder / "grpo")] == ["finished", "stopped"]
    assert the_same_first_step(folder / "grpo" / "seed-0", folder / "rloo" / "seed-0")
    assert not the_same_first_step(folder / "rloo" / "seed-0", folder / "rloo" / "seed-1")


def the_same_first_step(run, other):
    """Whether both runs asked the same questions and drew the same tokens, before anything was learned."""
    found = []
    for place in (run, other):
        with closing(open_record(place)) as record:
            found.append([(output.question_id, output.output.tokens) for output in record.outputs(0)])
    return all(a[0] == b[0] and np.array_equal(a[1], b[1]) for a, b in zip(*found, strict=True))
