"""Supervised fine-tuning: it learns what is marked and nothing else, measures what it never saw, and resumes."""

import json
import re
from contextlib import closing

import pytest
import torch
from safetensors.torch import load_file

from groupwise.config import ExamplesConfig, ModelConfig
from groupwise.errors import DataError
from groupwise.learn.examples import PLAIN, Encoded, heldout_loss, load_examples, negative_log_likelihood, rollouts_of
from groupwise.model.batch import microbatches
from groupwise.model.tokenizer import load_tokenizer
from groupwise.record import open_record
from tests.close import close
from tests.command import groupwise
from tests.model import build
from tests.project.sources import ROOT

RECIPE = ROOT / "recipes" / "sft.yaml"
FAST = ("questions.heldout_size=5", "evaluate.every=0")


@pytest.fixture
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # the recipe's file is named from there


def metrics(folder):
    with closing(open_record(folder)) as record:
        return [row for row in record.metrics() if not row[1].startswith(("time/", "memory/"))]


def rows(path, *examples):
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    return path


def test_the_loss_of_two_tokens_worked_by_hand():
    # -(log 0.5 + log 0.25) / 2 = (0.693147 + 1.386294) / 2; the third is not learned, whatever it holds
    logprobs = torch.tensor([[0.0, 0.5, 0.25, 0.9]], dtype=torch.float64).log()
    mask = torch.tensor([[False, True, True, False]])
    close(negative_log_likelihood(mask, 2)(logprobs), 1.0397207708399179)


def test_a_model_learns_its_examples_and_answers_questions_by_them(tmp_path, tiny_folder, at_root):
    done = groupwise("train", RECIPE, f"model.path={tiny_folder}", "--run", tmp_path / "run")
    assert done.code == 0, done.err
    assert "sft: 80 examples, 16 per step, 20.0 epochs in all, steps 1 to 100" in done.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["before"]["loss"]["value"] > 3.5
    assert summary["after"]["loss"]["value"] < 0.5
    assert summary["before"]["accuracy"] == 0.0
    assert summary["after"]["accuracy"] > 0.9
    assert "held-out loss, nats a token (95 % intervals)" in done.out
    assert "tokens learned" in done.out


def test_adapters_learn_examples_and_what_is_left_is_a_whole_model(tmp_path, tiny_folder, at_root):
    done = groupwise("train", RECIPE, f"model.path={tiny_folder}", "model.lora.rank=16", "--run", tmp_path / "run")
    assert done.code == 0, done.err
    # 16 (in + out) of each layer, which are 1024 in each of the two (tests/model/test_lora.py)
    assert "adapters beside 14 layers: 32,768 weights are trained, 77,312 stay as they are" in done.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["before"]["accuracy"] == 0.0
    assert summary["after"]["accuracy"] > 0.9
    # asked as a folder of which nothing else is known, it answers as the adapted model did
    done = groupwise("eval", RECIPE, "--model", summary["checkpoint"], "--json")
    assert json.loads(done.out)["accuracy"] == summary["after"]["accuracy"]


@pytest.mark.parametrize("own", [(), ("model.lora.rank=4",)], ids=["all weights", "adapters"])
def test_a_resumed_run_is_the_uninterrupted_one(own, tmp_path, tiny_folder, at_root):
    words = (
        "train",
        RECIPE,
        f"model.path={tiny_folder}",
        *FAST,
        *own,
        "update.schedule=constant",
        "examples.heldout_size=null",
        "--run",
    )
    for folder, steps in (("whole", 8), ("cut", 3)):
        done = groupwise(*words, tmp_path / folder, f"update.steps={steps}")
        assert done.code == 0
        assert "examples.heldout_size: 20 examples are held out and 80 are left to train on" in done.err
    assert groupwise("train", "--run", tmp_path / "cut", "--resume", "update.steps=8").code == 0
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "cut")
    whole, cut = (
        load_file(tmp_path / name / "checkpoints" / "step-000008" / "model.safetensors") for name in ("whole", "cut")
    )
    assert all(whole[key].equal(cut[key]) for key in whole)


