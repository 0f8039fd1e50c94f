"""The last layer within its model's own forward pass, and its logits in fp32 where the other products are bf16.

A logit of 16 is rounded to 1/8 in bf16, and a log-probability takes over all of it: of what bf16 costs in exactness,
the last layer's result is the largest part. On a GPU the factors stay bf16 and the product is not rounded, which costs
nothing; elsewhere PyTorch has no such product, and the factors are fp32 too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_copies: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()


def logits_of(model: Any, states: Tensor, precision: torch.dtype) -> Tensor:
    """Logits of a decoder's states: its last layer, with the scaling or capping that its config asks for."""
    config = model.config
    scores = wide_logits(model.get_output_embeddings(), states, precision)
    if getattr(config, "logits_scaling", None):
        scores = scores / config.logits_scaling
    if getattr(config, "logit_scale", None):
        scores = scores * config.logit_scale
    cap = getattr(config, "final_logit_softcapping", None)
    return torch.tanh(scores / cap) * cap if cap else scores


def wide_logits(layer: Any, states: Tensor, precision: torch.dtype) -> Tensor:
    """[..., D] -> [..., V]: the layer's output, in fp32 at least. precision: of the other products."""
    if precision != torch.bfloat16:
        scores: Tensor = layer(states)
        return scores
    if _keeps_factors_narrow(layer):
        copy = _copies[layer] if layer in _copies else layer.weight.detach().to(precision)
        flat: Tensor = WideProduct.apply(states.flatten(0, -2), layer.weight, copy)
        return flat.view(*states.shape[:-1], -1)
    with torch.autocast(states.device.type, enabled=False):
        scores = layer(states.to(layer.weight.dtype))
        return scores


@contextmanager
def handing_over(layer: Any, take: Callable[[Tensor], None]) -> Iterator[None]:
    """While it holds, the layer's next call gives its states [..., D] to `take`, and returns a 0 for each in place of
    [..., V] logits. So what is made of the states is made within the model's own forward pass, before what hooks the
    model or the layer (FSDP's gathered weights, for one) lets go of them; `take` may call the layer itself.
    """
    own = vars(layer).get("forward")

    def forward(states: Tensor) -> Tensor:
        give_back()
        take(states)
        return states.new_zeros(*states.shape[:-1], 1)

    def give_back() -> None:
        if vars(layer).get("forward") is forward:
            del layer.forward
            if own is not None:
                layer.forward = own

    layer.forward = forward
    try:
        yield
    finally:
        give_back()


@contextmanager
def kept_copy(layer: Any, precision: torch.dtype) -> Iterator[None]:
    """While it holds, the layer's weights must not change: their bf16 copy is made once and not for each product."""
    if precision != torch.bfloat16 or layer in _copies or not _keeps_factors_narrow(layer):
        yield
        return
    _copies[layer] = layer.weight.detach().to(precision)
    try:
        yield
    finally:
        del _copies[layer]


class WideProduct(torch.autograd.Function):
    """x W^T of bf16 factors, summed and returned in fp32; so are both gradients, of the bf16 slope.

    x: [n, D]; weight: [V, D], the one that learns; copy: the same in bf16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, copy: Tensor) -> Tensor:
        narrow = x.to(copy.dtype)
        ctx.save_for_backward(narrow if weight.requires_grad else None, copy)
        ctx.dtypes = x.dtype, weight.dtype
        return wide_product(narrow, copy.t())

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, copy = ctx.saved_tensors
        slope = slopes[0].to(copy.dtype)
        of_x, of_weight = ctx.dtypes
        by_x = wide_product(slope, copy).to(of_x) if ctx.needs_input_grad[0] else None
        by_weight = wide_product(slope.t(), x).to(of_weight) if ctx.needs_input_grad[1] else None
        return by_x, by_weight, None


def wide_product(a: Tensor, b: Tensor) -> Tensor:
    """a b of bf16 matrices, or of batches of them, in fp32. Rounded to bf16 on the way only for batches on a CPU."""
    if a.device.type == "cuda":
        return torch.mm(a, b, out_dtype=torch.float32) if a.dim() == 2 else torch.bmm(a, b, out_dtype=torch.float32)
    if a.dim() == 3:
        return torch.bmm(a, b).float()
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ b.float()


def _keeps_factors_narrow(layer: Any) -> bool:
    return type(layer) is nn.Linear and layer.bias is None and layer.weight.device.type == "cuda"
