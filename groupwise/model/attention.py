"""Attention that packed streams and the sampler's cache need, plugged into any Hugging Face decoder unchanged.

While `attending` holds, the model's attention modules call the plan given. What a module hands over beside queries,
keys and values (scaling, soft-capping, sliding window) is honoured; what is not known here raises, and the model is
then computed the plain way.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

NAME = "groupwise"
UNGROUPED = {"mps"}
"""Devices whose fused attention takes no mask with fewer keys than queries (MPS before torch 2.13)."""
_IGNORED = {"position_ids", "is_causal", "use_cache", "position_embeddings", "output_attentions", "cache_position"}


@dataclass(frozen=True)
class Form:
    """How a layer attends. scaling: multiplies the scores; cap: scores become cap tanh(score / cap); window: tokens
    back that are seen, the token itself included; None: no cap, no window."""

    scaling: float
    cap: float | None = None
    window: int | None = None


class Plan(Protocol):
    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        """[1, H, S, D] queries, [1, K, S, D] keys and values (K divides H) of S tokens -> [1, S, H, D]."""


@dataclass(frozen=True)
class Block:
    """A run of tokens in a stream that sees an earlier run and, causally, itself. [start, end), [seen_start, seen_end).

    The block goes on where the seen run ends: token `start` has the position after token `seen_end - 1`.
    """

    start: int
    end: int
    seen_start: int = 0
    seen_end: int = 0


class BlockPlan:
    """Attention within the blocks of one stream: a question to itself, each output to its question and itself."""

    def __init__(self, blocks: Sequence[Block], runs: Tensor | None = None) -> None:
        """runs: [S], tokens of one number other than 0 see each other both ways; None: there are none."""
        self.blocks, self.runs = blocks, runs
        self.windows: set[int | None] = set()  # that layers have asked for
        self._masks: dict[tuple[int, int, int | None, int], Tensor] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        self.windows.add(form.window)
        outputs = []
        for block in self.blocks:
            own, seen = slice(block.start, block.end), slice(block.seen_start, block.seen_end)
            before = block.seen_end - block.seen_start
            keys, values = key[:, :, own], value[:, :, own]
            if before:
                keys, values = torch.cat([key[:, :, seen], keys], 2), torch.cat([value[:, :, seen], values], 2)
            outputs.append(self.block(query[:, :, own], keys, values, form, before, block.start).transpose(1, 2))
        return torch.cat(outputs, dim=1)

    def block(self, query: Tensor, keys: Tensor, values: Tensor, form: Form, before: int, start: int) -> Tensor:
        """[1, H, S, D] queries that see all of the first `before` keys [1, K, before + S, D] and the rest causally.

        start: the stream's token that is the first query; what is of its run is seen both ways."""
        window = form.window if form.window is not None and form.window < keys.shape[2] else None
        runs = self._runs(start, query.shape[2])
        plain = before == 0 and window is None and runs is None
        mask = None if plain and form.cap is None else self._mask(query.shape[2], before, window, query.device, start)
        grouped = form.cap is None and query.device.type not in UNGROUPED
        if not grouped:
            times = query.shape[1] // keys.shape[1]
            keys, values = keys.repeat_interleave(times, 1), values.repeat_interleave(times, 1)
        if form.cap is None:
            return F.scaled_dot_product_attention(
                query, keys, values, attn_mask=mask, is_causal=plain, scale=form.scaling, enable_gqa=grouped
            )
        scores = capped(query @ keys.transpose(2, 3) * form.scaling, form.cap)
        assert mask is not None
        return scores.masked_fill(~mask, -math.inf).softmax(-1) @ values

    def _runs(self, start: int, tokens: int) -> Tensor | None:
        """The runs of so many tokens; None: they are in none."""
        own = None if self.runs is None else self.runs[start : start + tokens]
        return own if own is not None and bool(own.any()) else None

    def _mask(self, tokens: int, before: int, window: int | None, device: torch.device, start: int) -> Tensor:
        """[tokens, before + tokens], True where the row's token may see the column's; the same in every layer."""
        runs = self._runs(start, tokens)
        name = tokens, before, window, -1 if runs is None else start
        known = self._masks.get(name)
        if known is None:
            known = torch.ones(tokens, before + tokens, dtype=torch.bool, device=device).tril(before)
            if runs is not None:
                runs = runs.to(device)
                known[:, before:] |= (runs[:, None] == runs) & (runs > 0)
            if window is not None:
                known = known.triu(before - window + 1)
            self._masks[name] = known
        return known


def capped(scores: Tensor, cap: float | None) -> Tensor:
    return scores if cap is None else torch.tanh(scores / cap) * cap


@contextmanager
def attending(model: nn.Module, plan: Plan) -> Iterator[None]:
    """While it holds, the model's attention layers ask the plan. Raises what an unknown kind of attention gives."""
    global _plan
    configs = _configs(model)
    before, names = _plan, [config._attn_implementation for config in configs]
    _plan = plan
    try:
        for config in configs:
            config._attn_implementation = NAME
        yield
    finally:
        _plan = before
        for config, name in zip(configs, names, strict=True):
            config._attn_implementation = name


def _configs(model: nn.Module) -> list[Any]:
    """Those in which the attention layers look up what to call. A model is gone through once, not at each step."""
    if model not in _CONFIGS:
        found: list[Any] = [vars(module).get("config") for module in model.modules()]
        _CONFIGS[model] = list({id(config): config for config in found if config is not None}.values())
    return _CONFIGS[model]


_CONFIGS: WeakKeyDictionary[nn.Module, list[Any]] = WeakKeyDictionary()
_plan: Plan | None = None


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in place of its own attention functions."""
    unknown = sorted(
        name for name, given in others.items() if given is not None and given is not False and name not in _IGNORED
    )
    if unknown or attention_mask is not None or dropout:
        raise ValueError(f"attention with {', '.join(unknown) or 'a mask or dropout'} is not known here")
    if not getattr(module, "is_causal", True):
        raise ValueError("attention that is not causal is not known here")
    assert _plan is not None
    form = Form(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap, sliding_window)
    return _plan.attend(int(module.layer_idx), query, key, value, form), None  # type: ignore[arg-type]


AttentionInterface.register(NAME, _attend)
