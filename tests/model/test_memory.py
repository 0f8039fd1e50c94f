"""What is computed again gives the same gradient, and only what is to be computed again is."""

import logging

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Llama4TextConfig, MixtralConfig

from groupwise.data import Sampling
from groupwise.model import memory
from groupwise.model.memory import can_recompute, keep_freed_memory
from groupwise.model.policy import Policy
from groupwise.model.products import use_products
from tests.close import close
from tests.model import build

PLAIN = Sampling(max_new_tokens=9)
FAMILIES = build.SHARING | build.NOT_SHARING


def gradient(policy: Policy, what: str) -> Tensor:
    """All gradients in one vector."""
    rollouts = build.rollouts([4, 2], [3, 3])
    policy.recompute = what
    policy.model.zero_grad()
    policy.backward(rollouts, rollouts.output_mask, sampling=PLAIN, loss=lambda logprobs, _: logprobs.square().sum())
    return torch.cat([weight.grad.flatten() for weight in policy.model.parameters() if weight.grad is not None])


class Counted(TorchDispatchMode):
    """How often each operator was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.calls[name] = self.calls.get(name, 0) + 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("what", ["cheap", "layers"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_is_the_same_in_every_layout(family, what, tmp_path, tiny_folder):
    policy = build.policy_of(FAMILIES[family], tmp_path, tiny_folder)
    assert can_recompute(policy.model, what)
    for once in {policy.question_once, False}:
        policy.question_once = once
        expected, found = gradient(policy, "nothing"), gradient(policy, what)
        assert expected.norm() > 0.01
        assert close(found, expected)


OWN_DECODER = Llama4TextConfig(
    vocab_size=build.VOCABULARY, hidden_size=32, intermediate_size=48, intermediate_size_mlp=48, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_local_experts=2, attention_chunk_size=16,
    pad_token_id=1,
)  # fmt: skip
EXPERTS = MixtralConfig(**build.GROUPED, num_local_experts=4)


@pytest.mark.parametrize("what", ["cheap", "layers"])
def test_a_model_that_is_its_own_decoder_has_the_same_gradient(what, tmp_path, tiny_folder):
    policy = build.policy_of(OWN_DECODER, tmp_path, tiny_folder)
    use_products(policy.model, "torch")  # with oneDNN's it adds to the memory of a product's result
    assert can_recompute(policy.model, what)
    assert close(gradient(policy, what), gradient(policy, "nothing"))


@pytest.mark.parametrize("matmul_backend", ["torch", "onednn"])
@pytest.mark.parametrize(
    "config", [build.SHARING["llama"], build.SHARING["gemma2"], EXPERTS], ids=lambda config: config.model_type
)
def test_cheap_computes_norms_twice_and_products_and_attention_once(config, matmul_backend, tmp_path, tiny_folder):
    policy = build.policy_of(config, tmp_path, tiny_folder)
    use_products(policy.model, matmul_backend)
    calls = {}
    for what in ("nothing", "cheap", "layers"):
        with Counted() as counted:
            gradient(policy, what)
        dear = ("mm", "addmm", "bmm", "_grouped_mm", "_linear_pointwise", "_scaled_dot_product_flash_attention_for_cpu")
        calls[what] = [sum(counted.calls.get(name, 0) for name in dear), counted.calls["rsqrt"]]
    assert calls["nothing"][0] == calls["cheap"][0] < calls["layers"][0]
    assert calls["nothing"][1] < calls["cheap"][1] == calls["layers"][1]


def test_a_layer_is_left_as_it_was(tmp_path, tiny_folder):
    policy = build.policy_of(build.SHARING["llama"], tmp_path, tiny_folder)
    gradient(policy, "layers")
    assert all("forward" not in vars(module) for module in policy.model.modules())


def test_a_model_that_writes_over_a_products_result_keeps_everything(tmp_path, tiny_folder, caplog):
    policy = build.policy_of(build.SHARING["llama"], tmp_path, tiny_folder)

    class Overwriting(nn.SiLU):
        def forward(self, input: Tensor) -> Tensor:
            return input.mul_(2.0)

    for layer in policy.model.model.layers:
        layer.mlp.act_fn = Overwriting()
    with caplog.at_level(logging.WARNING):
        assert not can_recompute(policy.model, "cheap")
    assert "keeps all that its layers did" in caplog.text


def test_asking_the_c_library_is_harmless_twice():
    assert keep_freed_memory() == keep_freed_memory()


def test_freed_memory_is_given_back_once_a_step_ends_with_more_than_usual(monkeypatch):
    mib, trims = 2**20, []
    sizes = iter([4000, 4040, 4060, 4010, 4200, 4150, 4190])
    monkeypatch.setattr(memory, "resident_bytes", lambda: next(sizes) * mib)
    freed = memory.FreedMemory()
    freed._trim = trims.append
    # 4060 is more than 48 above 4000; 4200 as well, and what the next step needs all the same is the usual from then on
    assert [freed.settle() for _ in range(7)] == [False, False, True, False, True, False, False]
    assert trims == [0, 0]


def test_where_the_library_cannot_give_memory_back_nothing_is_tried():
    freed = memory.FreedMemory()
    freed._trim = None
    assert not freed.settle()
