"""Which library multiplies matrices: PyTorch's own choice, or oneDNN where that is faster. Knows linear layers only.

PyTorch sends fp32 products on a CPU to MKL, which on AMD processors uses half the width of their vector units (AVX2
where there is AVX-512). oneDNN, which PyTorch brings along, uses all of it, with the same rounding error: on a Zen 5
core 230 to 260 GFLOP/s instead of 110. docs/performance.md has the figures.
"""

import platform
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

Products = Literal["torch", "packed", "onednn", "mixed"]
"""packed: oneDNN with packed weights where they are few rows and no gradient, PyTorch's own elsewhere. mixed: oneDNN,
but for the gradients of weights, which PyTorch's own product adds to those that are there."""
BY_ONEDNN = ("onednn", "mixed")
"""Whose products of many rows are oneDNN's, which want few numbers of rows (`rounded`)."""
_ZEN5 = 26  # AMD's first family whose vector units are as wide as AVX-512
_SLICE = 4096  # rows of a gradient made at once; it is added while it is in the processor's cache
_ROWS = 64  # that packed weights are laid out for; from 8 rows on any other number is as fast


def fastest_products(device: torch.device) -> Products:
    """The faster one here, by the processor's maker and not by a clock, so that a resumed run chooses the same."""
    if device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return "torch"
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    family = _amd_family()
    if wide and family:
        return "onednn" if family >= _ZEN5 else "mixed"
    return "packed" if platform.machine() in ("x86_64", "AMD64") else "torch"


def use_products(model: nn.Module, products: Products) -> None:
    """Makes every plain linear layer of a model multiply by the library named; weights and names stay as they are."""
    for module in model.modules():
        if type(module) in (nn.Linear, OneDnnLinear):
            module.__class__ = nn.Linear if products == "torch" else OneDnnLinear
            if isinstance(module, OneDnnLinear):
                module.products = products


class OneDnnLinear(nn.Linear):
    """A linear layer whose fp32 products, forward and backward, are oneDNN's."""

    products: Products = "onednn"
    packed: "_Packed | None" = None
    """The weights in the layout that a product of few rows reads fastest; only while `packed_weights` holds."""
    siblings: "tuple[OneDnnLinear, ...]" = ()
    """The layers that are given the same input as this one, this one included; see `find_siblings`."""

    def forward(self, input: Tensor) -> Tensor:
        if self.packed is not None and not torch.is_grad_enabled():
            return self.packed.output(self, input)
        wide = input.dtype == torch.float32 == self.weight.dtype and not torch.is_autocast_enabled("cpu")
        if not wide or (self.products == "packed" and not torch.is_grad_enabled()):
            return super().forward(input)
        if not torch.is_grad_enabled():
            return _product(input, self.weight, self.bias)
        return _LinearProduct.apply(input, self.weight, self.bias, self.products)


@contextmanager
def packed_weights(
    model: nn.Module, precision: torch.dtype = torch.float32, *, in_fp32: Collection[nn.Module] = ()
) -> Iterator[None]:
    """While it holds, weights must not change: copies laid out for the few rows of a decode step take their place.

    precision: of the copies and of their products, fp32 or bf16. in_fp32: layers whose copies are fp32 in any case.
    """
    layers = [m for m in model.modules() if isinstance(m, OneDnnLinear) and m.weight.dtype == torch.float32]
    if layers and precision == torch.bfloat16 and not multiplies_bf16():
        layers = []
    try:
        for layer in layers:
            if layer.packed is None:
                together = layer.siblings or (layer,)
                packed = _Packed(together, torch.float32 if layer in in_fp32 else precision)
                for sibling in together:
                    sibling.packed = packed
        yield
    finally:
        for layer in layers:
            layer.packed = None


def multiplies_bf16() -> bool:
    """Whether oneDNN multiplies bf16 on this processor."""
    known = hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported")  # builds without oneDNN have none
    return known and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def find_siblings(model: nn.Module, forward: Callable[[], Any]) -> None:
    """Learns from one forward pass which linear layers are given the same tensor (queries, keys and values; gate and
    up), so that sampling can make their products as one."""
    given: dict[int, tuple[Tensor, list[OneDnnLinear]]] = {}  # the tensor is kept, or its id could come again

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, OneDnnLinear)
        given.setdefault(id(inputs[0]), (inputs[0], []))[1].append(layer)

    layers = [module for module in model.modules() if isinstance(module, OneDnnLinear)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    for _, together in given.values():
        distinct = tuple(dict.fromkeys(together))
        for layer in distinct:
            layer.siblings = distinct


def joint_product(layers: "Sequence[nn.Linear]", x: Tensor) -> Tensor:
    """The outputs of layers that are given the same rows x [R, N], side by side [R, all outputs]; no gradient."""
    packed = getattr(layers[0], "packed", None)
    if packed is not None and packed.layers == tuple(layers):
        return packed.joint(x)
    return layers[0](x) if len(layers) == 1 else torch.cat([layer(x) for layer in layers], -1)


class _Packed:
    """The weights of layers that are given the same input, behind each other and laid out for few rows."""

    def __init__(self, layers: "Sequence[OneDnnLinear]", precision: torch.dtype) -> None:
        self._precision = precision
        self.layers = tuple(layers)
        self._place = {layer: number for number, layer in enumerate(layers)}
        self._sizes = [layer.out_features for layer in layers]
        weight = (
            torch.cat([layer.weight.detach() for layer in layers]) if len(layers) > 1 else layers[0].weight.detach()
        )
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.to(precision), _ROWS)
        self._bias: Tensor | None = None
        if any(layer.bias is not None for layer in layers):
            none = [layer.weight.new_zeros(layer.out_features) for layer in layers]
            biases: list[Tensor] = [
                zeros if layer.bias is None else layer.bias for layer, zeros in zip(layers, none, strict=True)
            ]
            self._bias = torch.cat(biases).detach().to(precision)
        self._input: Tensor | None = None
        self._outputs: dict[int, Tensor] = {}

    def joint(self, x: Tensor) -> Tensor:
        """All outputs, side by side."""
        found = _product(x.to(self._precision), self._weight, self._bias)
        return found if torch.is_autocast_enabled("cpu") else found.to(x.dtype)

    def output(self, layer: "OneDnnLinear", x: Tensor) -> Tensor:
        """The layer's output, made with its siblings' when the first of them is asked for; each is given out once."""
        if len(self._sizes) == 1:
            return self.joint(x)
        place = self._place[layer]
        if self._input is not x or place not in self._outputs:
            outputs = self.joint(x).split(self._sizes, dim=-1)
            self._input, self._outputs = x, dict(enumerate(outputs))
        found = self._outputs.pop(place)
        if not self._outputs:
            self._input = None
        return found


