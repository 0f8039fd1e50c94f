"""A fused decode step gives the logits of the model's own modules, for every decoder that is built as Llama is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from groupwise.data import Sampling
from groupwise.engines.base import Task, generate
from groupwise.engines.cache import SharedCache
from groupwise.engines.fused import FusedCache, layers_of
from groupwise.engines.kernels import Kernels, Step, load_kernels
from groupwise.engines.local import LocalEngine
from groupwise.model.batch import Rollouts
from groupwise.model.products import multiplies_bf16, use_products
from tests.close import close
from tests.model import build

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="no C compiler here")

SAMPLING = Sampling(max_new_tokens=12)
TASKS = [Task((5, 6, 7), (1, 2, 3)), Task((9,), (4, 5))]
SIZES = {
    "vocab_size": build.VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128,
    "initializer_range": 0.3, "bos_token_id": None, "eos_token_id": 2, "pad_token_id": None,
}  # fmt: skip
BUILT_ALIKE = {
    "llama": transformers.LlamaConfig(**SIZES),
    "llama_with_biases": transformers.LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "one head of keys": transformers.LlamaConfig(**SIZES | {"num_key_value_heads": 1}),
    "a head of keys each": transformers.LlamaConfig(**SIZES | {"num_key_value_heads": 4, "head_dim": 32}),
    "eight heads of 128 to one": transformers.LlamaConfig(
        **SIZES | {"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 128}
    ),
    "a head of 80": transformers.LlamaConfig(**SIZES | {"head_dim": 80}),
    "mistral with a window": transformers.MistralConfig(**SIZES, sliding_window=6),
    "qwen2": transformers.Qwen2Config(**SIZES),
    "qwen3": transformers.Qwen3Config(**SIZES),
}
BUILT_OTHERWISE = {
    "gemma2": transformers.Gemma2Config(**SIZES),
    "phi3": transformers.Phi3Config(**SIZES),
    "gpt2": build.SHARING["gpt2"],
    "gelu": transformers.LlamaConfig(**SIZES, hidden_act="gelu"),
    "heads of 8": build.SHARING["llama"],
}
"""Not taken for Llama by what their modules are called, or by their sizes."""


def policy_of(config, tmp_path, tiny_folder):
    return build.policy_of(config, tmp_path, tiny_folder)


def walked(cache, steps=9):
    """Logits of eleven rows of three questions, of which some leave after three steps."""
    generator = torch.Generator().manual_seed(1)

    def draw(count):
        return torch.randint(3, build.VOCABULARY, (count,), generator=generator)

    questions = [tuple(draw(n).tolist()) for n in (3, 9, 5)]
    found = [cache.enter([questions[n % 3] for n in range(11)], [()] * 11)]
    live = np.arange(11) % 4 > 0
    rows = 11
    for step in range(steps):
        if step == 3:
            rows = len(cache.keep(live))
            found.append(cache.enter([questions[0]], [tuple(draw(4).tolist())]))
            rows += 1
        found.append(cache.decode(draw(rows)))
    return torch.cat(found)


@pytest.mark.parametrize("matmul_backend", ["torch", "packed", "onednn"])
@pytest.mark.parametrize("family", BUILT_ALIKE)
def test_logits_are_those_of_the_modules(family, matmul_backend, tmp_path, tiny_folder):
    policy = policy_of(BUILT_ALIKE[family], tmp_path, tiny_folder)
    use_products(policy.model, matmul_backend)
    with policy.kept_weights():
        expected, found = walked(SharedCache(policy, tokens=16)), walked(FusedCache(policy, tokens=16))
    assert torch.allclose(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
    assert LocalEngine(policy).cache == "fused"


@pytest.mark.parametrize("kind", [SharedCache, FusedCache])
def test_a_row_takes_the_place_of_one_that_left_before_it_has_a_token(kind, tmp_path, tiny_folder):
    policy = policy_of(BUILT_ALIKE["llama"], tmp_path, tiny_folder)
    newest = torch.tensor([5, 6, 7])
    with policy.kept_weights():
        cache, alone = kind(policy, tokens=8), kind(policy, tokens=8)
        cache.enter([(3, 4)] * 3, [()] * 3)
        cache.decode(newest)
        cache.enter([(8, 9, 10)], [()])
        assert cache.keep(np.array([False, True, True, True])).tolist() == [3, 1, 2]
        alone.enter([(8, 9, 10)], [()])
        found, expected = cache.decode(newest)[0], alone.decode(newest[:1])[0]
    assert torch.allclose(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("family", BUILT_OTHERWISE)
def test_other_decoders_are_not_taken_for_llama(family, tmp_path, tiny_folder):
    policy = policy_of(BUILT_OTHERWISE[family], tmp_path, tiny_folder)
    assert layers_of(policy.model) is None
    assert LocalEngine(policy).cache != "fused"


def test_what_looks_like_llama_and_computes_something_else_is_sampled_by_its_modules(tmp_path, tiny_folder):
    policy = policy_of(BUILT_ALIKE["llama"], tmp_path, tiny_folder)
    for layer in policy.model.model.layers:
        layer.input_layernorm.forward = lambda states: states * 1.5  # no one can tell by its name
    assert layers_of(policy.model) is not None
    assert LocalEngine(policy).cache == "shared"


CALLED_ALIKE = {
    "a factor on what layers add": transformers.GraniteConfig(**SIZES, residual_multiplier=0.9),
    "a factor on embeddings": transformers.GraniteConfig(**SIZES, embedding_multiplier=12.0),
    "queries scaled from some position on": transformers.Ministral3Config(
        **SIZES,
        rope_parameters={
            "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 64,
            "llama_4_scaling_beta": 0.1, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", CALLED_ALIKE)
def test_a_decoder_whose_modules_are_called_like_llamas_is_held_to_its_own_logits(family, tmp_path, tiny_folder):
    policy = policy_of(CALLED_ALIKE[family], tmp_path, tiny_folder)
    assert layers_of(policy.model) is not None
    assert LocalEngine(policy).cache == "shared"


def test_the_same_tokens_are_sampled(tmp_path, tiny_folder):
    policy = policy_of(BUILT_ALIKE["qwen3"], tmp_path, tiny_folder)
    engine, plain = LocalEngine(policy), LocalEngine(policy)
    plain.cache = "shared"
    assert engine.cache == "fused"
    for ours, others in zip(generate(engine, TASKS, SAMPLING), generate(plain, TASKS, SAMPLING), strict=True):
        for one, other in zip(ours, others, strict=True):
            assert one.tokens.tolist() == other.tokens.tolist()
            assert close(torch.tensor(one.logprobs), torch.tensor(other.logprobs))


def test_weights_that_change_are_the_ones_that_sample(tmp_path, tiny_folder):
    policy = policy_of(BUILT_ALIKE["llama"], tmp_path, tiny_folder)
    engine, task = LocalEngine(policy), [Task((5, 6, 7), (1,))]
    before = generate(engine, task, Sampling(max_new_tokens=4))[0][0].logprobs
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.mul_(1.1)
    after = generate(engine, task, Sampling(max_new_tokens=4))[0][0].logprobs
    fresh = generate(LocalEngine(replace(policy)), task, Sampling(max_new_tokens=4))[0][0].logprobs
    assert after.tolist() == fresh.tolist() != before.tolist()


def test_without_a_compiler_or_products_of_bf16_the_modules_sample(tmp_path, tiny_folder, monkeypatch):
    policy = policy_of(BUILT_ALIKE["llama"], tmp_path, tiny_folder)
    half = replace(policy, precision=torch.bfloat16)
    use_products(policy.model, "torch")
    assert LocalEngine(replace(half, matmul_backend="torch")).cache == "shared"
    with monkeypatch.context() as patch:
        patch.setattr("groupwise.engines.choice.multiplies_bf16", lambda: False)
        assert LocalEngine(replace(half, matmul_backend="packed")).cache == "shared"
    monkeypatch.setattr("groupwise.engines.fused.load_kernels", lambda: None)
    assert LocalEngine(policy).cache == "shared"


BF16 = pytest.mark.skipif(not multiplies_bf16(), reason="this processor has no products of bf16")


@BF16
@pytest.mark.parametrize(("family", "cache"), [("llama", "fused"), ("gemma2", "shared")])
def test_a_sampler_in_bf16_is_not_exact_and_gives_what_its_own_products_give(family, cache, tmp_path, tiny_folder):
    policy = policy_of({**BUILT_ALIKE, **BUILT_OTHERWISE}[family], tmp_path, tiny_folder)
    policy.matmul_backend = "packed"
    use_products(policy.model, "packed")
    engine, exact = LocalEngine(policy, precision="bf16"), LocalEngine(policy)
    assert (engine.cache, engine.capabilities.exact, exact.capabilities.exact) == (cache, False, True)
    rollouts = Rollouts.of([build.group(own, [0.0] * len(own)) for own in generate(engine, TASKS, SAMPLING)])
    mask = rollouts.output_mask
    wide = policy.logprobs(rollouts, mask, sampling=SAMPLING).logprobs
    half = replace(policy, precision=torch.bfloat16).logprobs(rollouts, mask, sampling=SAMPLING).logprobs
    from_wide, from_half = ((scored - rollouts.sampled_logprobs)[mask].abs() for scored in (wide, half))
    assert from_wide.mean() > 1e-6  # the weights that sample are rounded
    assert from_half.mean() < 2 * (wide - half)[mask].abs().mean()  # and no more than bf16 rounds


def kernels() -> Kernels:
    found = load_kernels()
    assert found is not None
    return found


def test_norms_and_gates_are_those_of_pytorch():
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(5, 48, generator=generator) * 30, torch.randn(48, generator=generator)
    found = kernels().rms_norm(x, weight, 1e-5, torch.empty_like(x))
    assert close(found, torch.nn.functional.rms_norm(x, (48,), weight, 1e-5))
    gate_up = torch.randn(5, 96, generator=generator) * 40  # far into both tails of the sigmoid
    gate, up = gate_up.chunk(2, -1)
    found = kernels().silu_product(gate_up, torch.empty(5, 48))
    assert torch.allclose(found, torch.nn.functional.silu(gate) * up, rtol=1e-6, atol=1e-30)


def test_a_score_far_above_the_others_takes_all_the_weight():
    # query 100, keys 1 and -1: scores of 100 x 64 apart; exp() of the lower one is 0 and not nan
    query = torch.full((1, 3, 64), 100.0)  # query, key and value of one head
    query[0, 1] = 1.0
    asked_keys, asked_values = torch.full((1, 1, 1, 64), -1.0), torch.full((1, 1, 1, 64), 7.0)
    own = [torch.zeros(1, 1, 4, 64) for _ in range(2)]
    out, zero, one = torch.zeros(1, 64), torch.zeros(1, dtype=torch.long), torch.ones(1, dtype=torch.long)
    angles = torch.ones(1, 64), torch.zeros(1, 64)
    names = ("qkv", "cos", "sin", "own_keys", "own_values", "asked_keys", "asked_values", "slots", "asked", "lengths")
    tensors = (query, *angles, *own, asked_keys, asked_values, zero, one, zero)
    pointers = {name: tensor.data_ptr() for name, tensor in zip(names, tensors, strict=True)}
    sizes = {"R": 1, "H": 1, "K": 1, "D": 64, "T": 4, "longest": 1, "turned": 64, "window": 0}
    kernels().attend(Step(**pointers, **sizes, out=out.data_ptr(), scaling=1.0, eps=0.0))
    assert out.tolist() == [[100.0] * 64]
    assert own[0][0, 0, 0].tolist() == [1.0] * 64
    assert own[1][0, 0, 0].tolist() == [100.0] * 64
