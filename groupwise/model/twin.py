"""A loaded model made easier to tell apart: the same weights under another config, and activations of one size.

A fault in masks, positions or caches shows little where attention is almost uniform or where a window is wider than
what is tried. The loaded weights are shared and never written to.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

_LOGITS = 8.0
"""Root mean square of the last layer's outputs while `sharpened` holds: far into a cap of `nearer`."""


def twin(model: Any, config: Any) -> Any:
    """A model of the same class and weights under another config.

    Weights are shared, not copied; adapters beside them are left out. Raises ValueError or RuntimeError if a weight has
    another shape there.
    """
    with torch.random.fork_rng(devices=[]), _weightless():
        small = type(model)(config)
    weights = {
        name.replace(".base_layer.", "."): weight for name, weight in model.state_dict().items() if ".lora_" not in name
    }
    small.load_state_dict(weights, strict=False, assign=True)
    small.tie_weights()
    missing = [name for name, weight in small.named_parameters() if weight.is_meta]
    if missing:
        raise ValueError(f"{len(missing)} weights have another shape or name, {missing[0]} for one")
    return small.to(next(model.parameters()).device).eval()


@contextmanager
def sharpened(model: Any) -> Iterator[None]:
    """While it holds, each linear layer's output is multiplied to a root mean square of about 1, and logits to 8.

    So attention is far from uniform and every layer counts, whatever the weights' size. The factor of a layer is found
    at its first use and stays: a value of another scale remains one.
    """
    last = model.get_output_embeddings()
    factors: dict[nn.Module, float] = {}

    def even(layer: nn.Module, _: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):  # a router that is a linear layer may give more than its product
            return output
        if layer not in factors:
            size = float(output.double().square().mean().sqrt())
            factors[layer] = (_LOGITS if layer is last else 1.0) / size if size > 0 else 1.0
        return output * factors[layer]

    layers = [module for module in model.modules() if isinstance(module, nn.Linear | Conv1D)]
    hooks = [layer.register_forward_hook(even) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _weightless() -> Iterator[None]:
    """While it holds, new modules have weights without memory; buffers are made as ever."""
    register = nn.Module.register_parameter

    def without_memory(module: nn.Module, name: str, weight: nn.Parameter | None) -> None:
        register(module, name, weight)
        if weight is not None:
            module._parameters[name] = nn.Parameter(weight.detach().to("meta"), requires_grad=weight.requires_grad)

    nn.Module.register_parameter = without_memory  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
