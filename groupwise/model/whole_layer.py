"""A decoder layer that is built as Llama's is, computed as a whole, forward and backward: matrix products, attention,
and C functions between them.

Kept for the backward pass: the layer's input, the state between attention and MLP, and what its products and its
attention gave. Norms, rotary angles and the MLP's gate are computed again, and gradients take the place of what is no
longer needed. Weights' gradients are added where they belong (`groupwise.model.products.gradients_in_place`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from groupwise.model.attention import BlockPlan, Form
from groupwise.model.layer_kernels import LayerKernels
from groupwise.model.llama_like import Layer, Norm
from groupwise.model.products import Products, own_gradient, rows_product, weight_gradient
from groupwise.model.stream_attention import attend, attend_backward


@dataclass(frozen=True)
class Adapter:
    """scale B A beside a weight: down A [rank, in], up B [out, rank]."""

    down: nn.Parameter
    up: nn.Parameter
    scale: float


@dataclass(frozen=True)
class Projection:
    """A linear layer: x weight^T + bias, and its adapter's share."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    adapter: Adapter | None = None

    @property
    def parameters(self) -> Iterator[nn.Parameter]:
        yield self.weight
        if self.bias is not None:
            yield self.bias
        if self.adapter is not None:
            yield from (self.adapter.down, self.adapter.up)


@dataclass(frozen=True)
class Pass:
    """What one layer's passes over a stream of S tokens read besides its input. cos, sin: [S, numbers turned]."""

    layer: Layer[Projection]
    kernels: LayerKernels
    products: Products
    plan: BlockPlan
    form: Form
    cos: Tensor
    sin: Tensor

    @property
    def parameters(self) -> list[Tensor]:
        layer = self.layer
        linear = (*layer.qkv, layer.out, *layer.gate_up, layer.down)
        norms = (layer.before_attention, layer.query_norm, layer.key_norm, layer.before_mlp)
        return [
            *(weight for projection in linear for weight in projection.parameters),
            *(norm.weight for norm in norms if norm is not None),
        ]

    def output(self, x: Tensor) -> Tensor:
        """The layer's output [1, S, N] from its input, with a gradient where one is asked for."""
        if torch.is_grad_enabled():
            found: Tensor = _WholeLayer.apply(x, self, *self.parameters)
            return found
        return _forward(self, x[0])[0][None]


class _Kept(NamedTuple):
    """[S, ..] each. query, key: before their norms and angles; mixed, sums: what attention gave."""

    x: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    mixed: Tensor
    sums: Tensor
    between: Tensor
    gate: Tensor
    up: Tensor


class _WholeLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, made: Pass, *parameters: Tensor) -> Tensor:
        out, kept = _forward(made, x[0])
        ctx.save_for_backward(*kept)
        ctx.made, ctx.spent = made, False
        return out[None]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Any, ...]:
        if ctx.spent:
            raise RuntimeError("a layer computed as a whole can be gone back through only once")
        ctx.spent = True
        found = _Gradients(ctx.made)
        by_x = _backward(ctx.made, found, slopes[0][0].contiguous(), _Kept(*ctx.saved_tensors))
        return by_x[None], None, *(found.returned.get(id(weight)) for weight in ctx.made.parameters)


def _forward(made: Pass, x: Tensor) -> tuple[Tensor, _Kept]:
    """The layer's output [S, N], and what its backward pass needs."""
    layer, kernels, x = made.layer, made.kernels, x.contiguous()
    normed = kernels.rms_norm(x, layer.before_attention)
    query, key, value = (_project(made, projection, normed) for projection in layer.qkv)
    mixed, sums = attend(made.plan, *_turned(made, query, key), value, size=layer.size, form=made.form)
    between = _project(made, layer.out, mixed, plus=x)
    normed = kernels.rms_norm(between, layer.before_mlp)
    gate, up = (_project(made, projection, normed) for projection in layer.gate_up)
    out = _project(made, layer.down, kernels.gated(gate, up), plus=between)
    return out, _Kept(x, query, key, value, mixed, sums, between, gate, up)


