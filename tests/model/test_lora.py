"""Low-rank adapters: the base model at first, plain peft's gradients, whole checkpoints, the same run when resumed."""

import json
import re
import sys
from collections import namedtuple

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Llama4TextConfig

from groupwise.config import LoraConfig, ModelConfig, UpdateConfig, recipe_from
from groupwise.data import Sampling
from groupwise.engines.base import Task, generate
from groupwise.engines.local import LocalEngine
from groupwise.errors import CheckpointError, ConfigError, ModelError
from groupwise.learn.optimizer import bounded_step, make_optimizer
from groupwise.learn.tally import Tally
from groupwise.model.checkpoint import load_state, save_checkpoint
from groupwise.model.loading import load_policy
from groupwise.model.lora import load_adapted, merged_weights, without_adapters
from tests.close import close
from tests.command import RECIPE, SMALL, groupwise
from tests.model import build

PLAIN = Sampling(max_new_tokens=9)
QUESTIONS, SIZES = (1, 6, 3), (2, 3, 8)


def adapted(folder, tiny_folder, *, seed=0, resumed_from=None, matmul_backend="auto", **lora):
    """A policy with adapters on the weights of a folder."""
    config = ModelConfig(path=str(folder), device="cpu", matmul_backend=matmul_backend, lora=LoraConfig(**lora))
    return load_adapted(config, build.tokenizer_for(folder, tiny_folder), seed=seed, resumed_from=resumed_from)


def adapters(policy):
    return {name: weight for name, weight in policy.model.named_parameters() if ".lora_" in name}


