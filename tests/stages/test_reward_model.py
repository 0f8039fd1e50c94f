"""The stage reward_model learns what was preferred, or which steps were right; and any library loads what it wrote."""

import itertools
import json
import re
from contextlib import closing

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from groupwise.config import ExamplesConfig, ModelConfig, RewardModelConfig
from groupwise.learn.judgements import Case, load_judgements
from groupwise.model.reward_model import SEQUENCES, TOKENS, logits, pieces
from groupwise.model.tokenizer import load_tokenizer
from groupwise.record import open_record
from tests.close import close
from tests.command import groupwise
from tests.model import build
from tests.model.classifiers import classifier, plain, random_groups, saved
from tests.project.sources import ROOT

RECIPE, STEPS = ROOT / "recipes" / "reward_model.yaml", ROOT / "recipes" / "process_model.yaml"
SHORT = ("update.schedule=constant", "examples.heldout_size=5", "update.warmup_steps=0")


@pytest.fixture
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # the recipes' files are named from there


def metrics(folder):
    with closing(open_record(folder)) as record:
        return [row for row in record.metrics() if not row[1].startswith(("time/", "memory/"))]


def rows(path, *examples):
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    return path


PROMPTS = ["".join(letters) for letters in itertools.product("abcdefghijklmn", repeat=2)]
"""196 of them: what is held out is whole prompts."""


def larger_digits(path):
    """Of two digits the larger one is preferred, whatever is asked."""
    pairs = zip(PROMPTS, [*itertools.combinations(range(10), 2)] * 4, strict=False)
    return rows(path, *({"prompt": asked, "chosen": str(b), "rejected": str(a)} for asked, (a, b) in pairs))


def falling_steps(path):
    """A step is right if its second digit is the smaller one."""
    steps = [f"{a}>{b}" for a, b in itertools.permutations(range(10), 2)]
    answers = [(a, b) for shift in (37, 53) for a, b in zip(steps, [*steps[shift:], *steps[:shift]], strict=True)]
    return rows(
        path,
        *(
            {"prompt": asked, "completions": list(said), "labels": [s[0] > s[2] for s in said]}
            for asked, said in zip(PROMPTS, answers, strict=False)
        ),
    )


@pytest.mark.long
def test_a_learned_preference_orders_pairs_it_has_never_seen(tmp_path, tiny_folder):
    path = larger_digits(tmp_path / "digits.jsonl")
    words = (f"model.path={tiny_folder}", f"examples.source={path}", "examples.heldout_size=30", "examples.per_step=15")
    done = groupwise("train", RECIPE, *words, "update.steps=100", "--run", tmp_path / "run")
    assert done.code == 0, done.err
    assert "reward_model: sequence-classification from 150 examples, 15 per step, 10.0 epochs in all" in done.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["after"]["preferred"]["value"] > 0.95
    assert summary["after"]["loss"]["value"] < 0.2 < summary["before"]["loss"]["value"]
    assert summary["after"]["calibration"]["value"] < 0.2
    assert "held-out loss, nats a pair" in done.out
    assert re.search(r"preferred rightly, of 30 held out: .* -> 100\.0%", done.out)
    assert "AutoModelForSequenceClassification.from_pretrained loads it" in " ".join(done.out.split())
    # transformers alone, which pads them, gives the larger digit the higher score
    folder = str(tmp_path / "run" / "checkpoints" / "step-000100")
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    chats = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        for asked, said in (("a", "3"), ("a", "8"), ("abcdefghij", "0"))
    ]
    encoded = tokenizer.apply_chat_template(chats, return_tensors="pt", padding=True, return_dict=True)
    with torch.no_grad():
        low, high, _ = model(**encoded).logits[:, 0].tolist()
    assert high > low + 1


def test_labels_of_steps_are_learned(tmp_path, tiny_folder):
    path = falling_steps(tmp_path / "steps.jsonl")
    words = (f"model.path={tiny_folder}", f"examples.source={path}", "examples.per_step=20")
    done = groupwise("train", STEPS, *words, "update.steps=100", "--run", tmp_path / "run")
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["after"]["steps"]["value"] > 0.9
    assert 0.3 < summary["after"]["right"] < 0.7
    assert "held-out loss, nats a step" in done.out
    assert "AutoModelForTokenClassification" in done.out
    folder = str(tmp_path / "run" / "checkpoints" / "step-000100")
    assert AutoModelForTokenClassification.from_pretrained(folder).config.num_labels == 2


