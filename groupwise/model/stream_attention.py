"""Attention within the blocks of one stream, forward and backward, by PyTorch's fused attention for CPUs.

`BlockPlan.attend` computes the same through autograd. Here queries, keys and values are rows as their products give
them, and gradients are added where they belong, without a tensor for each slice.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from groupwise.model.attention import BlockPlan, Form

_FORWARD, _BACKWARD = (
    getattr(torch.ops.aten, f"_scaled_dot_product_flash_attention_for_cpu{ending}", None)
    for ending in ("", "_backward")
)
available = _FORWARD is not None and _BACKWARD is not None


def attend(plan: BlockPlan, query: Tensor, key: Tensor, value: Tensor, *, size: int, form: Form) -> tuple[Tensor, ...]:
    """[S, H D] queries, [S, K D] keys and values (K divides H), size: D. Returns [S, H D], and of each block the
    log-sums of its weights, which `attend_backward` asks for."""
    assert _FORWARD is not None
    out, sums = torch.empty_like(query), []
    for block, seen in _blocks(plan):
        settings = _settings(plan, block, seen, form)
        found, log_sum = _FORWARD(
            _heads(query[block], size), _heads(_seen(key, block, seen), size), _heads(_seen(value, block, seen), size),
            0.0, **settings,
        )  # fmt: skip
        _heads(out[block], size).copy_(found)
        sums.append(log_sum)
    return out, *sums


def attend_backward(
    plan: BlockPlan,
    slope: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    sums: Sequence[Tensor],
    *,
    size: int,
    form: Form,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values from that of `out`."""
    assert _BACKWARD is not None
    by_query, by_key, by_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
    for (block, seen), log_sum in zip(_blocks(plan), sums, strict=True):
        settings = _settings(plan, block, seen, form)
        found = _BACKWARD(
            _heads(slope[block], size), _heads(query[block], size), _heads(_seen(key, block, seen), size),
            _heads(_seen(value, block, seen), size), _heads(out[block], size), log_sum, 0.0,
            settings.pop("is_causal"), **settings,
        )  # fmt: skip
        _heads(by_query[block], size).copy_(found[0])
        before = seen.stop - seen.start
        for gradient, ours in ((by_key, found[1]), (by_value, found[2])):
            _heads(gradient[seen], size).add_(ours[:, :, :before])
            _heads(gradient[block], size).add_(ours[:, :, before:])
    return by_query, by_key, by_value


def _blocks(plan: BlockPlan) -> Iterator[tuple[slice, slice]]:
    """Of each block its own rows, and those that it sees before them."""
    return ((slice(block.start, block.end), slice(block.seen_start, block.seen_end)) for block in plan.blocks)


def _seen(rows: Tensor, block: slice, seen: slice) -> Tensor:
    return torch.cat([rows[seen], rows[block]]) if seen.stop > seen.start else rows[block]


def _heads(rows: Tensor, size: int) -> Tensor:
    """[S, H D] -> [1, H, S, D], the same memory."""
    return rows.view(1, len(rows), rows.shape[1] // size, size).transpose(1, 2)


def _settings(plan: BlockPlan, block: slice, seen: slice, form: Form) -> dict[str, Any]:
    mask = plan.hidden(block.stop - block.start, seen.stop - seen.start, form.window)
    return {"is_causal": mask is None, "attn_mask": mask, "scale": form.scaling}
