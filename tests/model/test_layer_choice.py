"""A layer computed as a whole gives what its own modules give, forward and backward, and is left to them otherwise."""

import pytest
import torch
import transformers
from torch import nn

from groupwise.config import LoraConfig, ModelConfig
from groupwise.data import Sampling
from groupwise.model import layer_choice
from groupwise.model.layer_kernels import LayerKernels, layer_kernels
from groupwise.model.llama_like import Norm
from groupwise.model.lora import load_adapted, without_adapters
from groupwise.model.products import use_products
from tests.close import close
from tests.model import build

pytestmark = pytest.mark.skipif(layer_kernels() is None, reason="no C compiler here")

SIZES = build.GROUPED | {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16}
ALIKE = {
    "llama": transformers.LlamaConfig(**SIZES),
    "llama with biases": transformers.LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "a head of keys each": transformers.LlamaConfig(**SIZES | {"num_key_value_heads": 4, "head_dim": 32}),
    "a head of 80": transformers.LlamaConfig(**SIZES | {"head_dim": 80}),
    "mistral with a window": transformers.MistralConfig(**SIZES, sliding_window=4),
    "qwen2": transformers.Qwen2Config(**SIZES),
    "qwen3": transformers.Qwen3Config(**SIZES),
}
OTHERS = {
    "heads of 8": transformers.LlamaConfig(**build.GROUPED),
    "gelu": transformers.LlamaConfig(**SIZES, hidden_act="gelu"),
    "a norm by 1 + weight": transformers.Gemma2Config(**SIZES),
    "a factor on what layers add": transformers.GraniteConfig(**SIZES, residual_multiplier=0.9),
    "other names": build.SHARING["gpt2"],
}
PLAIN = Sampling(max_new_tokens=9)


def update(policy, *, in_place=True):
    """Log-probabilities and all gradients of a loss with a weight of its own for each token."""
    rollouts = build.rollouts([4, 7], [3, 2])
    weights = torch.randn(rollouts.tokens.shape, generator=torch.Generator().manual_seed(5))
    for weight in policy.model.parameters():
        weight.grad = torch.zeros_like(weight) if in_place and weight.requires_grad else None
    scored = policy.backward(
        rollouts, rollouts.output_mask, sampling=PLAIN, loss=lambda logprobs, _: (logprobs * weights).sum()
    )
    named = {name: weight.grad for name, weight in policy.model.named_parameters() if weight.requires_grad}
    return {"logprobs": scored.logprobs, **named}


def by_modules(policy, **settings):
    whole, policy.whole_layers = policy.whole_layers, {}
    found = update(policy, **settings)
    policy.whole_layers = whole
    return found


