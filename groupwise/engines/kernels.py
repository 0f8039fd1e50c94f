"""The C functions of a decode step (kernels.c). Knows no model."""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from groupwise.model.compiled import compiled

SOURCE = Path(__file__).with_name("kernels.c")


class Step(ctypes.Structure):
    """What `attend` reads; see kernels.c."""

    _fields_ = (
        [(name, ctypes.c_void_p) for name in ("qkv", "cos", "sin", "query_norm", "key_norm", "own_keys", "own_values")]
        + [(name, ctypes.c_void_p) for name in ("asked_keys", "asked_values", "slots", "asked", "lengths", "out")]
        + [(name, ctypes.c_int64) for name in ("R", "H", "K", "D", "T", "longest", "turned", "window")]
        + [(name, ctypes.c_float) for name in ("scaling", "eps")]
    )


class Kernels:
    """The compiled functions. Tensors are fp32 on the CPU and contiguous, their last sizes multiples of WIDTH.

    They use as many threads as PyTorch, which they are told with each call: a PyTorch that brings an OpenMP library of
    another name has threads of its own.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._rms_norm, self._silu_product, self._attend = library.rms_norm, library.silu_product, library.attend
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self._rms_norm.argtypes = [pointer, pointer, ctypes.c_float, pointer, number, number, ctypes.c_int]
        self._silu_product.argtypes = [pointer, pointer, number, number, ctypes.c_int]
        self._rms_norm.restype = self._silu_product.restype = None
        self._attend.argtypes, self._attend.restype = [ctypes.POINTER(Step), ctypes.c_int], ctypes.c_int

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, out: Tensor) -> Tensor:
        """x / sqrt(mean x^2 + eps) weight, [R, N] and [N], into out [R, N]."""
        self._rms_norm(x.data_ptr(), weight.data_ptr(), eps, out.data_ptr(), *x.shape, torch.get_num_threads())
        return out

    def silu_product(self, gate_up: Tensor, out: Tensor) -> Tensor:
        """silu(gate) up of [R, 2 N], gate before up, into out [R, N]."""
        self._silu_product(gate_up.data_ptr(), out.data_ptr(), *out.shape, torch.get_num_threads())
        return out

    def attend(self, step: Step) -> None:
        """Attention of one token of each row; its key and value go into the row's cache."""
        if self._attend(ctypes.byref(step), torch.get_num_threads()):
            raise MemoryError("no memory for attention's scores")


@cache
def load_kernels() -> Kernels | None:
    """The functions; None where they cannot be compiled."""
    library = compiled(SOURCE)
    return None if library is None else Kernels(library)
