"""Learned positions: how many tokens a model's table of them holds, as a pass over one row shows."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from groupwise.errors import ModelError


def require_positions(model: Any, named: str, ids: Sequence[int], *, context: int) -> None:
    """Raises ModelError if a table of positions ends before the context does. Some begin at a row other than the first.

    ids: the tokens of a row, no two neighbours of which are consecutive numbers.
    """
    lookups = _Lookups(len(ids))
    with torch.no_grad(), lookups:
        model(torch.tensor([list(ids)], device=model.device), use_cache=False)
    for rows, first in lookups.found:
        if rows - first < context:
            raise ModelError(
                f"{named}: positions of {type(model).__name__} begin at row {first} of a table of {rows}, so that "
                f"{rows - first} tokens fit, and its config.json promises {context}",
                hint="choose another model",
            )


class _Lookups(TorchFunctionMode):
    """What is looked up by consecutive numbers, one a token: the rows of each such table, and the first one read."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self._tokens = tokens
        self.found: list[tuple[int, int]] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is torch.nn.functional.embedding:
            self._see(*args[:2])
        return function(*args, **(kwargs or {}))

    def _see(self, ids: Tensor, table: Tensor) -> None:
        places = ids.flatten().tolist()
        if places == list(range(places[0], places[0] + self._tokens)):
            self.found.append((table.shape[0], places[0]))
