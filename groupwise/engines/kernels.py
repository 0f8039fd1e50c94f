"""The C functions of a decode step: compiled once for each processor, where there is a compiler. Knows no model.

Without a compiler, or where `GROUPWISE_KERNELS=off`, the sampler does the same with PyTorch's operations.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from groupwise.model.builtin import cache_folder

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC", "-w")
WIDTH = 16
"""Numbers that the functions take at once: sizes must be multiples of it."""
COMPILE_SECONDS = 60


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
    """The functions, compiled if they are not yet; None where they cannot be. Kept in the cache folder."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if os.environ.get("GROUPWISE_KERNELS") == "off" or compiler is None:
        return None
    try:
        return Kernels(ctypes.CDLL(str(_library(compiler))))
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        log.warning("the sampler's C functions cannot be used, sampling is slower (%s)", str(error)[:300])
        return None


def _library(compiler: str) -> Path:
    """The shared library, by everything that it depends on: one place per source, compiler and processor."""
    parts = (SOURCE.read_bytes(), repr((FLAGS, compiler, os.stat(compiler).st_mtime, _processor())).encode())
    path = cache_folder() / "kernels" / f"{hashlib.sha256(b''.join(parts)).hexdigest()[:16]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            new = Path(folder) / "kernels.so"
            words = [compiler, *FLAGS, "-o", str(new), str(SOURCE), "-lm"]
            done = subprocess.run(words, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
            if done.returncode:
                raise OSError(f"{compiler}: {' '.join(done.stderr.split())}")
            new.replace(path)
    return path


def _processor() -> str:
    """What `-march=native` reads of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "".join(line for line in dict.fromkeys(lines) if line.startswith(("model name", "flags", "Features")))
    except OSError:
        return platform.processor()
