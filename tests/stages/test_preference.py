"""Preferences: the gradient is the plain loss's, the reference is computed once, a run resumes, pairs are learned."""

import json
import re
import shutil
from contextlib import closing

import pytest
import torch
from safetensors.torch import load_file, save_file

from groupwise import registry
from groupwise.config import ExamplesConfig, ModelConfig, UpdateConfig
from groupwise.errors import ConfigError, DataError
from groupwise.learn.preferences import (
    Compared,
    Method,
    liked_of,
    load_preferences,
    one_before,
    rollouts_of,
    summed_logprobs,
)
from groupwise.model.tokenizer import load_tokenizer
from groupwise.record import open_record
from groupwise.run.references import FILE
from groupwise.stages.preference import figures_of_step, gradient
from tests.close import close
from tests.command import groupwise
from tests.model import build
from tests.project.sources import ROOT

DPO, KTO = ROOT / "recipes" / "dpo.yaml", ROOT / "recipes" / "kto.yaml"
FEW = ("examples.per_step=8", "examples.heldout_size=10")
"""What a run needs no more of to be resumed."""
SETTINGS = {"beta": 0.3, "label_smoothing": 0.2, "desirable_weight": 1.5, "undesirable_weight": 0.5}
METHODS = {name: Method(name, registry.load(registry.PREFERENCES, name), SETTINGS) for name in registry.PREFERENCES}


@pytest.fixture
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # the recipes' files are named from there


def metrics(folder):
    with closing(open_record(folder)) as record:
        return [row for row in record.metrics() if not row[1].startswith(("time/", "memory/"))]


def weights(folder, step):
    return load_file(folder / "checkpoints" / f"step-{step:06d}" / "model.safetensors")


def compared(*, pairs):
    """Questions of 5, 2 and 7 tokens with outputs of uneven lengths."""
    generator = torch.Generator().manual_seed(0)

    def draw(count):
        return tuple(torch.randint(3, build.VOCABULARY, (count,), generator=generator).tolist())

    sizes = ((5, (3, 1)), (2, (2, 6)), (7, (4, 4))) if pairs else ((5, (3,)), (2, (6,)), (7, (4,)), (4, (1,)))
    return [
        Compared("", draw(question), tuple(map(draw, outputs)), (True, False) if pairs else (number % 2 == 0,))
        for number, (question, outputs) in enumerate(sizes)
    ]


def plain_sums(model, items):
    """log pi of each output by the model's own padded forward pass."""
    rows = [(one.question, output) for one in items for output in one.outputs]
    width = max(len(question) + len(output) for question, output in rows)
    tokens, attention = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for row, (question, output) in enumerate(rows):
        length = len(question) + len(output)
        tokens[row, :length], attention[row, :length] = torch.tensor(question + output), 1
    logprobs = model(tokens, attention_mask=attention).logits[:, :-1].log_softmax(-1)
    chosen = logprobs.gather(-1, tokens[:, 1:, None])[..., 0]
    return torch.stack(
        [
            chosen[row, len(question) - 1 : len(question) + len(output) - 1].sum()
            for row, (question, output) in enumerate(rows)
        ]
    )


def plain_loss(name, ratios, items, z0):
    """The papers' formulas once more, example by example."""
    beta, smoothing = SETTINGS["beta"], SETTINGS["label_smoothing"]
    losses, row = [], 0
    for one in items:
        h = ratios[row : row + len(one.outputs)]
        row += len(one.outputs)
        if name == "dpo":
            right = 1 / (1 + torch.exp(-beta * (h[0] - h[1])))
            losses.append(-(1 - smoothing) * torch.log(right) - smoothing * torch.log(1 - right))
        elif name == "ipo":
            losses.append((h[0] / len(one.outputs[0]) - h[1] / len(one.outputs[1]) - 0.5 / beta) ** 2)
        elif one.liked[0]:
            losses.append(SETTINGS["desirable_weight"] * (1 - 1 / (1 + torch.exp(-beta * (h[0] - z0)))))
        else:
            losses.append(SETTINGS["undesirable_weight"] * (1 - 1 / (1 + torch.exp(-beta * (z0 - h[0])))))
    return sum(losses) / len(items)