def moved(policy):
    """The policy with B no longer zero."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in adapters(policy).items():
            if ".lora_B." in name:
                weight.normal_(std=0.1)
    return policy


def written(policy, folder):
    tokenizer = policy.tokenizer.tokenizer
    save_checkpoint(folder, model=policy.model, tokenizer=tokenizer, optimizer=None, state={"step": 0})
    return folder


def loss_of(generator_seed, shape):
    """A loss with a weight of its own for each token."""
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(generator_seed), dtype=torch.float64)
    return lambda logprobs, _=None: (logprobs.double() * weights).sum()


@pytest.mark.parametrize("matmul_backend", ["torch", "onednn"])
def test_the_first_step_is_the_base_model_to_the_bit(matmul_backend, tiny_folder):
    config = ModelConfig(path=str(tiny_folder), device="cpu", matmul_backend=matmul_backend)
    base = load_policy(config, build.tokenizer_for(tiny_folder, tiny_folder))
    policy = adapted(tiny_folder, tiny_folder, matmul_backend=matmul_backend)
    rollouts = build.rollouts(QUESTIONS, SIZES)
    found, expected = (p.logprobs(rollouts, rollouts.output_mask, sampling=PLAIN) for p in (policy, base))
    assert torch.equal(found.logprobs, expected.logprobs)
    assert torch.equal(found.entropies, expected.entropies)
    assert policy.question_once
    assert not policy.whole_logits
    merged, weights = merged_weights(policy.model), base.model.state_dict()
    assert list(merged) == list(weights)
    assert all(merged[name].equal(weights[name]) for name in weights)


@pytest.mark.parametrize(
    ("family", "double"), [("llama", True), ("gpt2", True), ("gemma2", True), ("qwen3", True), ("llama", False)]
)
def test_gradients_in_one_stream_are_those_of_padded_rows_with_peft(family, double, tmp_path, tiny_folder):
    # in float64, but for the last: there it is the library of products that a run would use
    build.policy_of(build.SHARING[family], tmp_path, tiny_folder)
    policy = moved(adapted(tmp_path, tiny_folder, rank=3, alpha=5))
    assert policy.question_once
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    ends = {name.rpartition(".lora_")[0] for name in adapters(policy)}
    plain = peft.get_peft_model(
        plain, peft.LoraConfig(r=3, lora_alpha=5, target_modules=sorted(ends), fan_in_fan_out=family == "gpt2")
    )
    for model in (policy.model, plain) if double else ():
        model.double()
    theirs = {name.removeprefix("base_model.model."): weight for name, weight in plain.named_parameters()}
    with torch.no_grad():
        for name, weight in adapters(policy).items():
            theirs[name].copy_(weight)
    rollouts = build.rollouts(QUESTIONS, SIZES)
    loss = loss_of(5, rollouts.tokens.shape)
    policy.backward(rollouts, rollouts.output_mask, sampling=PLAIN, loss=loss)
    logits = plain(rollouts.tokens).logits  # causal: no token sees the padding on its right
    logprobs = logits[:, :-1].log_softmax(-1).gather(-1, rollouts.tokens[:, 1:, None])[..., 0]
    logprobs = torch.cat([torch.zeros_like(logprobs[:, :1]), logprobs], 1)
    loss(torch.where(rollouts.output_mask, logprobs, 0.0)).backward()
    largest = max(float(theirs[name].grad.abs().max()) for name in adapters(policy))
    assert largest > 0.1
    for name, weight in policy.model.named_parameters():
        assert (weight.grad is None) == (".lora_" not in name), name
        if weight.grad is not None:
            # float32 norms and angles inside the models leave 1e-7 of the largest
            assert float((weight.grad - theirs[name].grad).abs().max()) < (1e-6 if double else 1e-5) * largest, name


def test_only_the_adapters_are_trained_and_they_are_few(tiny_folder):
    policy = adapted(tiny_folder, tiny_folder, rank=4)
    # a layer of `tiny`, 64 wide: q 64+64, k 64+32, v 64+32, o 64+64, gate 64+128, up 64+128, down 128+64 = 1024
    assert sum(weight.numel() for weight in policy.model.parameters() if weight.requires_grad) == 2 * 4 * 1024
    frozen = {n: w.detach().clone() for n, w in policy.model.named_parameters() if not w.requires_grad}
    config = UpdateConfig(steps=1, learning_rate=1e-2, weight_decay=0.1)
    optimizer = make_optimizer(policy, config)
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    assert held == {id(weight) for weight in adapters(policy).values()}
    rollouts = build.rollouts(QUESTIONS, SIZES)
    before = {name: weight.detach().clone() for name, weight in adapters(policy).items()}
    policy.backward(rollouts, rollouts.output_mask, sampling=PLAIN, loss=lambda logprobs, _: -logprobs.sum())
    bounded_step(optimizer, config, Tally(), step=0, named=policy.model.named_parameters)
    assert all(weight.equal(frozen[n]) for n, weight in policy.model.named_parameters() if n in frozen)
    assert all(not weight.equal(before[name]) for name, weight in adapters(policy).items())


@pytest.mark.parametrize("matmul_backend", ["torch", "onednn"])
def test_without_adapters_it_is_the_base_model_on_the_same_weights(matmul_backend, tiny_folder):
    config = ModelConfig(path=str(tiny_folder), device="cpu", matmul_backend=matmul_backend)
    base = load_policy(config, build.tokenizer_for(tiny_folder, tiny_folder))
    policy = moved(adapted(tiny_folder, tiny_folder, matmul_backend=matmul_backend))
    reference, rollouts = without_adapters(policy), build.rollouts(QUESTIONS, SIZES)

    def scores(asked):
        return asked.logprobs(rollouts, rollouts.output_mask, sampling=PLAIN).logprobs

    before = scores(policy)
    assert not before.allclose(scores(base))
    assert scores(reference).equal(scores(base))
    assert scores(policy).equal(before)
    assert reference.model is policy.model
    assert all(weight.requires_grad == (".lora_" in name) for name, weight in policy.model.named_parameters())


def test_a_pass_without_adapters_that_fails_leaves_them_on(tiny_folder):
    policy = moved(adapted(tiny_folder, tiny_folder))
    rollouts = build.rollouts(QUESTIONS, SIZES)
    before = policy.logprobs(rollouts, rollouts.output_mask, sampling=PLAIN).logprobs
    with pytest.raises(AttributeError):
        without_adapters(policy).logprobs(rollouts, rollouts.output_mask, sampling=None)
    assert policy.logprobs(rollouts, rollouts.output_mask, sampling=PLAIN).logprobs.equal(before)


def test_adapters_are_drawn_from_the_seed(tiny_folder):
    torch.manual_seed(1)
    first = adapters(adapted(tiny_folder, tiny_folder, seed=1))
    drawn = torch.rand(())
    again, other = (adapters(adapted(tiny_folder, tiny_folder, seed=seed)) for seed in (1, 2))
    torch.manual_seed(1)
    assert drawn == torch.rand(())  # and from no other stream
    for name, weight in first.items():
        assert weight.equal(again[name])
        assert weight.equal(other[name]) == (".lora_B." in name)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_checkpoint_is_a_whole_model_with_the_adapters_beside_it(family, tmp_path, tiny_folder):
    base, end = tmp_path / "base", tmp_path / "end"
    build.policy_of(build.SHARING[family], base, tiny_folder).tokenizer.tokenizer.save_pretrained(base)
    policy = moved(adapted(base, tiny_folder, rank=3, alpha=5))
    kept = {name: weight.detach().clone() for name, weight in policy.model.named_parameters()}
    written(policy, end)
    assert all(weight.equal(kept[name]) for name, weight in policy.model.named_parameters())
    assert load_file(end / "model.safetensors").keys() == load_file(base / "model.safetensors").keys()
    tokens = build.rollouts(QUESTIONS, SIZES).tokens
    with torch.no_grad():
        expected = policy.model(tokens).logits
        plain, untouched = (AutoModelForCausalLM.from_pretrained(place)(tokens).logits for place in (end, base))
        onto = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), end / "adapter")
    largest = float(expected.abs().max())
    for found in (plain, onto(tokens).logits):
        assert float((found - expected).abs().max()) < 1e-5 * largest
    assert float((untouched - expected).abs().max()) > 0.1 * largest
    resumed = adapters(adapted(base, tiny_folder, seed=9, rank=3, alpha=5, resumed_from=end))
    assert all(weight.equal(resumed[name]) for name, weight in adapters(policy).items())
    assert load_state(end) == {"step": 0}


def test_the_sampler_draws_from_the_adapted_model(tiny_folder):
    policy = moved(adapted(tiny_folder, tiny_folder))
    [[output]] = generate(LocalEngine(policy), [Task((5, 9, 7), (1,))], Sampling(max_new_tokens=6))
    rollouts = build.Rollouts.of([build.group([output], [0.0])])
    again = policy.logprobs(rollouts, rollouts.output_mask, sampling=PLAIN).logprobs
    assert close(torch.from_numpy(output.logprobs), again[rollouts.output_mask])


def test_some_layers_alone_may_have_adapters(tiny_folder):
    named = adapters(adapted(tiny_folder, tiny_folder, targets=["q_proj", "layers.1.mlp.up_proj"]))
    assert {name.partition(".lora_")[0] for name in named} == {
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.up_proj",
    }


def test_the_last_layer_has_none_even_in_a_model_that_is_its_own_decoder(tmp_path, tiny_folder):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "intermediate_size_mlp": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 2}
    ends = {"pad_token_id": 1, "bos_token_id": None, "eos_token_id": 2}
    build.policy_of(Llama4TextConfig(vocab_size=build.VOCABULARY, **sizes, **heads, **ends), tmp_path, tiny_folder)
    policy = adapted(tmp_path, tiny_folder)
    assert policy.model.get_output_embeddings() in set(policy.model.get_decoder().modules())
    assert any(".self_attn.q_proj.lora_A" in name for name in adapters(policy))
    assert not any("lm_head" in name for name in adapters(policy))
    rollouts = build.rollouts(QUESTIONS, SIZES)
    policy.backward(rollouts, rollouts.output_mask, sampling=PLAIN, loss=lambda logprobs, _: logprobs.sum())
    assert all((weight.grad is None) == (".lora_" not in name) for name, weight in policy.model.named_parameters())


@pytest.mark.parametrize("target", ["q_prj", "proj", "lm_head", "embed_tokens"])
def test_a_target_that_is_no_layers_name(target, tiny_folder):
    with pytest.raises(ConfigError, match=f"no linear layer of this model's decoder is called '{target}'"):
        adapted(tiny_folder, tiny_folder, targets=target)


def test_without_peft_it_is_said_what_to_install(tiny_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"model\.lora: the package peft is not installed") as error:
        adapted(tiny_folder, tiny_folder)
    assert error.value.hint == "pip install 'groupwise[lora]'"


def test_adapters_of_another_rank_are_not_resumed(tmp_path, tiny_folder):
    end = written(adapted(tiny_folder, tiny_folder, rank=3), tmp_path / "end")
    with pytest.raises(CheckpointError, match=r"not the adapters of model\.lora: base_model\.model\.model\.layers"):
        adapted(tiny_folder, tiny_folder, rank=4, resumed_from=end)


def test_adapters_are_not_resumed_on_another_model(tmp_path, tiny_folder):
    base, end = tmp_path / "base", tmp_path / "end"
    build.policy_of(build.SHARING["llama"], base, tiny_folder).tokenizer.tokenizer.save_pretrained(base)
    written(adapted(base, tiny_folder), end)
    # one value of a weight that has an adapter: no weight that the checkpoint has unmerged is another
    weights = load_file(base / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][5, 7] += 1e-3
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"is not the model that the run began with: its weights differ"):
        adapted(base, tiny_folder, resumed_from=end)


def test_products_of_one_input_are_made_as_one_with_those_of_its_adapters(tiny_folder):
    policy = adapted(tiny_folder, tiny_folder, matmul_backend="onednn")
    layer = policy.model.model.layers[0]
    reads_input = [layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj]
    together = {part for module in reads_input for part in (module.base_layer, module.lora_A["default"])}
    assert all(set(part.siblings) == together for part in together)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.lora.rank=0"], r"model\.lora\.rank = 0: input should be greater than or equal to 1"),
        (["model.lora.dropout=0.1"], r"model\.lora\.dropout: unknown key"),
        (["model.lora.targets=[]"], r"model\.lora\.targets = \[\]"),
        (
            ["model.lora={}", "stage=rejection"],
            r"model\.lora: stage 'rejection' does not read it, rl, sft and preference do",
        ),
        (["model.lora={}", "stage=rl", "critic.trunk=shared"], r"model\.lora: .*set critic\.trunk to own"),
        (["model.lora.targets=q_prj"], r"is called 'q_prj'; did you mean 'q_proj'\?"),
    ],
)
def test_what_cannot_be_adapted_is_refused_in_one_line(words, said, tmp_path, tiny_folder):
    done = groupwise("train", RECIPE, f"model.path={tiny_folder}", *SMALL, *words, "--run", tmp_path / "run")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert re.search(said, done.err), done.err
    assert not (tmp_path / "run").exists()


def test_the_memory_asked_for_is_what_adapters_take(tmp_path, tiny_folder, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**18, 0, 10**18))
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 10**11}))
    told = {}
    for name, words in {"full": (), "lora": ("model.lora.rank=2",)}.items():
        settings = (f"model.path={tmp_path}", "model.device=cpu", *SMALL, *words)
        done = groupwise("train", RECIPE, *settings, "--run", tmp_path / "run")
        parts = re.findall(
            r"(weights|gradients and moments|merged adapters) ([\d,.]+) GiB", done.err.partition("sampl")[0]
        )
        told[name] = {part: float(size.replace(",", "")) for part, size in parts}
    # 6 matrices of 64 x 10^11 in fp32, 24 x 64 x 10^11 bytes; adapters beside them 4 x 6 x 2 (64 + 10^11)
    matrices, adapters = (size / 2**30 for size in (24 * 64 * 10**11, 4 * 6 * 2 * 10**11))
    assert told["full"] == pytest.approx({"weights": matrices, "gradients and moments": 3 * matrices}, abs=0.2)
    assert told["lora"] == pytest.approx(
        {"weights": matrices + adapters, "gradients and moments": 3 * adapters, "merged adapters": matrices}, abs=0.2
    )


@pytest.mark.parametrize(("stage", "rank", "rate"), [("rl", 8, 1e-5), ("preference", 16, 1e-5), ("sft", 64, 1e-4)])
def test_adapters_learn_with_the_defaults_of_their_stage(stage, rank, rate, tiny_folder):
    learns_from = {"rl": {"questions": {"source": "arithmetic"}, "rewards": [{"function": "number"}]}}
    sections = learns_from.get(stage, {"examples": {"source": "some.jsonl"}})
    tree = {"stage": stage, "model": {"path": "tiny", "lora": {}}, "update": {"steps": 8}, **sections}
    recipe = recipe_from(tree)
    assert recipe.model.lora == LoraConfig(rank=rank, alpha=32, targets=("all-linear",))
    assert recipe.update.learning_rate == rate
    said = recipe_from(
        tree | {"model": {"path": "tiny", "lora": {"rank": 3}}, "update": {"steps": 8, "learning_rate": 1}}
    )
    assert (said.model.lora.rank, said.update.learning_rate) == (3, 1)
    assert recipe_from(tree | {"model": {"path": "tiny"}}).update.learning_rate == 1e-6
    policy = adapted(tiny_folder, tiny_folder, rank=rank)
    optimizer, rollouts, losses = make_optimizer(policy, recipe.update), build.rollouts(QUESTIONS, SIZES), []
    for step in range(8):
        scored = policy.backward(
            rollouts, rollouts.output_mask, sampling=PLAIN, loss=lambda logprobs, _: -logprobs.sum()
        )
        losses.append(-float(scored.logprobs.sum()))
        bounded_step(optimizer, recipe.update, Tally(), step=step, named=policy.model.named_parameters)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 1e-3
