"""Memory against time: keeping what a step has freed, and computing layers twice instead of keeping what they did."""

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

_KEEP_BYTES = 2**31 - 1
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h
_TOP_PAD_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Raises glibc's thresholds, as MALLOC_MMAP_THRESHOLD_ and its kin would; True if the C library took them.

    By default glibc maps each large tensor anew and the kernel zeroes its pages: a sixth of a step's CPU time.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    settings = (
        (_M_MMAP_THRESHOLD, _KEEP_BYTES),
        (_M_TRIM_THRESHOLD, _KEEP_BYTES),
        (_M_TOP_PAD, _TOP_PAD_BYTES),
    )
    return all(mallopt(name, value) == 1 for name, value in settings)


@contextmanager
def layers_recomputed(model: nn.Module) -> Iterator[None]:
    """While it holds, each layer of a model keeps its input alone and is computed again in the backward pass, which
    must be over before this is."""
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        layer.forward = partial(_recomputed, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _recomputed(forward: Callable[..., Any], *inputs: Any, **settings: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **settings)
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **settings)