@pytest.mark.parametrize("family", ["gpt2", "bloom"])  # each question once; each output with its question, padded
@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_gradient_is_that_of_the_plain_loss_however_the_step_is_cut(
    tmp_path, tiny_folder, monkeypatch, family, name
):
    monkeypatch.setattr("groupwise.model.linear_logprobs.CHUNK_BYTES", 3 * 4 * build.VOCABULARY)  # three tokens a chunk
    policy = build.policy_of({**build.SHARING, **build.NOT_SHARING}[family], tmp_path, tiny_folder)
    policy.model.double()
    assert policy.question_once == (family == "gpt2")
    items = compared(pairs=METHODS[name].of_pairs)
    rollouts, liked = rollouts_of(items, policy.device), liked_of(items, policy.device)
    noise = torch.randn(len(liked), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    of_reference, z0 = plain_sums(policy.model, items).detach() + noise, torch.tensor(0.4, dtype=torch.float64)
    expected = plain_loss(name, plain_sums(policy.model, items) - of_reference, items, z0)
    expected.backward()
    wanted = {key: p.grad.clone() for key, p in policy.model.named_parameters() if p.grad is not None}
    for tokens in (1, 20, 10**6):
        sums, loss, halvings = gradient(
            policy,
            torch.optim.SGD(policy.model.parameters()),
            METHODS[name],
            rollouts=rollouts,
            liked=liked,
            of_reference=of_reference,
            z0=z0,
            units=len(items),
            config=UpdateConfig(steps=1, tokens_per_microbatch=tokens),
            step=0,
        )
        assert halvings == 0
        close(loss, float(expected.detach()))
        close(sums, of_reference - noise)
        for key, parameter in policy.model.named_parameters():
            if key in wanted:
                close(parameter.grad, wanted[key])


def test_sums_behind_other_questions_are_those_of_plain_transformers(tmp_path, tiny_folder):
    policy = build.policy_of(build.SHARING["gpt2"], tmp_path, tiny_folder)
    policy.model.double()
    items = compared(pairs=False)
    others = one_before(items)
    assert [one.question for one in others] == [one.question for one in items]
    assert [one.outputs for one in others] == [items[3].outputs, *(one.outputs for one in items[:3])]
    close(summed_logprobs(policy, others, tokens=20), plain_sums(policy.model, others))


def test_behind_a_question_stands_the_last_output_before_it_to_another_question():
    # two outputs to each of a and b, one to c: in a file outputs to one question stand together
    items = [Compared("", (ord(name),), ((number,),), (True,)) for number, name in enumerate("aabbc")]
    assert [one.outputs[0][0] for one in one_before(items)] == [4, 4, 1, 1, 3]
    assert [one.outputs[0][0] for one in one_before(items[:2])] == [1, 0]  # all to one: the one before
    assert one_before([]) == []


def test_what_is_told_of_single_outputs_counts_both_kinds_alike():
    # of four outputs one was liked; each is lowered, so the three are right and the one is not: 0.5 (0 + 1)
    liked, ratios = torch.tensor([True, False, False, False]), torch.tensor([-1.0, -1.0, -2.0, -3.0])
    told = figures_of_step(METHODS["kto"], ratios, ratios, liked, torch.tensor(0.0))
    assert told["preference/accuracy"] == 0.5
    # the liked one raised, and one of three not lowered: 0.5 (1 + 2 / 3)
    ratios = torch.tensor([1.0, 1.0, -2.0, -3.0])
    told = figures_of_step(METHODS["kto"], ratios, ratios, liked, torch.tensor(0.0))
    assert told["preference/accuracy"] == pytest.approx(5 / 6)
    assert "preference/accuracy" not in figures_of_step(
        METHODS["kto"], ratios[1:], ratios[1:], liked[1:], torch.tensor(0.0)
    )
    told = figures_of_step(METHODS["dpo"], ratios[:2], ratios[:2], liked[:2], torch.tensor(0.0))
    assert told["preference/accuracy"] == 0.5  # a pair with a tie


def test_a_model_that_lowers_every_output_is_no_better_than_the_reference(tmp_path, tiny_folder, at_root):
    # nothing is learned from the liked: their weight is next to nothing, and three of four were disliked
    own = ("preference.desirable_weight=0.001", "update.steps=15", "examples.per_step=32", "evaluate.every=0")
    done = groupwise("train", KTO, f"model.path={tiny_folder}", *own, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["after"]["preferred"]["value"] < 0.6


@pytest.mark.long
def test_a_model_comes_to_prefer_what_was_chosen(tmp_path, tiny_folder, at_root):
    done = groupwise("train", DPO, f"model.path={tiny_folder}", "--run", tmp_path / "run")
    assert done.code == 0, done.err
    assert "dpo: 350 pairs, 32 per step, 11.0 epochs in all, steps 1 to 120" in done.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    # before its first step the policy is the reference: all rewards are 0, every pair a tie, the loss log 2
    assert summary["before"]["preferred"]["value"] == 0.5
    assert summary["before"]["loss"]["value"] == pytest.approx(0.6931472)
    assert summary["after"]["preferred"]["value"] > 0.95
    assert summary["after"]["loss"]["value"] < 0.3
    found = {(step, name): value for step, name, value in metrics(tmp_path / "run")}
    assert found[0, "preference/margin"] == pytest.approx(0.0, abs=1e-5)
    assert found[119, "preference/margin"] > 1
    assert found[119, "preference/accuracy"] > 0.9
    assert "held-out loss, a pair (95 % intervals): 0.6931 (0.6931 to 0.6931) ->" in done.out
    assert "preferred rightly, of 50 held out: 50.0%" in done.out


@pytest.mark.long
@pytest.mark.parametrize(("recipe", "loss", "steps"), [(DPO, "ipo", 25), (KTO, "kto", 40)])
def test_the_other_losses_part_the_better_from_the_worse(tmp_path, tiny_folder, at_root, recipe, loss, steps):
    own = (f"preference.loss={loss}", f"update.steps={steps}", "examples.per_step=32")
    done = groupwise("train", recipe, f"model.path={tiny_folder}", *own, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["before"]["preferred"]["value"] == 0.5
    assert summary["after"]["loss"]["value"] < 0.95 * summary["before"]["loss"]["value"]
    margins = [value for _, name, value in metrics(tmp_path / "run") if name == "preference/margin"]
    assert min(margins[-3:]) > 0.1


def test_ktos_reference_point_is_0_for_the_reference_and_then_moves(tmp_path, tiny_folder, at_root):
    done = groupwise("train", KTO, f"model.path={tiny_folder}", "update.steps=4", "--run", tmp_path / "run")
    assert done.code == 0, done.err
    points = [value for _, name, value in metrics(tmp_path / "run") if name == "preference/reference_point"]
    assert points[0] == 0.0
    assert len(points) == 4
    assert max(points) > 0


def test_what_a_step_reports_does_not_depend_on_how_it_is_cut(tmp_path, tiny_folder, at_root):
    found = []
    for tokens in (1, 10**6):
        own = (f"update.tokens_per_microbatch={tokens}", "update.steps=2", "examples.per_step=8", *FEW[1:])
        assert groupwise("train", KTO, f"model.path={tiny_folder}", *own, "--run", tmp_path / f"{tokens}").code == 0
        found.append(metrics(tmp_path / f"{tokens}"))
    assert [row[:2] for row in found[0]] == [row[:2] for row in found[1]]
    for one, other in zip(*found, strict=True):
        assert one[2] == pytest.approx(other[2], rel=1e-3, abs=1e-4), one


@pytest.mark.parametrize("recipe", [DPO, KTO])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, tiny_folder, at_root, recipe):
    words = ("train", recipe, f"model.path={tiny_folder}", "update.schedule=constant", *FEW, "--run")
    for folder, steps in (("whole", 4), ("cut", 2)):
        assert groupwise(*words, tmp_path / folder, f"update.steps={steps}").code == 0
    done = groupwise("train", "--run", tmp_path / "cut", "--resume", "update.steps=4")
    assert done.code == 0, done.err
    # KTO's outputs behind other questions are those of each step: two more steps need them of the reference
    assert ("by the reference" in done.err) == (recipe == KTO)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "cut")
    whole, cut = (weights(tmp_path / name, 4) for name in ("whole", "cut"))
    assert all(whole[key].equal(cut[key]) for key in whole)


@pytest.mark.parametrize("harm", ["gone", "damaged", "other model"])
def test_what_the_reference_said_is_computed_again_from_its_model_if_it_is_not_there(
    tmp_path, tiny_folder, at_root, harm
):
    model, run = tmp_path / "model", tmp_path / "run"
    shutil.copytree(tiny_folder, model)
    words = ("train", DPO, f"model.path={model}", "update.steps=2", *FEW, "--run", run)
    assert groupwise(*words).code == 0
    kept = {key: value.clone() for key, value in load_file(run / FILE).items()}  # not the file's own memory
    if harm == "gone":
        (run / FILE).unlink()
    elif harm == "damaged":
        (run / FILE).write_bytes((run / FILE).read_bytes()[:50])
    else:
        stored = load_file(model / "model.safetensors")
        save_file(
            {key: value * 1.01 for key, value in stored.items()}, model / "model.safetensors", metadata={"format": "pt"}
        )
    done = groupwise("train", "--run", run, "--resume", "update.steps=3")
    if harm == "other model":  # its steps so far were held to the one before
        assert done.code != 0
        assert f"model.path = '{model}' is not the model that the run began with: its weights differ" in done.err
        return
    assert done.code == 0, done.err
    assert "log-probabilities of 800 outputs by the reference" in done.err
    again = load_file(run / FILE)
    assert all(again[key].equal(kept[key]) for key in kept)


def test_with_what_it_said_kept_the_reference_may_be_gone(tmp_path, tiny_folder, at_root):
    model, run = tmp_path / "model", tmp_path / "run"
    shutil.copytree(tiny_folder, model)
    assert groupwise("train", DPO, f"model.path={model}", "update.steps=2", *FEW, "--run", run).code == 0
    shutil.rmtree(model)
    done = groupwise("train", "--run", run, "--resume", "update.steps=3")
    assert done.code == 0, done.err
    assert "by the reference" not in done.err


def test_answers_to_questions_are_measured_beside_the_pairs(tmp_path, tiny_folder, at_root):
    own = ("questions.source=arithmetic", "questions.params.kinds=[successor]", "questions.heldout_size=5")
    rewards = ("rewards=[{function: number, params: {where: first}}]", "rollout.max_new_tokens=2")
    words = ("train", DPO, f"model.path={tiny_folder}", "update.steps=2", "evaluate.every=1", *own, *rewards)
    done = groupwise(*words, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    with closing(open_record(tmp_path / "run")) as record:
        found = {one.name: one.figures for one in record.evaluations()}
    assert list(found) == ["before", "step-1", "after"]
    assert all({"loss", "preferred", "accuracy"} <= figures.keys() for figures in found.values())


def preferences_of(tmp_path, tiny_folder, rows, *, name="dpo", **settings):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = ExamplesConfig(**({"source": str(path), "heldout_size": 0, "per_step": 1} | settings))
    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_folder)))
    return load_preferences(config, tokenizer, method=METHODS[name], seed=0).train