@pytest.mark.parametrize("recipe", [RECIPE, STEPS], ids=["pairs", "steps"])
def test_a_resumed_run_is_the_uninterrupted_one(recipe, tmp_path, tiny_folder, at_root):
    words = ("train", recipe, f"model.path={tiny_folder}", *SHORT, "examples.per_step=8", "--run")
    for folder, steps in (("whole", 4), ("cut", 2)):
        assert groupwise(*words, tmp_path / folder, f"update.steps={steps}").code == 0
    assert groupwise("train", "--run", tmp_path / "cut", "--resume", "update.steps=4").code == 0
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "cut")
    whole, cut = (
        load_file(tmp_path / name / "checkpoints" / "step-000004" / "model.safetensors") for name in ("whole", "cut")
    )
    assert whole.keys() == cut.keys()
    assert all(whole[key].equal(cut[key]) for key in whole)


def test_a_resumed_run_cuts_its_steps_as_it_began(tmp_path, tiny_folder, at_root):
    words = (f"model.path={tiny_folder}", *SHORT, "examples.per_step=8", "update.steps=1", "--run", tmp_path / "run")
    assert groupwise("train", STEPS, *words).code == 0
    done = groupwise("train", "--run", tmp_path / "run", "--resume", "update.steps=2", "reward_model.separator=x")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "reward_model.separator = 'x': the run in" in done.err


@pytest.mark.parametrize(
    ("kind", "config"), [(SEQUENCES, build.SHARING["llama"]), (TOKENS, build.SHARING["gpt2"])], ids=["pairs", "steps"]
)
def test_it_goes_on_from_a_classifier_of_another_make(kind, config, tmp_path, tiny_folder, at_root):
    folder = saved(config, kind, tmp_path / "model", tiny_folder, labels=1)
    recipe = RECIPE if kind is SEQUENCES else STEPS
    words = (f"model.path={folder}", *SHORT, "update.steps=1", "--run", tmp_path / "run")
    done = groupwise("train", recipe, *words)
    assert done.code == 0, done.err
    before = load_file(folder / "model.safetensors")
    after = load_file(tmp_path / "run" / "checkpoints" / "step-000001" / "model.safetensors")
    assert before.keys() == after.keys()
    assert max(float((after[key] - before[key]).abs().max()) for key in before) < 0.02  # one step away, not drawn anew


def test_a_margin_is_that_of_its_row_and_none_is_0(tmp_path, tiny_folder):
    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    path = rows(tmp_path / "e.jsonl", pair | {"margin": 2.5}, pair | {"prompt": "d"})
    config = ExamplesConfig(source=str(path), heldout_size=0, per_step=1)
    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_folder)))
    found = load_judgements(config, tokenizer, reward_model=RewardModelConfig(), seed=0)
    assert [case.margin for case in found.train] == [2.5, 0.0]


@pytest.mark.parametrize("tokens", [1, 30, 10**6])
def test_the_gradient_of_a_step_is_that_of_the_plain_loss_however_it_is_cut(tmp_path, tiny_folder, tokens):
    from groupwise.learn.judgements import JUDGEMENT_RULES, Pair

    policy = classifier(build.SHARING["gpt2"], SEQUENCES, tmp_path, tiny_folder)
    policy.model.double()
    groups = random_groups(places=1)
    cases = [Case("here", tuple(group), margin=margin) for group, margin in zip(groups, (0.0, 1.5, -0.5), strict=True)]
    scores = plain(policy, [reading for group in groups for reading in group])[:, 0]
    chosen, rejected, margins = scores[0::2], scores[1::2], torch.tensor([0.0, 1.5, -0.5])
    expected = (torch.log1p((rejected - chosen + margins).exp()) + 0.1 * (chosen + rejected) ** 2).mean()
    expected.backward()
    wanted = [p.grad.clone() for p in policy.model.parameters()]
    policy.model.zero_grad()
    for rows in pieces(groups, tokens, question_once=True):
        with logits(policy, [groups[row] for row in rows]) as found:
            (JUDGEMENT_RULES[Pair].losses(found, [cases[row] for row in rows], 0.1).sum() / 3).backward()
    for found, other in zip((p.grad for p in policy.model.parameters()), wanted, strict=True):
        close(found, other)


