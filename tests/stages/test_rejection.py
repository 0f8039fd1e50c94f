"""Rejection sampling as a run: killed and resumed it is the same, its file is what fine-tuning learns."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import closing

import pytest
import transformers

from groupwise.config import ModelConfig, read_recipe
from groupwise.data import Group, Message, Question
from groupwise.datasets.base import load_questions
from groupwise.model.tokenizer import load_tokenizer
from groupwise.record import Recorder, list_runs, open_record
from groupwise.stages.rejection import Count, sampled_of
from tests.command import groupwise
from tests.datasets.reading import read_examples
from tests.project.sources import ROOT
from tests.record.recorded_steps import group, write

RECIPE = ROOT / "recipes" / "rejection.yaml"
OWN = ROOT / "tests" / "run" / "user_rewards.py"
SMALL = (
    "questions.size=50",
    "rollout.questions_per_step=6",
    "rollout.group_size=4",
    "rejection.keep=best",
    "rejection.per_question=2",
)
"""20 training questions in steps of 6, 6, 6 and 2."""


def rewards(function, **params):
    """Overrides: the recipe's reward, and one of weight 0 that does something else."""
    own = {"function": f"{OWN}:{function}", "weight": 0, "name": "own", "params": params}
    return "rewards=" + json.dumps([{"function": "number", "params": {"where": "first"}}, own])


@pytest.fixture(scope="module")
def recipe(tiny_folder, tmp_path_factory):
    """Words that start the small run; the file `once` is there, so that its reward does nothing."""
    once = tmp_path_factory.mktemp("once") / "once"
    once.touch()
    return (RECIPE, f"model.path={tiny_folder}", *SMALL, signals(once, at=0))