def agree(found, expected):
    """Within 1e-5 of each tensor's norm; those of 0 are 0."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-5 * value.norm(), name


CASES = [*((family, "mixed") for family in ALIKE), *(("qwen3", products) for products in ("torch", "packed", "onednn"))]


@pytest.mark.parametrize(("family", "matmul_backend"), CASES)
def test_gradients_are_those_of_the_modules(family, matmul_backend, tmp_path, tiny_folder):
    policy = build.policy_of(ALIKE[family], tmp_path, tiny_folder)
    use_products(policy.model, matmul_backend)
    policy.matmul_backend = matmul_backend
    assert sorted(policy.whole_layers) == [0, 1]
    expected = by_modules(policy)
    for what in ("nothing", "layers"):
        policy.recompute = what
        agree(update(policy), expected)
    agree(update(policy, in_place=False), expected)
    rollouts = build.rollouts([4, 7], [3, 2])
    assert close(policy.logprobs(rollouts, rollouts.output_mask, sampling=PLAIN).logprobs, expected["logprobs"])


@pytest.mark.parametrize("family", OTHERS)
def test_layers_that_compute_something_else_are_left_to_their_modules(family, tmp_path, tiny_folder):
    assert build.policy_of(OTHERS[family], tmp_path, tiny_folder).whole_layers == {}


@pytest.mark.parametrize("function", ["gated_backward", "rms_norm_backward", "turn_backward", "turn", "gated"])
def test_a_function_that_is_wrong_by_a_thousandth_is_not_used(function, tmp_path, tiny_folder, monkeypatch):
    policy = build.policy_of(ALIKE["qwen3"], tmp_path, tiny_folder)
    right = getattr(LayerKernels, function)

    def wrong(kernels, *given):
        result = right(kernels, *given)
        (given[-1] if result is None else result).mul_(1.001)
        return result

    monkeypatch.setattr(LayerKernels, function, wrong)
    assert layer_choice.forms_of(policy.model, "torch") == {}


def test_adapters_alone_learn_and_can_be_left_out(tiny_folder):
    config = ModelConfig(path=str(tiny_folder), device="cpu", lora=LoraConfig(rank=3, alpha=7.0))
    policy = load_adapted(config, build.tokenizer_for(tiny_folder, tiny_folder), seed=0, resumed_from=None)
    assert len(policy.whole_layers) == 2
    adapters = [weight for weight in policy.model.parameters() if weight.requires_grad]
    with torch.no_grad():
        for weight in adapters:
            weight.normal_(std=0.1, generator=torch.Generator().manual_seed(weight.numel()))
    agree(update(policy), by_modules(policy))
    rollouts = build.rollouts([4], [2])
    given = rollouts, rollouts.output_mask
    adapted, alone = (p.logprobs(*given, sampling=PLAIN).logprobs for p in (policy, without_adapters(policy)))
    policy.whole_layers = {}
    assert close(alone, without_adapters(policy).logprobs(*given, sampling=PLAIN).logprobs)
    assert not torch.allclose(alone, adapted, atol=1e-3)


def test_a_hook_on_a_module_is_called_and_the_other_layers_stay_whole(tmp_path, tiny_folder):
    policy = build.policy_of(ALIKE["llama"], tmp_path, tiny_folder)
    expected, seen = update(policy), []
    handles = [
        policy.model.model.layers[0].mlp.register_forward_hook(lambda *_: seen.append("forward")),
        policy.model.model.layers[0].mlp.gate_proj.register_full_backward_hook(lambda *_: seen.append("backward")),
    ]
    agree(update(policy), expected)
    assert seen == ["forward", "backward"]
    for handle in handles:
        handle.remove()
    update(policy)
    assert len(seen) == 2
    policy.model.model.layers[0].input_layernorm.forward = lambda states: states
    changed = update(policy)
    assert not torch.allclose(changed["logprobs"], expected["logprobs"], atol=1e-2)


def test_a_hook_on_a_weight_sees_its_gradient(tmp_path, tiny_folder):
    policy = build.policy_of(ALIKE["qwen2"], tmp_path, tiny_folder)
    expected, seen = update(policy), []
    weights = policy.model.model.layers[1].self_attn.q_proj
    weights.weight.register_hook(seen.append)
    weights.bias.register_post_accumulate_grad_hook(lambda bias: seen.append(bias.grad.clone()))
    agree(update(policy), expected)
    assert len(seen) == 2
    assert close(seen[0] if seen[0].dim() == 2 else seen[1], expected["model.layers.1.self_attn.q_proj.weight"])


def test_other_precisions_are_left_to_the_modules(tmp_path, tiny_folder):
    policy = build.policy_of(ALIKE["llama"], tmp_path, tiny_folder)
    assert layer_choice.forms_of(policy.model.double(), "torch") == {}
    policy.model.float()
    policy.precision = torch.bfloat16
    expected = by_modules(policy)
    assert all(torch.equal(value, expected[name]) for name, value in update(policy).items())


def kept(policy):
    """Numbers that the layers' passes keep for going back, weights left out."""
    sizes, weights = {}, {weight.data_ptr() for weight in policy.model.parameters()}
    rollouts = build.rollouts([40], [6], longest=40)
    with (
        torch.autograd.graph.saved_tensors_hooks(
            lambda t: (sizes.setdefault(t.data_ptr(), t.numel() * (t.data_ptr() not in weights)), t)[1], lambda t: t
        ),
        policy.states(rollouts, rollouts.output_mask) as states,
    ):
        states.sum().backward()
    return sum(sizes.values())


def test_no_more_is_kept_than_by_computing_again_what_is_cheap(tmp_path, tiny_folder):
    policy = build.policy_of(ALIKE["llama"], tmp_path, tiny_folder)
    policy.recompute = "cheap"
    whole = kept(policy)
    policy.whole_layers = {}
    policy.recompute = "nothing"
    assert whole < 0.6 * kept(policy)


def test_a_layer_is_gone_back_through_once(tmp_path, tiny_folder):
    policy = build.policy_of(ALIKE["llama"], tmp_path, tiny_folder)
    rollouts = build.rollouts([4], [2])
    with policy.states(rollouts, rollouts.output_mask) as states:
        states.sum().backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="only once"):
            states.sum().backward()
    assert all("forward" not in vars(module) for module in policy.model.modules())


def functions():
    found = layer_kernels()
    assert found is not None
    return found


@pytest.mark.parametrize("threads", [1, 3])
def test_the_functions_gradients_are_those_of_fp64(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        generator = torch.Generator().manual_seed(0)
        x, slope, residual = (torch.randn(301, 64, generator=generator) for _ in range(3))
        weight = nn.Parameter(torch.randn(64, generator=generator))
        wide, factor = x.double().requires_grad_(), weight.detach().double().requires_grad_()
        nn.functional.rms_norm(wide, (64,), factor, 1e-5).backward(slope.double())
        by_weight = torch.ones(64)
        found = functions().rms_norm_backward(x, Norm(weight, 1e-5), slope.clone(), residual, by_weight)
        assert close(found, wide.grad + residual)
        assert close(by_weight, factor.grad + 1)

        gate, up = x * 40, residual.clone()  # far into both tails of the sigmoid
        wide, wide_up = gate.double().requires_grad_(), up.double().requires_grad_()
        (nn.functional.silu(wide) * wide_up).backward(slope.double())
        out = functions().gated(gate, up)
        hidden = slope.clone()
        functions().gated_backward(gate, up, hidden)
        assert close(hidden, out)
        assert close(gate, wide.grad)
        assert close(up, wide_up.grad)
    finally:
        torch.set_num_threads(before)


def test_the_same_threads_give_the_same_bits(tmp_path, tiny_folder):
    policy = build.policy_of(ALIKE["qwen3"], tmp_path, tiny_folder)
    first, second = update(policy), update(policy)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_without_a_compiler_the_modules_compute(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setattr(layer_choice, "layer_kernels", lambda: None)
    policy = build.policy_of(ALIKE["llama"], tmp_path, tiny_folder)
    assert policy.whole_layers == {}
    assert update(policy)["logprobs"].any()