def test_long_examples_are_refused_dropped_or_lose_their_last_steps(tmp_path, tiny_folder):
    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_folder)))
    steps = {"prompt": "a", "completions": ["bb", "cc", "dd"], "labels": [1, 0, 1]}
    path = rows(tmp_path / "e.jsonl", steps, steps | {"prompt": "a" * 20}, steps | {"completions": ["b", "c", "d"]})
    # <user>a<end><assistant>bb.cc.dd.<end>: 4 + 9 + 1 tokens; the third has 11
    config = ExamplesConfig(source=str(path), heldout_size=0, per_step=1, max_tokens=12)
    settings = RewardModelConfig(separator=".")

    def loaded(too_long):
        return load_judgements(
            config.model_copy(update={"too_long": too_long}), tokenizer, reward_model=settings, seed=0
        ).train

    with pytest.raises(Exception, match=r"e\.jsonl:1: 14 tokens, more than 12 .*; raise examples\.max_tokens, or set"):
        loaded("refuse")
    assert [case.where.rpartition(":")[2] for case in loaded("drop")] == ["3"]
    assert [case.right for case in loaded("cut")] == [(True, False), (True, False, True)]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a", "chosen": "b ", "rejected": "b"}, r"e\.jsonl:2: chosen and rejected are equal"),
        ({"prompt": "a", "chosen": "", "rejected": "b"}, r"e\.jsonl:2: chosen = '' is empty"),
        ({"prompt": "a", "completions": ["b"], "labels": [1]}, r"e\.jsonl:1: 'chosen' is of a pair"),
        # two characters that the tokenizer does not know
        ({"prompt": "a", "chosen": "ä", "rejected": "ö"}, r"e\.jsonl:2: chosen and rejected are the same 6 tokens"),
    ],
)
def test_a_row_that_prefers_nothing_is_refused_in_one_line(tmp_path, tiny_folder, row, said):
    path = rows(tmp_path / "e.jsonl", {"prompt": "a", "chosen": "b", "rejected": "c"}, row)
    words = (f"model.path={tiny_folder}", f"examples.source={path}", "examples.per_step=1", "examples.heldout_size=0")
    done = groupwise("train", RECIPE, *words, "--run", tmp_path / "run")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert re.search(said, done.err), done.err


@pytest.mark.parametrize(
    ("recipe", "override", "said"),
    [
        (RECIPE, "questions={source: arithmetic} rewards=[{function: number}]", "questions: stage 'reward_model' does"),
        (RECIPE, "objective.preset=rloo", "objective: stage 'reward_model' does not read it"),
        (RECIPE, "rollout.group_size=4", "rollout: stage 'reward_model' does not read it"),
        (RECIPE, "critic={}", "critic: stage 'reward_model' does not read it"),
        (RECIPE, "reward_model.separator=x", "reward_model.separator = 'x': nothing reads it where pairs are learned"),
        (STEPS, "reward_model.centre_coef=1", "reward_model.centre_coef = 1.0: nothing reads it where steps are"),
        (STEPS, "reward_model.separator=", "reward_model.separator"),
        (RECIPE, "examples.too_long=cut", "examples.too_long = 'cut': an answer without its end is not the one that"),
        (RECIPE, "examples.heldout=recipes/example_steps.jsonl", "pair and stepped rows; stage 'reward_model' learns"),
        (RECIPE, "examples.source=recipes/example_completions.jsonl", "neither pairs nor labelled steps"),
        (RECIPE, "examples.per_step=500", "examples.per_step = 500, but there are 380 examples to learn from"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(tmp_path, tiny_folder, at_root, recipe, override, said):
    overrides = re.split(r" (?=\w+=\[)", override)
    done = groupwise("train", recipe, f"model.path={tiny_folder}", *overrides, "--run", tmp_path / "run")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert said in done.err
    assert not (tmp_path / "run").exists()