def signals(once, at, number=signal.SIGKILL):
    return rewards("signals_at_step", at=at, number=int(number), once=str(once))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, recipe):
    """The run that nothing happens to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        folder = tmp_path_factory.mktemp("whole") / "run"
        done = groupwise("train", *recipe, "--run", folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # the recipe's file of examples is named from there


def rows(folder):
    return [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]


def outputs(folder):
    with closing(open_record(folder)) as record:
        return [(o.step, o.question_id, o.sample, o.output.text, o.reward.value) for o in record.outputs()]


def test_every_question_is_asked_once_in_the_files_order(whole):
    asked = [key for _, key, sample, _, _ in outputs(whole) if sample == 0]
    settings = read_recipe(whole / "recipe.yaml")
    assert asked == [question.id for question in load_questions(settings.questions, settings.seed).train]
    with closing(open_record(whole)) as record:
        assert record.steps() == [0, 1, 2, 3]
        assert record.info()["steps"] == "4"
    assert [found.state for found in list_runs(whole.parent)] == ["finished"]


def test_the_counts_add_up_in_table_summary_and_metrics(whole, recipe, tmp_path):
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["questions"] == 20
    assert summary["outputs"] == 80 == summary["kept"] + sum(summary["not_kept"].values())
    with closing(open_record(whole)) as record:
        passed = sum(value for _, _, value in record.metrics("selection/passed"))
        cut = sum(value for _, _, value in record.metrics("selection/unfinished"))
    assert passed == summary["kept"] + sum(summary["not_kept"][reason] for reason in ("same", "cap"))
    assert cut == summary["not_kept"]["unfinished"] > 0
    kept = [row for row in rows(whole) if "model" in row["provenance"]]
    mixed = [row for row in rows(whole) if "source" in row["provenance"]]
    assert len(kept) == summary["kept"] > 10
    assert len(mixed) == summary["mixed"][0]["mixed_in"] == int(summary["kept"] / 2 + 0.5)
    shutil.copytree(whole, tmp_path / "run")
    told = groupwise("train", "--run", tmp_path / "run", "--resume").out
    assert "20 questions, 80 outputs sampled" in told
    assert re.search(rf"kept +│ +{summary['kept']} │", told)
    assert f"examples    {tmp_path}/run/examples.jsonl " in told


def test_a_killed_run_goes_on_where_its_record_ends_and_the_file_is_the_same(tmp_path, recipe, whole):
    once, run = tmp_path / "once", tmp_path / "run"
    words = [*recipe[:-1], signals(once, at=2), "--run", run]
    command = [sys.executable, "-m", "groupwise", "train", *map(str, words)]
    killed = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (run / "examples.jsonl").exists()
    with closing(open_record(run)) as record:
        assert record.steps() == [0, 1]
    resumed = groupwise("train", "--run", run, "--resume")
    assert resumed.code == 0, resumed.err
    assert "steps 3 to 4" in resumed.err
    assert outputs(run) == outputs(whole)
    assert (run / "examples.jsonl").read_bytes() == (whole / "examples.jsonl").read_bytes()


def test_ctrl_c_keeps_the_finished_steps_and_says_how_to_go_on(tmp_path, recipe, whole):
    run = tmp_path / "run"
    stopped = groupwise("train", *recipe[:-1], signals(tmp_path / "once", at=3, number=signal.SIGINT), "--run", run)
    assert stopped.code == 130
    assert f"stopped after step 3, all on record in {run}/record.sqlite" in stopped.err
    assert f"resume with: groupwise train --run {run} --resume" in stopped.err
    assert groupwise("train", "--run", run, "--resume").code == 0
    assert (run / "examples.jsonl").read_bytes() == (whole / "examples.jsonl").read_bytes()


def test_another_selection_samples_nothing_and_loads_no_weights(tmp_path, whole, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    loads = transformers.AutoModelForCausalLM
    monkeypatch.setattr(loads, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    other = groupwise("train", "--run", run, "--resume", "rejection.per_question=1", "rejection.mix=[]")
    assert other.code == 0, other.err
    assert "changed since the run was last started: rejection.per_question = 1 (was 2)" in other.err
    assert len(rows(run)) < len(rows(whole))
    assert outputs(run) == outputs(whole)
    back = [
        "rejection.per_question=2",
        f"rejection.mix={json.dumps(read_recipe(RECIPE).model_dump()['rejection']['mix'])}",
    ]
    (run / "examples.jsonl").unlink()
    assert groupwise("train", "--run", run, "--resume", *back).code == 0
    assert (run / "examples.jsonl").read_bytes() == (whole / "examples.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rollout.temperature=0.5", r"rollout\.temperature = 0\.5: the run in \S+ began with 1\.0"),
        ("rewards.0.weight=2", r"rewards\.0\.weight = 2\.0: the run in \S+ began with 1\.0"),
        ("seed=1", r"seed = 1: the run in \S+ began with 0"),
    ],
)
def test_how_it_was_sampled_cannot_change(whole, override, said):
    done = groupwise("train", "--run", whole, "--resume", override)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert re.search(said, done.err), done.err


def test_questions_or_weights_that_changed_are_refused(tmp_path, recipe, tiny_folder):
    model, run = tmp_path / "model", tmp_path / "run"
    questions = tmp_path / "q.jsonl"
    texts = [json.dumps({"prompt": f"{number}>", "answer": "1"}) for number in range(8)]
    questions.write_text("\n".join(texts))
    shutil.copytree(tiny_folder, model)
    own = [f"model.path={model}", f"questions.source={questions}", "questions.params={}", "questions.size=null"]
    words = [*recipe[:2], *SMALL[1:], *own, "questions.heldout_size=0"]
    stopped = groupwise("train", *words, signals(tmp_path / "once", at=1, number=signal.SIGINT), "--run", run)
    assert stopped.code == 130, stopped.err
    questions.write_text("\n".join([texts[1], texts[0], *texts[2:]]))
    changed = groupwise("train", "--run", run, "--resume")
    assert (changed.code, "'q:1', which the run in" in changed.err) == (2, True), changed.err
    questions.write_text("\n".join(texts))
    shutil.copy(other_weights(), model / "model.safetensors")
    changed = groupwise("train", "--run", run, "--resume")
    assert (changed.code, changed.err.count("\n")) == (2, 1), changed.err
    assert re.search(r"model\.path = \S+: the run in \S+ began with other weights; restore them", changed.err)


def other_weights():
    from groupwise.model.builtin import tiny

    return tiny(7) / "model.safetensors"


def test_fine_tuning_learns_what_was_kept_as_the_policy_would_write_it(tmp_path, whole, tiny_folder):
    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_folder)))
    examples = read_examples(whole / "examples.jsonl")
    for row, example in zip(rows(whole), examples, strict=True):
        [(tokens, learned)] = tokenizer.encode_example(example)
        said = [token for token, own in zip(tokens, learned, strict=True) if own]
        # the tiny model has no character "<", which a token of a turn, drawn at random, has as text
        assert tokenizer.decode(said).replace("<unk>", "<") == row["completion"][0]["content"]
        assert said[-1] in tokenizer.end_tokens
        assert tokens[: -len(said)] == tokenizer.encode(example.messages[:-1])
    words = (ROOT / "recipes" / "sft.yaml", f"model.path={tiny_folder}", "update.steps=1", "examples.heldout_size=2")
    done = groupwise("train", *words, f"examples.source={whole}/examples.jsonl", "--run", tmp_path / "sft")
    assert done.code == 0, done.err


def test_provenance_leads_back_to_the_record(whole, tiny_folder):
    found = {(step, key, sample): (text, reward) for step, key, sample, text, reward in outputs(whole)}
    kept = [row for row in rows(whole) if "model" in row["provenance"]]
    for row in kept:
        told = row["provenance"]
        text, reward = found[told["step"], told["question_id"], told["sample"]]
        assert (row["completion"][0]["content"], told["reward"]) == (text, reward)
        assert (told["model"], told["seed"]) == (str(tiny_folder), 0)
        assert told["rewards"] == {"number": reward, "own": 0.0}
        assert told["tokens"] >= len(re.sub(r"<\w+>", "1", text))  # a special token is one, whatever it is called
    with closing(open_record(whole)) as record:
        assert {row["provenance"]["policy"] for row in kept} == {record.info()["policy"]}


def test_nothing_kept_is_an_error_that_says_why_and_the_record_stays(tmp_path, recipe, whole):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    done = groupwise("train", "--run", run, "--resume", "rejection.min_tokens=999")
    assert done.code == 1
    said = (
        r"^error: \S+: none of 80 outputs is kept; most, \d+, fell to '(unfinished|short)': .*; they stay in the "
        r"record: change rejection\.\* and add --resume"
    )
    assert re.search(said, done.err.splitlines()[-1]), done.err
    assert not (run / "examples.jsonl").exists()
    assert [found.state for found in list_runs(tmp_path)] == ["stopped"]
    assert groupwise("train", "--run", run, "--resume", "rejection.min_tokens=1").code == 0
    assert (run / "examples.jsonl").read_bytes() == (whole / "examples.jsonl").read_bytes()


def test_a_step_whose_rewards_failed_is_done_again_unless_more_may_fail(tmp_path, recipe):
    run, other = tmp_path / "run", tmp_path / "other"
    # 12 questions; the first call is the check, 24 are the first step's, and the 24 of the second fail
    words = (*recipe[:2], *SMALL, "questions.size=42", rewards("fails_on_calls", calls=list(range(26, 50))))
    failed = groupwise("train", *words, "--run", run)
    assert failed.code == 1
    assert "reward 'own' failed on 24 of 24 outputs" in failed.err.splitlines()[-1]
    assert f"stopped after step 1, all on record in {run}/record.sqlite" in failed.err
    shutil.copytree(run, other)
    again = groupwise("train", "--run", run, "--resume")  # a new process, which counts its calls from 1
    assert again.code == 0, again.err
    assert "steps 2 to 2" in again.err
    assert json.loads((run / "summary.json").read_text())["not_kept"]["failed"] == 0
    allowed = groupwise("train", "--run", other, "--resume", "run.failed_rewards_limit=1")
    assert allowed.code == 0, allowed.err
    assert "outputs per step" not in allowed.err
    assert json.loads((other / "summary.json").read_text())["not_kept"]["failed"] == 24


def test_a_recipes_own_template_is_no_contamination(tmp_path, recipe):
    frame = "questions.template='of the words before every question these are five, {question}'"
    own = (frame, "questions.params.levels=[2]", "questions.size=36", "rejection.ngram=5", "rejection.keep=every")
    done = groupwise("train", *recipe, *own, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["not_kept"]["contaminated"] == 0


def test_outputs_to_a_question_of_the_files_that_are_named_are_left_out(tmp_path, whole):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    taken = next(row for row in rows(whole) if "model" in row["provenance"])["prompt"][0]["content"]
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": taken}))
    done = groupwise("train", "--run", run, "--resume", f"rejection.against=['{tmp_path}/test.jsonl']")
    assert done.code == 0, done.err
    assert all(row["prompt"][0]["content"] != taken for row in rows(run))
    assert json.loads((run / "summary.json").read_text())["not_kept"]["contaminated"] > 0


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "rejection.keep=shortest",
            r"rejection\.keep = 'shortest': no such name; did you mean 'shortest_right'\?; known",
        ),
        ("rejection.by=nubmer", r"rejection\.by: no reward of the name 'nubmer'; did you mean 'number'\?"),
        ("rejection.by=number", r"rejection\.by = 'number': the rule 'shortest_right' goes by no reward; set"),
        ("rejection.require.boxed=1", r"rejection\.require\.boxed: no reward of the name 'boxed'; choose from: number"),
        ("rejection.max_tokens=0", r"rejection\.max_tokens = 0: "),
        ("rejection.min_tokens=9 rejection.max_tokens=8", r"max_tokens = 8 is below rejection\.min_tokens = 9"),
        ("rejection.mix.0.source=none.jsonl", r"'none\.jsonl': no such file or folder"),
        ("rejection.mix.0.weight=0", r"rejection\.mix\.0\.weight = 0: "),
        (
            "rejection.contaminated=refuse",
            r"example_completions\.jsonl:\d+: shares its words with held-out question 's",
        ),
        ("rejection.against=[none.jsonl]", r"'none\.jsonl': no such file or folder"),
        ("update.steps=5", r"update: stage 'rejection' does not read it"),
        (
            "rollout.dynamic_sampling_rounds=1",
            r"rollout\.dynamic_sampling_rounds: stage 'rejection' does not read it, rl does",
        ),
        ("run.checkpoint_every=5", r"run\.checkpoint_every: stage 'rejection' does not read it"),
        ("evaluate.samples=4", r"evaluate\.samples: stage 'rejection' does not read it"),
        ("stage=rl update.steps=1", r"rejection: stage 'rl' does not read it"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(tmp_path, override, said):
    done = groupwise("train", RECIPE, *override.split(), "--run", tmp_path / "run")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert re.search(said, done.err), done.err
    assert not (tmp_path / "run").exists()


def test_a_question_that_no_answer_may_follow_is_refused_before_sampling(tmp_path, recipe):
    turns = [{"role": "user", "content": "1>"}, {"role": "user", "content": "2>"}]
    (tmp_path / "q.jsonl").write_text(json.dumps({"prompt": turns, "answer": "1"}))
    own = (f"questions.source={tmp_path}/q.jsonl", "questions.params={}", "questions.heldout_size=0")
    done = groupwise("train", *recipe, *own, "--run", tmp_path / "run")
    assert (done.code, "question 'q:1': turn 2 of role 'user' behind a turn of role 'user'" in done.err) == (2, True)
    assert not (tmp_path / "run").exists()


def test_the_record_is_read_a_question_at_a_time_and_those_that_ask_the_same_side_by_side(tmp_path):
    asked = {"a": "7>", "b": "8>", "c": " 7>\n"}
    groups = [
        Group(Question(key, (Message("user", text),)), group(0, (1.0, 0.0), text=key).samples)
        for key, text in asked.items()
    ]
    with closing(Recorder.create(tmp_path, {})) as recorder:
        write(recorder, 0, groups[:2])
        write(recorder, 1, groups[2:])
    with closing(open_record(tmp_path)) as record:
        outputs = record.outputs
        read = []
        record.outputs = lambda **one: (read.append(one["question"]), outputs(**one))[1]
        count = Count()
        found = count.of(sampled_of(record, read_recipe(RECIPE)))
        assert next(found).question.id == "a"
        assert read == ["a"]
        assert [one.question.id for one in found] == ["c", "b"]
    assert (count.questions, count.outputs) == (3, 6)
