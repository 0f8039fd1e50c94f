"""What learning knows of other processes that learn from other parts of a step's outputs: sums, and their rows.

One process is `ALONE`, the world of one. A run over several gives `make_batch` and `update_policy` a `Ranks` of its
own; every rank makes the same calls in the same order, so no branch here may depend on what one rank holds alone.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Ranks(Protocol):
    """The processes of a run. rank: our place among them; count: how many there are."""

    @property
    def rank(self) -> int: ...
    @property
    def count(self) -> int: ...

    def sum(self, values: Tensor) -> Tensor:
        """The sum of the values over all ranks, the same on each. Values of one shape."""

    def most(self, number: float) -> float:
        """The largest of a number over all ranks."""

    def gather(self, rows: Tensor) -> list[Tensor]:
        """The rows of every rank, in the order of ranks. Shapes may differ in the first two dimensions."""

    def sum_gradients(self, gradients: Iterable[Tensor]) -> None:
        """Adds to each gradient those of the other ranks, in place; nothing where a library's hooks have done it."""


class Alone:
    """The world of one."""

    rank, count = 0, 1

    def sum(self, values: Tensor) -> Tensor:
        return values

    def most(self, number: float) -> float:
        return number

    def gather(self, rows: Tensor) -> list[Tensor]:
        return [rows]

    def sum_gradients(self, gradients: Iterable[Tensor]) -> None:
        return


ALONE = Alone()


def total(ranks: Ranks, number: float) -> float:
    """The sum of a number over all ranks."""
    return float(ranks.sum(torch.tensor(float(number), dtype=torch.float64)))


PER_STEP = {"reward_weights", "discount", "gae_lambda"}
"""Inputs of an advantage that are no output's."""


def over_all(ranks: Ranks, inputs: dict[str, Any]) -> tuple[dict[str, Any], slice]:
    """The inputs of an advantage with the rows of every rank, and which of them are ours.

    Advantages that look past a group (a batch's mean and spread) are of the whole step, wherever its rows are. Groups
    are numbered anew, so that two ranks' first ones are two. Tokens are padded with 0 to the longest row.
    """
    if ranks.count == 1:
        return inputs, slice(None)
    found, own = dict(inputs), slice(None)
    for name, rows in inputs.items():
        if name in PER_STEP or not isinstance(rows, Tensor):
            continue
        parts = ranks.gather(rows)
        if name == "group":
            parts = [part + place for part, place in zip(parts, _starts(int(p.max()) + 1 for p in parts), strict=True)]
        start = sum(len(part) for part in parts[: ranks.rank])
        own = slice(start, start + len(rows))
        found[name] = torch.cat(_of_one_width(parts))
    return found, own


def _starts(sizes: Iterable[int]) -> list[int]:
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return starts[:-1]


def _of_one_width(parts: Sequence[Tensor]) -> list[Tensor]:
    if parts[0].dim() < 2:
        return list(parts)
    width = max(part.shape[1] for part in parts)
    return [torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]