class _LinearProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, products: Products) -> Tensor:
        # a frozen weight asks for no input later, which may then be forgotten
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        ctx.shape, ctx.products = x.shape, products
        ctx.has_bias = bias is not None
        result = nn.functional.linear(x, weight, bias) if products == "packed" else _product(x, weight, bias)
        return result.clone() if result._is_view() else result  # what comes out may be written over

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        rows, products = ctx.shape[:-1].numel(), ctx.products
        slope, by_input, by_weight = _filled(slopes[0], products), None, None
        if ctx.needs_input_grad[0]:
            by_input = rows_product(slope, weight.t(), products)[:rows].view(ctx.shape)
        if ctx.needs_input_grad[1]:
            by_weight = weight_gradient(slope, _filled(x, products), weight, products)
        by_bias = slope.sum(0) if ctx.has_bias and ctx.needs_input_grad[2] else None
        return by_input, by_weight, by_bias, None


def rows_product(x: Tensor, weight: Tensor, products: Products, plus: Tensor | None = None) -> Tensor:
    """x weight^T + plus: [R, K], [N, K], [R, N] or [N] -> [R, N]."""
    if products in BY_ONEDNN:
        result = _onednn(x, weight, None)
        return result if plus is None else result.add_(plus)
    return torch.mm(x, weight.t()) if plus is None else torch.addmm(plus, x, weight.t())


@contextmanager
def gradients_in_place() -> Iterator[None]:
    """While it holds, a backward pass adds to gradients that are there already, and a weight never has a second one
    beside its own. Not for `autograd.grad`, which sees none."""
    global _in_place
    before, _in_place = _in_place, True
    try:
        yield
    finally:
        _in_place = before


_in_place = False


def own_gradient(weight: Tensor) -> Tensor | None:
    """A weight's gradient, if a backward pass is to add to it: it is there, and nobody waits to see another."""
    waiting = weight._backward_hooks or weight._post_accumulate_grad_hooks
    return weight.grad if _in_place and weight.is_leaf and not waiting else None


def weight_gradient(slope: Tensor, x: Tensor, weight: Tensor, products: Products) -> Tensor | None:
    """slope^T x, [R, N], [R, K] -> [N, K]; None if it was added to the weight's gradient."""
    own = own_gradient(weight)
    if products != "onednn":
        if own is None:
            return torch.mm(slope.t(), x)
        own.addmm_(slope.t(), x)
        return None
    if own is None:
        return _onednn(slope.t(), x.t(), None)
    for start in range(0, len(weight), _SLICE):
        rows = slice(start, start + _SLICE)
        own[rows].add_(_onednn(slope[:, rows].t(), x.t(), None))
    return None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight^T + bias: [..., K], [N, K], [N] -> [..., N]."""
    rows = x.numel() // x.shape[-1]
    if rounded(rows) == rows:
        return _onednn(x, weight, bias)
    result = _onednn(_filled(x), weight, bias)
    return result[:rows].view(*x.shape[:-1], result.shape[-1])


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


def _filled(x: Tensor, products: Products = "onednn") -> Tensor:
    """[..., K] as rows [R, K], with rows of 0 behind them up to `rounded` where products are oneDNN's."""
    flat = x.reshape(-1, x.shape[-1])
    more = rounded(len(flat)) - len(flat) if products in BY_ONEDNN else 0
    return torch.cat([flat, flat.new_zeros(more, flat.shape[1])]) if more else flat


def rounded(rows: int) -> int:
    """A number of rows as great or a little greater, one of few.

    oneDNN makes and keeps a kernel for each shape. Sampling and streams have another number of rows each time: a
    thousand kernels lay between the large tensors, and memory grew by 0.1 GiB a step without end.
    """
    step = 8 if rows <= 64 else 16 if rows <= 256 else 32 if rows <= 512 else 64
    return rows + -rows % step


def _amd_family() -> int:
    """The family of an AMD processor; 0 of another's."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return 0
    found = re.search(r"^cpu family\s*:\s*(\d+)", text, re.MULTILINE)
    return int(found[1]) if found and "AuthenticAMD" in text else 0
