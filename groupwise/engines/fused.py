"""A decode step of a Llama-like decoder in few calls: matrix products by oneDNN, all between them by `kernels`.

Which models are Llama-like is read off their modules' names and tried like every cache (`groupwise.engines.choice`):
a model that computes anything else has other logits, and is sampled module by module. Knows no text.
"""

from collections.abc import Container
from typing import Any

import torch
from torch import Tensor, nn

from groupwise.engines.cache import SharedCache
from groupwise.engines.kernels import Step, load_kernels
from groupwise.engines.prefill import Pair
from groupwise.model.llama_like import Layer, eps_of, plain, read_layer
from groupwise.model.policy import Policy
from groupwise.model.products import joint_product, rounded


def layers_of(model: Any) -> list[Layer[nn.Linear]] | None:
    """The layers of a decoder that is built as Llama's is; None if it is not, by what its modules are called."""
    decoder: Any = model.get_decoder() if hasattr(model, "get_decoder") else None
    parts = ("embed_tokens", "layers", "norm", "rotary_emb")
    if any(not hasattr(decoder, part) for part in parts) or load_kernels() is None:
        return None
    weights = next(decoder.parameters())
    if weights.dtype != torch.float32 or weights.device.type != "cpu":
        return None
    try:
        return [read_layer(layer, plain) for layer in decoder.layers]
    except (AttributeError, TypeError, ValueError):
        return None


class FusedCache(SharedCache):
    """The shared cache, whose decode step calls no module of a layer."""

    def __init__(self, policy: Policy, *, tokens: int, kept: Container[tuple[int, ...]] = ()) -> None:
        super().__init__(policy, tokens=tokens, kept=kept)
        layers, kernels = layers_of(policy.model), load_kernels()
        if layers is None or kernels is None:
            raise ValueError("not built as Llama is, or no compiled functions")
        self._layers, self._kernels = layers, kernels
        self._decoder = policy.model.get_decoder()

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> Tensor:
        rows = len(tokens)
        asked = self._question_lengths()[self.slots]
        more = rounded(rows) - rows  # what oneDNN's products are laid out for
        x = self._decoder.embed_tokens(torch.cat([tokens, tokens[:1].expand(more)]) if more else tokens)
        cos, sin = self._decoder.rotary_emb(x[None, :rows], self.positions(asked)[None])
        memory = _Memory(x, self._layers[0])
        columns = int(self.lengths.max()) + 1
        for number, layer in enumerate(self._layers):
            step = self._step(number, layer, columns, asked, cos[0], sin[0])
            x = self._layer(layer, x, memory, step)
        self._kernels.rms_norm(x, self._decoder.norm.weight, eps_of(self._decoder.norm), memory.normed)
        self.lengths = self.lengths + 1
        return self._policy.head(memory.normed[:rows])

    def _layer(self, layer: Layer[nn.Linear], x: Tensor, memory: "_Memory", step: Step) -> Tensor:
        kernels, normed = self._kernels, memory.normed
        kernels.rms_norm(x, layer.before_attention.weight, layer.before_attention.eps, normed)
        qkv = joint_product(layer.qkv, normed)
        step.qkv, step.out = qkv.data_ptr(), memory.mixed.data_ptr()
        kernels.attend(step)
        x = joint_product((layer.out,), memory.mixed).add_(x)
        kernels.rms_norm(x, layer.before_mlp.weight, layer.before_mlp.eps, normed)
        hidden = kernels.silu_product(joint_product(layer.gate_up, normed), memory.hidden)
        return joint_product((layer.down,), hidden).add_(x)

    def _step(
        self, number: int, layer: Layer[nn.Linear], columns: int, asked: Tensor, cos: Tensor, sin: Tensor
    ) -> Step:
        """What `attend` reads of one layer, but for the queries and where the result goes."""
        questions, form = self.asked[number], self.forms[number]
        if form.cap is not None:
            raise ValueError("scores are capped")
        own = self._own_of(number, questions, columns)
        _, heads, longest, size = questions.keys.shape
        pointers = {
            "cos": cos, "sin": sin, "own_keys": own.keys, "own_values": own.values, "asked_keys": questions.keys,
            "asked_values": questions.values, "slots": self.slots, "asked": asked, "lengths": self.lengths,
        }  # fmt: skip
        assert all(tensor.is_contiguous() for tensor in pointers.values())
        norms = {
            name: None if norm is None else norm.weight.data_ptr()
            for name, norm in (("query_norm", layer.query_norm), ("key_norm", layer.key_norm))
        }
        return Step(
            **{name: tensor.data_ptr() for name, tensor in pointers.items()},
            **norms,
            R=len(self.slots),
            H=layer.out.in_features // size,
            K=heads,
            D=size,
            T=own.keys.shape[2],
            longest=longest,
            turned=cos.shape[1],
            window=form.window or 0,
            scaling=form.scaling,
            eps=0.0 if layer.query_norm is None else layer.query_norm.eps,
        )

    def _own_of(self, number: int, questions: Pair, columns: int) -> Pair:
        shape = questions.keys[:1, :, 0]
        return self._roomy(number, shape, shape, columns)


class _Memory:
    """Where a decode step writes what the next product reads: [R, ..] each, the same for all layers."""

    def __init__(self, x: Tensor, layer: Layer[nn.Linear]) -> None:
        self.normed = torch.empty_like(x)
        self.mixed = x.new_zeros(len(x), layer.out.in_features)
        self.hidden = x.new_empty(len(x), layer.down.in_features)