def test_a_pair_shares_its_prompt_and_each_side_ends_as_the_policy_would_end_it(tmp_path, tiny_folder):
    (one,) = preferences_of(tmp_path, tiny_folder, [{"prompt": "1>", "chosen": "2", "rejected": "33"}])
    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_folder)))
    read = tokenizer.tokenizer.convert_ids_to_tokens
    assert read(one.question) == ["<user>", "1", ">", "<end>", "<assistant>"]
    assert [read(output) for output in one.outputs] == [["2", "<end>"], ["3", "3", "<end>"]]
    assert one.liked == (True, False)


def test_what_is_too_long_is_refused_dropped_or_cut_at_its_ends(tmp_path, tiny_folder):
    rows = [
        {"prompt": "1>", "chosen": "2", "rejected": "3"},
        {"prompt": "1>", "chosen": "2" * 9, "rejected": "3" * 30},
    ]
    with pytest.raises(DataError, match=r"p\.jsonl:2: 36 tokens, more than 12 \(.*; raise .* to drop or cut"):
        preferences_of(tmp_path, tiny_folder, rows, max_tokens=12)
    assert len(preferences_of(tmp_path, tiny_folder, rows, max_tokens=12, too_long="drop")) == 1
    _, cut = preferences_of(tmp_path, tiny_folder, rows, max_tokens=12, too_long="cut")
    assert [len(output) for output in cut.outputs] == [7, 7]
    assert len(cut.question) == 5
    with pytest.raises(DataError, match=r"p\.jsonl:1: 36 tokens, 5 of them the prompt's, more than 5 .* to drop$"):
        preferences_of(tmp_path, tiny_folder, rows[1:], max_tokens=5, too_long="cut")


