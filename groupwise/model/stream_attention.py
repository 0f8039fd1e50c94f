"""Attention within the blocks of one stream, forward and backward, by C functions (attention_kernels.c).

`BlockPlan.attend` computes the same through autograd. Here queries, keys and values are rows as their products give
them, what a mask hides is not computed, and a question's gradients are summed where its outputs read it.
"""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import record_function

from groupwise.model.attention import BlockPlan, Form
from groupwise.model.compiled import compiled

SOURCE = Path(__file__).with_name("attention_kernels.c")


class _Stream(ctypes.Structure):
    """What the functions read; see attention_kernels.c."""

    _fields_ = (
        [(name, ctypes.c_void_p) for name in ("query", "key", "value", "out", "sums", "slope")]
        + [(name, ctypes.c_void_p) for name in ("by_query", "by_key", "by_value", "blocks")]
        + [(name, ctypes.c_int64) for name in ("S", "B", "H", "K", "D", "window")]
        + [("scaling", ctypes.c_float)]
    )


@cache
def functions() -> ctypes.CDLL | None:
    """The compiled functions; None where they cannot be compiled."""
    library = compiled(SOURCE)
    if library is not None:
        for function in (library.attend_forward, library.attend_backward):
            function.argtypes, function.restype = [ctypes.POINTER(_Stream), ctypes.c_int], ctypes.c_int
    return library


def attend(
    plan: BlockPlan, query: Tensor, key: Tensor, value: Tensor, *, size: int, form: Form
) -> tuple[Tensor, Tensor]:
    """[S, H D] queries, [S, K D] keys and values (K divides H), size: D, a multiple of 16; all fp32 and contiguous.

    Returns [S, H D], and [S, H]: the logarithm of each row's sum of weights, which `attend_backward` asks for.
    """
    out, sums = torch.empty_like(query), query.new_empty(len(query), query.shape[1] // size)
    _call("attend_forward", plan, size, form, query=query, key=key, value=value, out=out, sums=sums)
    return out, sums


def attend_backward(
    plan: BlockPlan,
    slope: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    sums: Tensor,
    *,
    size: int,
    form: Form,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values from that of `out`."""
    found = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
    given = {"query": query, "key": key, "value": value, "out": out, "sums": sums, "slope": slope}
    gradients = dict(zip(("by_query", "by_key", "by_value"), found, strict=True))
    _call("attend_backward", plan, size, form, **given, **gradients)
    return found


def _call(name: str, plan: BlockPlan, size: int, form: Form, **tensors: Tensor) -> None:
    library, query, key = functions(), tensors["query"], tensors["key"]
    assert library is not None
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    blocks = torch.tensor([[b.start, b.end, b.seen_start, b.seen_end] for b in plan.blocks])
    stream = _Stream(
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        blocks=blocks.data_ptr(),
        S=len(query),
        B=len(blocks),
        H=query.shape[1] // size,
        K=key.shape[1] // size,
        D=size,
        window=form.window or 0,
        scaling=form.scaling,
    )
    with record_function(f"groupwise::{name}"):  # seen by a profiler, which knows nothing of C functions
        failed = getattr(library, name)(ctypes.byref(stream), torch.get_num_threads())
    if failed:
        raise MemoryError("no memory for attention")
