"""The one comparison of numbers in the tests: tolerances are fixed by dtype, so that no test chooses its own."""

from typing import Any

import torch

RELATIVE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 2e-2}
ABSOLUTE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}


def close(a: Any, b: Any) -> bool:
    """True if |a - b| <= absolute + relative * max(|a|, |b|) everywhere; else an AssertionError that shows the worst.

    a, b: tensors, arrays, lists or numbers, of one shape or one of them a single number; nan equals nan, inf equals
    inf. The coarser of the two dtypes decides; whole numbers and plain Python numbers count as float64.
    """
    left, right = _tensor(a), _tensor(b)
    assert left.shape == right.shape or 1 in (left.numel(), right.numel()), f"{left.shape} is not {right.shape}"
    dtype = max(left.dtype, right.dtype, key=lambda kind: RELATIVE[kind])
    x, y = torch.broadcast_tensors(left.double(), right.double())
    size = torch.maximum(x.abs(), y.abs())
    near = (x - y).abs() <= ABSOLUTE[dtype] + RELATIVE[dtype] * size
    same = torch.where(size.isfinite(), near, (x == y) | (x.isnan() & y.isnan()))
    if not bool(same.all()):
        at = torch.where(same, -1.0, (x - y).abs().nan_to_num(torch.inf)).argmax()
        worst = f"{x.flatten()[at].item()!r} is not {y.flatten()[at].item()!r}"
        raise AssertionError(f"{worst} ({int((~same).sum())} of {same.numel()} differ, tolerance of {dtype})")
    return True


def _tensor(value: Any) -> torch.Tensor:
    """The value as a floating tensor on the CPU, of its own dtype if it has one."""
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
    elif hasattr(value, "dtype"):
        tensor = torch.as_tensor(value)
    else:
        tensor = torch.as_tensor(value, dtype=torch.float64)
    return tensor if tensor.dtype in RELATIVE else tensor.double()
