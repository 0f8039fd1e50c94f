"""Whether tensors hold numbers alone: neither nan nor infinities. Changes nothing."""

from collections.abc import Iterable
from math import isfinite

import torch
from torch import Tensor


@torch.no_grad()
def finite(tensor: Tensor) -> bool:
    """Whether all values are; in one pass, without a tensor of booleans as large."""
    return tensor.numel() == 0 or all(isfinite(float(bound)) for bound in torch.aminmax(tensor))


def first_unsound(tensor: Tensor) -> str:
    """The first value of a tensor that is not finite."""
    values = tensor.detach().flatten()
    return str(float(values[~torch.isfinite(values)][0]))


def unsound_weight(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """The first of these that is not finite, with a value of it; None if all are."""
    return next((f"{first_unsound(weight)} in {name}" for name, weight in named if not finite(weight)), None)
