"""Memory against time: keeping what a step has freed, and computing again instead of keeping what layers did."""

import ctypes
import logging
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts
from transformers.modeling_layers import GradientCheckpointingLayer

from groupwise.model.tokenizer import first_line

log = logging.getLogger(__name__)

Recompute = Literal["nothing", "cheap", "layers"]

GROWTH_BYTES = 48 * 2**20
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


class FreedMemory:
    """Gives freed memory back to the system once the process has grown by more than GROWTH_BYTES.

    glibc keeps what is freed, in pieces; streams of another length each step need other pieces, so that the heap grows
    by some 30 MB a step though no more of it is in use. Handing back all free pages takes 0.2 s, hence not every step.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
        self._trim = getattr(library, "malloc_trim", None)  # musl has none
        self._usual: int | None = None
        self._trimmed = False

    def settle(self) -> bool:
        """For the end of a step: True if memory was given back."""
        if self._trim is None:
            return False
        held = resident_bytes()
        if self._usual is None or (self._trimmed and held > self._usual + GROWTH_BYTES):
            self._usual = held  # what a step needs that begins with a heap of no free pages
        self._trimmed = held > self._usual + GROWTH_BYTES
        if self._trimmed:
            self._trim(0)
        return self._trimmed


def resident_bytes() -> int:
    """Memory of this process that is in RAM, on Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of an accelerator or of the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc")


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
    layers = checkpointed_layers(model) if what != "nothing" else []
    for layer in layers:
        layer.forward = partial(_twice, what, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def can_recompute(model: Any, what: Recompute) -> bool:
    """True if the model's gradient is the same so, tried on a few tokens by a small weight of each layer: a layer that
    writes over a product's result cannot keep it."""
    learning = [[w for w in layer.parameters() if w.requires_grad] for layer in checkpointed_layers(model)]
    weights = [min(own, key=torch.Tensor.numel) for own in learning if own]
    if what == "nothing" or not weights:
        return True

    def gradients(what: Recompute) -> list[Tensor | None]:
        tokens = torch.arange(8, device=weights[0].device)[None]
        with torch.enable_grad(), recomputed(model, what):
            loss = model(tokens, use_cache=False).logits.float().square().mean()
            return list(torch.autograd.grad(loss, weights, allow_unused=True))

    try:
        same = all(map(_near, gradients("nothing"), gradients(what)))
        why = "" if same else "its gradient differs"
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        why = first_line(error)
    if why:
        log.warning("%s keeps all that its layers did (%s)", type(model).__name__, why)
    return not why


def _near(expected: Tensor | None, found: Tensor | None) -> bool:
    if expected is None or found is None:
        return expected is found
    size = float(expected.nan_to_num().abs().max())
    return torch.allclose(expected, found, rtol=1e-4, atol=1e-5 * size, equal_nan=True)


def checkpointed_layers(model: Any) -> list[nn.Module]:
    """The layers of a decoder that transformers can compute again going back; those of a vision tower are left out."""
    inside = model.get_decoder() if hasattr(model, "get_decoder") else model
    return [module for module in inside.modules() if isinstance(module, GradientCheckpointingLayer)]


def _twice(what: Recompute, forward: Callable[..., Any], *inputs: Any, **settings: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **settings)
    if what == "cheap":
        settings["context_fn"] = partial(create_selective_checkpoint_contexts, _keep_products)
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **settings)


def _keep_products(_: Any, operator: Any, *inputs: Any, **settings: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in DEAR else CheckpointPolicy.PREFER_RECOMPUTE


def _operators(*names: str) -> set[Any]:
    """PyTorch's operators of these names, those that this build has."""
    found = (getattr(getattr(torch.ops, name.split(".")[0]), name.split(".")[1], None) for name in names)
    return {operator.default for operator in found if operator is not None}


DEAR = _operators(
    "mkldnn._linear_pointwise",
    "aten.mm",
    "aten.addmm",
    "aten.linear",
    "aten.bmm",
    "aten.baddbmm",
    "aten._grouped_mm",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention",
)
"""Whose results `cheap` keeps."""
