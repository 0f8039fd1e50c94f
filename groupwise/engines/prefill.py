"""Attention over many tokens at once, questions or what follows them, which remembers the keys and values."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from groupwise.model.attention import Block, BlockPlan, Form


@dataclass
class Pair:
    keys: Tensor
    values: Tensor


class Prefill:
    """Block attention that remembers keys and values."""

    def __init__(self, blocks: Sequence[Block], runs: Tensor | None = None) -> None:
        self._blocks = BlockPlan(blocks, runs)
        self.found: dict[int, Pair] = {}
        self.forms: dict[int, Form] = {}  # how each layer attends

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        self.found[layer], self.forms[layer] = Pair(key[0], value[0]), form
        return self._blocks.attend(layer, query, key, value, form)


class Continuation:
    """Tokens that see their row's question in the cache and, causally, themselves; remembers keys and values."""

    def __init__(
        self,
        blocks: Sequence[Block],
        asked: Sequence[tuple[dict[int, Pair], int, int]],
        runs: Tensor | None = None,
    ) -> None:
        """asked: of each block the questions' keys and values, the place of its own among them, its tokens."""
        self._blocks, self._plan, self._asked = blocks, BlockPlan(blocks, runs), asked
        self.found: dict[int, Pair] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        self.found[layer] = Pair(key[0], value[0])
        outputs = []
        for block, (asked, slot, length) in zip(self._blocks, self._asked, strict=True):
            own, pair = slice(block.start, block.end), asked[layer]
            keys = torch.cat([pair.keys[slot, :, :length][None], key[:, :, own]], 2)
            values = torch.cat([pair.values[slot, :, :length][None], value[:, :, own]], 2)
            outputs.append(self._plan.block(query[:, :, own], keys, values, form, length, block.start).transpose(1, 2))
        return torch.cat(outputs, dim=1)
