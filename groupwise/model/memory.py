"""Memory against time: keeping what a step has freed, and computing again instead of keeping what layers did."""

import ctypes
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts
from transformers.modeling_layers import GradientCheckpointingLayer

from groupwise.model.tokenizer import first_line

log = logging.getLogger(__name__)

Recompute = Literal["nothing", "cheap", "layers"]

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


def default_recompute(device: torch.device) -> Recompute:
    """What is computed again unless a recipe says: `cheap` on a CPU, where it takes hardly longer. On a GPU nothing:
    each operation is looked at in Python, for longer than a small one takes there."""
    return "cheap" if device.type == "cpu" else "nothing"


@contextmanager
def recomputed(model: nn.Module, what: Recompute) -> Iterator[None]:
    """While it holds, the layers of a model keep less for the backward pass, which must be over before this is.

    nothing: all is kept, as autograd does. cheap: a layer's input and the results of its matrix products and its
    attention; norms, activations and rotary angles are computed again. layers: its input alone.
    """
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)] if what != "nothing" else []
    for layer in layers:
        layer.forward = partial(_twice, what, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def can_recompute(model: Any, what: Recompute) -> bool:
    """True if the model's gradient is the same so, tried on a few tokens: a layer that writes over a product's result
    cannot keep it."""
    weights = model.get_input_embeddings().weight
    states = weights.detach()[: min(8, len(weights))].float()[None]

    def gradient(what: Recompute) -> torch.Tensor:
        given = states.clone().requires_grad_()
        with torch.enable_grad(), recomputed(model, what):
            result = model.get_decoder()(inputs_embeds=given, use_cache=False).last_hidden_state
            return torch.autograd.grad(result.float().square().mean(), given)[0]

    if what == "nothing":
        return True
    try:
        expected, found = gradient("nothing"), gradient(what)
        near = 1e-5 * float(expected.abs().max())
        why = "" if torch.allclose(expected, found, rtol=1e-4, atol=near, equal_nan=True) else "its gradient differs"
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        why = first_line(error)
    if why:
        log.warning("%s keeps all that its layers did (%s)", type(model).__name__, why)
    return not why


def _twice(what: Recompute, forward: Callable[..., Any], *inputs: Any, **settings: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **settings)
    if what == "cheap":
        settings["context_fn"] = partial(create_selective_checkpoint_contexts, _keep_products)
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **settings)


def _keep_products(_: Any, operator: Any, *inputs: Any, **settings: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in _DEAR else CheckpointPolicy.PREFER_RECOMPUTE


def _operators(*names: str) -> set[Any]:
    """PyTorch's operators of these names, those that this build has."""
    found = (getattr(getattr(torch.ops, name.split(".")[0]), name.split(".")[1], None) for name in names)
    return {operator.default for operator in found if operator is not None}


_DEAR = _operators(
    "mkldnn._linear_pointwise",
    "aten.mm",
    "aten.addmm",
    "aten.linear",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention",
)
"""Whose results `cheap` keeps."""
