"""The C functions of a decoder layer's forward and backward pass (layer_kernels.c). Knows no model."""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from groupwise.model.compiled import compiled
from groupwise.model.llama_like import Norm

SOURCE = Path(__file__).with_name("layer_kernels.c")
_P, _F, _N, _I = ctypes.c_void_p, ctypes.c_float, ctypes.c_int64, ctypes.c_int
_ARGUMENTS = {
    "gated": [_P, _P, _P, _N, _I],
    "gated_backward": [_P, _P, _P, _N, _I],
    "rms_norm": [_P, _P, _F, _P, _N, _N, _I],
    "rms_norm_backward": [_P, _P, _F, _P, _P, _P, _P, _N, _N, _I],
    "turn": [_P, _P, _F, _P, _P, _P, _N, _N, _N, _N, _I],
    "turn_backward": [_P, _P, _F, _P, _P, _P, _P, _N, _N, _N, _N, _I],
}


class LayerKernels:
    """The compiled functions. Tensors are fp32 on the CPU and contiguous, their last sizes multiples of WIDTH.

    S tokens, N numbers of a token, H heads of D numbers, angles of T numbers (the others of a head are not turned).
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        for name, arguments in _ARGUMENTS.items():
            function = getattr(library, name)
            function.argtypes = arguments
            function.restype = _I if name in ("rms_norm_backward", "turn_backward") else None
        self._library = library

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """silu(gate) up, of one shape."""
        out = torch.empty_like(gate)
        self._library.gated(*_places(gate, up, out), gate.numel(), torch.get_num_threads())
        return out

    def gated_backward(self, gate: Tensor, up: Tensor, slope: Tensor) -> None:
        """Takes d loss / d (silu(gate) up) in `slope` and leaves silu(gate) up there; gradients take the places of gate
        and up."""
        self._library.gated_backward(*_places(gate, up, slope), gate.numel(), torch.get_num_threads())

    def rms_norm(self, x: Tensor, norm: Norm) -> Tensor:
        """x / sqrt(mean x^2 + eps) weight, [S, N]."""
        out = torch.empty_like(x)
        weight = norm.weight.data_ptr()
        self._library.rms_norm(x.data_ptr(), weight, norm.eps, out.data_ptr(), *x.shape, torch.get_num_threads())
        return out

    def rms_norm_backward(
        self, x: Tensor, norm: Norm, slope: Tensor, residual: Tensor, by_weight: Tensor | None
    ) -> Tensor:
        """residual + d loss / d x, [S, N], in the place of the slope; adds d loss / d weight to `by_weight` [N]."""
        place, weight = slope.data_ptr(), norm.weight.data_ptr()
        failed = self._library.rms_norm_backward(
            *(x.data_ptr(), weight, norm.eps, place, residual.data_ptr(), place, _place(by_weight)),
            *(*x.shape, torch.get_num_threads()),
        )
        return _whole(failed, slope)

    def turn(self, x: Tensor, norm: Norm | None, cos: Tensor, sin: Tensor, size: int) -> Tensor:
        """Heads [S, H D], each normed where there is a norm, turned by the angles [S, T] of their tokens."""
        out = torch.empty_like(x)
        weight, eps = (None, 0.0) if norm is None else (norm.weight.data_ptr(), norm.eps)
        sizes = len(x), x.shape[1] // size, size, cos.shape[1]
        places = cos.data_ptr(), sin.data_ptr(), out.data_ptr()
        self._library.turn(x.data_ptr(), weight, eps, *places, *sizes, torch.get_num_threads())
        return out

    def turn_backward(
        self, x: Tensor, norm: Norm | None, cos: Tensor, sin: Tensor, size: int, slope: Tensor, by_weight: Tensor | None
    ) -> Tensor:
        """The gradient of `turn` by x, in the place of the slope; adds d loss / d weight to `by_weight` [D]."""
        weight, eps = (None, 0.0) if norm is None else (norm.weight.data_ptr(), norm.eps)
        sizes = len(x), x.shape[1] // size, size, cos.shape[1]
        places = cos.data_ptr(), sin.data_ptr(), slope.data_ptr(), _place(by_weight)
        failed = self._library.turn_backward(x.data_ptr(), weight, eps, *places, *sizes, torch.get_num_threads())
        return _whole(failed, slope)


@cache
def layer_kernels() -> LayerKernels | None:
    """The functions; None where they cannot be compiled."""
    library = compiled(SOURCE)
    return None if library is None else LayerKernels(library)


def _places(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def _place(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _whole(failed: int, result: Tensor) -> Tensor:
    if failed:
        raise MemoryError("no memory for the gradient of a norm's weight")
    return result
