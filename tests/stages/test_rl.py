"""GRPO from a recipe to a trained checkpoint, on the tiny model: it learns, repeats itself and hides nothing."""

import csv
import json
from collections import Counter
from contextlib import closing
from statistics import mean, stdev

import pyarrow
import pyarrow.parquet
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from groupwise.record import open_record
from tests.close import close
from tests.command import RECIPE, SMALL, groupwise
from tests.project.sources import ROOT

REWARDS = ROOT / "tests" / "run" / "user_rewards.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_folder):
    """A run of 12 steps of 64 outputs; any digit is well formed, or such a short run would hardly meet one that is."""
    folder = tmp_path_factory.mktemp("grpo") / "run"
    sizes = ("rollout.group_size=16", "update.steps=12", "questions.heldout_size=10", "evaluate.samples=2")
    reward = r"rewards.1.params.regex=\d"
    done = groupwise(
        "train",
        RECIPE,
        f"model.path={tiny_folder}",
        *SMALL,
        *sizes,
        reward,
        "evaluate.format=one_digit",
        "--run",
        folder,
    )
    assert done.code == 0, done.err
    return folder


def metrics(folder, *, without=("time/", "tokens/per_second", "memory/")):
    """(step, name, value) of what does not depend on the clock."""
    with closing(open_record(folder)) as record:
        return [row for row in record.metrics() if not row[1].startswith(without)]


def test_the_reward_rises(run):
    rewards = [value for _, name, value in metrics(run) if name == "reward/mean"]
    assert len(rewards) == 12
    assert mean(rewards[-3:]) > mean(rewards[:3]) + 0.05, rewards


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path, tiny_folder):
    small = (f"model.path={tiny_folder}", *SMALL, "update.steps=2", "questions.heldout_size=0")
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        assert groupwise("train", RECIPE, *small, f"seed={seed}", "--run", tmp_path / name).code == 0
    one, two, other = (metrics(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one != other


def test_every_completion_is_on_record(run):
    with closing(open_record(run)) as record:
        outputs = list(record.outputs())
        answers = {question.id: question.answer for question in record.questions()}
    assert Counter(recorded.step for recorded in outputs) == dict.fromkeys(range(12), 64)
    for recorded in outputs:
        output, reward = recorded.output, recorded.reward
        assert len(output.tokens) == len(output.logprobs) == len(output.sampled) <= 4
        assert output.sampled.all()
        assert (output.logprobs < 0).all()
        assert output.policy_version == recorded.step
        parts = {name: part.value for name, part in reward.parts.items()}
        assert reward.value == parts["number"] + 0.5 * parts["one_digit"]
        if parts["number"] == 1.0:
            assert answers[recorded.question_id] in output.text


def test_the_recorded_advantages_are_those_of_the_paper(run):
    # A_i = (r_i - mean r) / std r over the 16 outputs of a group, std with n - 1; 0 where all are equal.
    with closing(open_record(run)) as record:
        outputs = list(record.outputs(step=0))
    for place in range(4):
        group = [recorded for recorded in outputs if recorded.group_index == place]
        rewards = [recorded.reward.value for recorded in group]
        spread = stdev(rewards)
        for recorded, reward in zip(group, rewards, strict=True):
            expected = (reward - mean(rewards)) / spread if spread else 0.0
            assert abs(recorded.advantage - expected) < 1e-3  # the paper's eps in the denominator


def test_the_summary_says_what_became_of_it(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 12
    assert summary["seconds"] > 0
    assert summary["tokens"] == sum(value for _, name, value in metrics(run) if name == "tokens/sampled")
    for figures in (summary["before"], summary["after"]):
        assert figures["n"] == 10
        assert 0 <= figures["low"] <= figures["accuracy"] <= figures["high"] <= 1
        assert {"mean@2", "pass@1", "pass@2", "maj@2", "format"} <= set(figures)
    assert summary["checkpoint"] == str(run / "checkpoints" / "step-000012")


def test_transformers_loads_the_checkpoint(run, tiny_folder):
    folder = run / "checkpoints" / "step-000012"
    trained, start = AutoModelForCausalLM.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(tiny_folder)
    assert AutoTokenizer.from_pretrained(folder).chat_template
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(trained.state_dict()[name], start.state_dict()[name])


def test_pi_ref_is_the_model_that_the_run_began_with(tmp_path, tiny_folder):
    kl = ("objective.kl_coef=0.1", "questions.heldout_size=0", "update.steps=3")
    done = groupwise("train", RECIPE, f"model.path={tiny_folder}", *SMALL, *kl, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    values = [value for _, name, value in metrics(tmp_path / "run") if name == "kl"]
    assert close(values[0], 0.0)  # before the first update the two are one
    assert values[2] > 1e-4


@pytest.mark.parametrize("form", ["trl", "verl"])
def test_ones_own_questions_and_reward_functions_train_as_they_are(tmp_path, tiny_folder, form):
    pairs = [(f"{digit}>", str(digit + 1)) for digit in range(9)]
    if form == "trl":
        source = tmp_path / "questions.csv"
        with source.open("w", newline="") as file:
            csv.writer(file).writerows([("prompt", "answer"), *pairs])
    else:
        source = tmp_path / "questions.parquet"
        rows = [
            {
                "data_source": "digits",
                "prompt": [{"role": "user", "content": prompt}],
                "reward_model": {"style": "rule", "ground_truth": answer},
                "extra_info": {"index": index},
            }
            for index, (prompt, answer) in enumerate(pairs)
        ]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), source)
    own = (f"questions.source={source}", "questions.params={}", "questions.heldout_size=3", "update.steps=1")
    reward = f"rewards=[{{function: {REWARDS}:{form}_form}}]"
    done = groupwise("train", RECIPE, f"model.path={tiny_folder}", *SMALL, *own, reward, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    with closing(open_record(tmp_path / "run")) as record:
        parts = [recorded.reward.parts for recorded in record.outputs()]
        held = record.evaluations()[0].figures["n"]
    assert (len(parts), held) == (16, 3)
    wanted = {"trl_form"} if form == "trl" else {"verl_form", "verl_form/index", "verl_form/digits"}
    assert all(set(part) == wanted for part in parts)
    assert all(each.state == "value" for part in parts for each in part.values())