@pytest.mark.parametrize("tokens", [1, 40, 10**6])
def test_the_gradient_is_that_of_the_plain_loss_however_it_is_cut(tmp_path, tiny_folder, tokens):
    policy = build.policy_of(build.SHARING["gpt2"], tmp_path, tiny_folder)
    policy.model.double()
    generator = torch.Generator().manual_seed(0)
    examples = []
    for length in (7, 3, 12, 2):
        ids = torch.randint(3, build.VOCABULARY, (length,), generator=generator).tolist()
        learned = [False, *(bool(x) for x in torch.randint(0, 2, (length - 2,), generator=generator)), True]
        examples.append(Encoded(tuple(ids), tuple(learned)))
    total = sum(sum(example.learned) for example in examples)
    expected = 0.0
    for example in examples:
        ids = torch.tensor([example.tokens])
        logprobs = policy.model(ids).logits[0, :-1].log_softmax(-1)
        chosen = logprobs.gather(-1, ids[0, 1:, None])[:, 0]
        expected = expected - chosen[torch.tensor(example.learned[1:])].sum() / total
    expected.backward()
    wanted = [p.grad.clone() for p in policy.model.parameters()]
    policy.model.zero_grad()
    rollouts = rollouts_of(examples, policy.device)
    for chosen_rows in microbatches(rollouts, tokens, question_once=policy.question_once):
        piece = rollouts[chosen_rows]
        own = negative_log_likelihood(piece.output_mask, total)
        policy.backward(
            piece,
            piece.output_mask,
            sampling=PLAIN,
            loss=lambda logprobs, _, own=own: own(logprobs),
        )
    for found, other in zip((p.grad for p in policy.model.parameters()), wanted, strict=True):
        close(found, other)
    figure = heldout_loss(policy, examples, tokens=tokens)
    means = []
    for example in examples:
        ids = torch.tensor([example.tokens])
        chosen = policy.model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        means.append(-chosen[torch.tensor(example.learned[1:])].mean())
    assert figure["value"] == pytest.approx(float(torch.stack(means).mean().detach()), rel=1e-5)


def test_examples_that_are_too_long_are_refused_dropped_or_cut_as_asked(tmp_path, tiny_folder):
    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_folder)))
    path = rows(tmp_path / "e.jsonl", *({"prompt": "1>", "completion": "2" * size} for size in (1, 30, 2)))
    config = ExamplesConfig(source=str(path), heldout_size=0, per_step=1, max_tokens=12)
    with pytest.raises(DataError, match=r"e\.jsonl:2: \d+ tokens, more than 12 .*; raise examples\.max_tokens, or set"):
        load_examples(config, tokenizer, seed=0)
    dropped = load_examples(config.model_copy(update={"too_long": "drop"}), tokenizer, seed=0)
    assert len(dropped.train) == 2
    cut = load_examples(config.model_copy(update={"too_long": "cut"}), tokenizer, seed=0)
    assert [len(example.tokens) <= 12 for example in cut.train] == [True] * 3


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "update.updates_per_rollout=2",
            r"update\.updates_per_rollout: stage 'sft' does not read it, rl does",
        ),
        ("objective.preset=rloo", r"objective: stage 'sft' does not read it"),
        ("critic={}", r"critic: stage 'sft' does not read it"),
        ("examples.per_step=500", r"examples\.per_step = 500, but there are 80 examples to learn from; set it to 80"),
        ("examples.source=nothing.jsonl", r"nothing\.jsonl"),
        ("examples.too_long=never", r"examples\.too_long = 'never': input should be 'refuse', 'drop' or 'cut'"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(tmp_path, at_root, override, said):
    done = groupwise("train", RECIPE, override, "--run", tmp_path / "run")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert re.search(said, done.err), done.err
    assert not (tmp_path / "run").exists()
