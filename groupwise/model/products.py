"""Which library multiplies matrices: PyTorch's own choice, or oneDNN where that is faster. Knows linear layers only.

PyTorch sends fp32 products on a CPU to MKL, which on AMD processors uses half the width of their vector units (AVX2
where there is AVX-512). oneDNN, which PyTorch brings along, uses all of it, with the same rounding error: on a Zen 5
core 230 to 260 GFLOP/s instead of 110. docs/performance.md has the figures.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

Products = Literal["torch", "onednn"]
_ROWS = 64  # that packed weights are laid out for; from 8 rows on any other number is as fast


def fastest_products(device: torch.device) -> Products:
    """The faster one here, by the processor's maker and not by a clock, so that a resumed run chooses the same."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    if device.type == "cpu" and wide and _is_amd() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return "onednn"
    return "torch"


def use_products(model: nn.Module, products: Products) -> None:
    """Makes every plain linear layer of a model multiply by the library named; weights and names stay as they are."""
    for module in model.modules():
        if type(module) in (nn.Linear, OneDnnLinear):
            module.__class__ = OneDnnLinear if products == "onednn" else nn.Linear


class OneDnnLinear(nn.Linear):
    """A linear layer whose fp32 products, forward and backward, are oneDNN's."""

    packed: Tensor | None = None
    """The weights in the layout that a product of few rows reads fastest; only while `packed_weights` holds."""

    def forward(self, input: Tensor) -> Tensor:
        if self.packed is not None and not torch.is_grad_enabled():
            return _product(input, self.packed, self.bias)
        if input.dtype != torch.float32 or self.weight.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        if not torch.is_grad_enabled():
            return _product(input, self.weight, self.bias)
        return _LinearProduct.apply(input, self.weight, self.bias)


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """While it holds, weights must not change: copies laid out for the few rows of a sampling turn take their place."""
    layers = [module for module in model.modules() if isinstance(module, OneDnnLinear)]
    try:
        for layer in layers:
            if layer.weight.dtype == torch.float32:
                weight = layer.weight.detach()
                layer.packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        yield
    finally:
        for layer in layers:
            layer.packed = None


class _LinearProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        slope = slopes[0].flatten(0, -2)
        by_input = _product(slope, weight.t(), None).view(x.shape) if ctx.needs_input_grad[0] else None
        by_weight = _product(slope.t(), x.flatten(0, -2).t(), None) if ctx.needs_input_grad[1] else None
        by_bias = slope.sum(0) if ctx.has_bias and ctx.needs_input_grad[2] else None
        return by_input, by_weight, by_bias


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight^T + bias: [..., K], [N, K], [N] -> [..., N]."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


def _is_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
