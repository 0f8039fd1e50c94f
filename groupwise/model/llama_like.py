"""Decoder layers that are built as Llama's are, read off their modules' names. Computes nothing.

What looks like Llama may compute something else: whoever uses this tries it on the model's own modules.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from groupwise.model.compiled import WIDTH

Linear = TypeVar("Linear")

_CHILDREN = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_OF_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"}
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_OF_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}


@dataclass(frozen=True)
class Norm:
    weight: Tensor
    eps: float


@dataclass(frozen=True)
class Layer(Generic[Linear]):
    """Parts of one decoder layer. qkv, gate_up: linear layers whose input is one tensor. size: numbers of a head."""

    before_attention: Norm
    query_norm: Norm | None
    key_norm: Norm | None
    qkv: tuple[Linear, Linear, Linear]
    out: Linear
    before_mlp: Norm
    gate_up: tuple[Linear, Linear]
    down: Linear
    size: int


def plain(module: Any) -> nn.Linear:
    """A linear layer without parts. Raises TypeError for another module."""
    if not isinstance(module, nn.Linear) or list(module.children()):
        raise TypeError("not a plain linear layer")
    return module


def read_layer(module: Any, linear: Callable[[Any], Linear]) -> Layer[Linear]:
    """The parts of a decoder layer, its sizes multiples of WIDTH. linear: what is taken of a linear layer.

    Raises AttributeError, TypeError or ValueError if the layer has other parts.
    """
    attention, mlp = module.self_attn, module.mlp
    size = attention.head_dim
    owners = {name: mlp if name in _OF_MLP else attention for name in _PROJECTIONS}
    shapes = {name: _shape(getattr(owner, name)) for name, owner in owners.items()}
    queries, hidden = shapes["q_proj"]
    if (
        {name for name, _ in module.named_children()} != _CHILDREN
        or {name for name, _ in attention.named_children()} - _OF_ATTENTION
        or {name for name, _ in mlp.named_children()} - _OF_MLP
        or type(mlp.act_fn).__name__ not in ("SiLU", "SiLUActivation")
        or any(number % WIDTH for number in (size, hidden, shapes["down_proj"][1]))
        or shapes["o_proj"] != (hidden, queries)
        or shapes["k_proj"] != shapes["v_proj"]
        or shapes["gate_proj"] != shapes["up_proj"]
        or shapes["gate_proj"] != shapes["down_proj"][::-1]
    ):
        raise ValueError("not built as Llama is")
    norms = [_head_norm(getattr(attention, name, None), size) for name in ("q_norm", "k_norm")]
    return Layer(
        before_attention=_norm(module.input_layernorm),
        query_norm=norms[0],
        key_norm=norms[1],
        qkv=(linear(attention.q_proj), linear(attention.k_proj), linear(attention.v_proj)),
        out=linear(attention.o_proj),
        before_mlp=_norm(module.post_attention_layernorm),
        gate_up=(linear(mlp.gate_proj), linear(mlp.up_proj)),
        down=linear(mlp.down_proj),
        size=size,
    )


def _shape(module: Any) -> tuple[int, int]:
    """[out, in] of a linear layer; of anything else 0."""
    return getattr(module, "out_features", 0), getattr(module, "in_features", 0)


def _head_norm(module: Any, size: int) -> Norm | None:
    if module is None:
        return None
    if tuple(module.weight.shape) != (size,):
        raise ValueError("a norm over all heads")
    return _norm(module)


def _norm(module: Any) -> Norm:
    if getattr(module, "bias", None) is not None:
        raise ValueError("a norm with a bias")
    return Norm(module.weight, eps_of(module))


def eps_of(norm: Any) -> float:
    return float(norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps)