def test_sides_that_are_equal_once_cut_or_to_the_tokenizer_are_refused(tmp_path, tiny_folder):
    rows = [{"prompt": "1>", "chosen": "2223", "rejected": "2224"}]
    with pytest.raises(DataError, match=r"p\.jsonl:1: chosen and rejected are the same tokens once cut to 8 tokens"):
        preferences_of(tmp_path, tiny_folder, rows, max_tokens=8, too_long="cut")
    unknown = [{"prompt": "1>", "chosen": "A", "rejected": "B"}]  # neither letter is in the vocabulary
    with pytest.raises(DataError, match=r"p\.jsonl:1: chosen and rejected are the same tokens; drop the row"):
        preferences_of(tmp_path, tiny_folder, unknown)


def test_kto_needs_other_questions_to_compare_with(tmp_path, tiny_folder):
    rows = [{"prompt": f"{n}>", "completion": "2", "label": n % 2} for n in range(4)]
    with pytest.raises(ConfigError, match=r"examples\.per_step = 1: the loss 'kto' compares with outputs to other"):
        preferences_of(tmp_path, tiny_folder, rows, name="kto")
    with pytest.raises(ConfigError, match=r"examples\.heldout_size = 1: the loss 'kto' .* held out are to one; set it"):
        preferences_of(tmp_path, tiny_folder, rows, name="kto", per_step=2, heldout_size=1)
    more = [{"prompt": f"{n // 3}>", "completion": f"{n}", "label": n % 2} for n in range(9)]
    with pytest.raises(ConfigError, match=r"examples\.heldout_size = 3: the loss 'kto'"):
        preferences_of(tmp_path, tiny_folder, more, name="kto", per_step=2, heldout_size=3)
    assert len(preferences_of(tmp_path, tiny_folder, rows, name="kto", per_step=2)) == 4


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("preference.loss=dop", r"preference\.loss = 'dop': no such name; did you mean 'dpo'"),
        ("preference.desirable_weight=2", r"preference\.desirable_weight = 2: the loss 'dpo' does not read it"),
        ("preference.loss=ipo preference.label_smoothing=0.1", r"label_smoothing = 0\.1: the loss 'ipo' does not"),
        ("preference.loss=kto", r"example_pairs\.jsonl: no column 'completion' or 'label'; .* seem to be pairs"),
        ("preference.beta=0", r"preference\.beta = 0: input should be greater than 0"),
        ("update.updates_per_rollout=2", r"update\.updates_per_rollout: stage 'preference' does not read it, rl does"),
        ("objective.kl_coef=0.1", r"objective: stage 'preference' does not read it"),
        ("critic={}", r"critic: stage 'preference' does not read it"),
        ("examples.per_step=500", r"examples\.per_step = 500, but there are 350 pairs to learn from; set it to 350"),
        ("examples.source=nothing.jsonl", r"nothing\.jsonl"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_one_line(tmp_path, at_root, override, said):
    done = groupwise("train", DPO, *override.split(), "--run", tmp_path / "run")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert re.search(said, done.err), done.err
    assert not (tmp_path / "run").exists()


def test_the_loss_cannot_change_in_a_run(tmp_path, tiny_folder, at_root):
    run = tmp_path / "run"
    assert groupwise("train", DPO, f"model.path={tiny_folder}", "update.steps=1", "--run", run).code == 0
    done = groupwise("train", "--run", run, "--resume", "update.steps=2", "preference.loss=ipo")
    assert done.code == 2
    assert "preference.loss = 'ipo': the run in" in done.err