def _backward(made: Pass, found: "_Gradients", slope: Tensor, kept: _Kept) -> Tensor:
    """d loss / d x from d loss / d output, [S, N]; the weights' go to `found`. What was kept is used up."""
    layer, kernels, size = made.layer, made.kernels, made.layer.size
    hidden = _back(made, layer.down, slope)
    kernels.gated_backward(kept.gate, kept.up, hidden)  # gate, up: their gradients from here on
    found.of_projection(layer.down, slope, hidden)
    del hidden
    normed = kernels.rms_norm(kept.between, layer.before_mlp)
    for projection, gradient in zip(layer.gate_up, (kept.gate, kept.up), strict=True):
        found.of_projection(projection, gradient, normed)
    of_input = _back(made, layer.gate_up[1], kept.up, plus=_back(made, layer.gate_up[0], kept.gate))
    slope = found.of_norm(layer.before_mlp, kept.between, of_input, slope)

    found.of_projection(layer.out, slope, kept.mixed)
    mixed = _back(made, layer.out, slope)
    turned = _turned(made, kept.query, kept.key)
    gradients = attend_backward(
        made.plan, mixed, *turned, kept.value, kept.mixed, kept.sums, size=size, form=made.form
    )  # fmt: skip
    found.of_turned(layer.query_norm, kept.query, gradients[0])
    found.of_turned(layer.key_norm, kept.key, gradients[1])
    normed = kernels.rms_norm(kept.x, layer.before_attention)
    for projection, gradient in zip(layer.qkv, gradients, strict=True):
        found.of_projection(projection, gradient, normed)
    of_input = _back(made, layer.qkv[0], gradients[0])
    for projection, gradient in zip(layer.qkv[1:], gradients[1:], strict=True):
        of_input = _back(made, projection, gradient, plus=of_input)
    return found.of_norm(layer.before_attention, kept.x, of_input, slope)


class _Gradients:
    """Where the weights' gradients go: into those that are there already, or to autograd."""

    def __init__(self, made: Pass) -> None:
        self._made = made
        self.returned: dict[int, Tensor] = {}

    def of_projection(self, projection: Projection, slope: Tensor, x: Tensor) -> None:
        self._of_product(projection.weight, slope, x)
        if projection.bias is not None:
            self._add(projection.bias, lambda: slope.sum(0))
        adapter = projection.adapter
        if adapter is not None:
            thin = _scaled_thin(self._made, adapter, slope)
            self._of_product(adapter.down, thin, x)
            self._of_product(adapter.up, slope, rows_product(x, adapter.down, self._made.products).mul_(adapter.scale))

    def of_norm(self, norm: Norm, x: Tensor, slope: Tensor, residual: Tensor) -> Tensor:
        """residual + the gradient of a norm's input."""
        return self._made.kernels.rms_norm_backward(x, norm, slope, residual, self._place(norm.weight))

    def of_turned(self, norm: Norm | None, x: Tensor, slope: Tensor) -> None:
        """The gradient of heads before norm and angles, in the place of the one after."""
        made, place = self._made, None if norm is None else self._place(norm.weight)
        made.kernels.turn_backward(x, norm, made.cos, made.sin, made.layer.size, slope, place)

    def _of_product(self, weight: Tensor, slope: Tensor, x: Tensor) -> None:
        if weight.requires_grad:
            gradient = weight_gradient(slope, x, weight, self._made.products)
            if gradient is not None:
                self.returned[id(weight)] = gradient

    def _place(self, weight: Tensor) -> Tensor | None:
        """What a gradient is to be added to; None if none is asked for."""
        if not weight.requires_grad:
            return None
        own = own_gradient(weight)
        if own is None or not own.is_contiguous():
            own = self.returned[id(weight)] = torch.zeros_like(weight)
        return own

    def _add(self, weight: Tensor, gradient: Any) -> None:
        place = self._place(weight)
        if place is not None:
            place.add_(gradient())


def _project(made: Pass, projection: Projection, x: Tensor, plus: Tensor | None = None) -> Tensor:
    """[S, in] -> [S, out], and `plus` [S, out] added."""
    bias = projection.bias
    if bias is not None:
        plus = bias.detach() if plus is None else plus + bias.detach()
    result = rows_product(x, projection.weight.detach(), made.products, plus)
    adapter = projection.adapter
    if adapter is None:
        return result
    thin = rows_product(x, adapter.down.detach(), made.products).mul_(adapter.scale)
    return rows_product(thin, adapter.up.detach(), made.products, result)


def _back(made: Pass, projection: Projection, slope: Tensor, plus: Tensor | None = None) -> Tensor:
    """The gradient of a projection's input [S, in] from that of its output, and `plus` [S, in] added."""
    result = rows_product(slope, projection.weight.detach().t(), made.products, plus)
    adapter = projection.adapter
    if adapter is None:
        return result
    return rows_product(_scaled_thin(made, adapter, slope), adapter.down.detach().t(), made.products, result)


def _scaled_thin(made: Pass, adapter: Adapter, slope: Tensor) -> Tensor:
    return rows_product(slope, adapter.up.detach().t(), made.products).mul_(adapter.scale)


def _turned(made: Pass, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    layer, kernels = made.layer, made.kernels
    return (
        kernels.turn(query, layer.query_norm, made.cos, made.sin, layer.size),
        kernels.turn(key, layer.key_norm, made.cos, made.sin, layer.size),
    )
