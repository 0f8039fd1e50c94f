"""Which library's products are the fastest for a model's shapes: measured once on a processor, and kept.

The choice is kept in the cache folder by processor, versions, threads and shapes, so that the same run on the same
machine makes it once; a run keeps its own in its checkpoints. Small models, whose products take no time, have the
choice that their processor's maker suggests (`groupwise.model.products.fastest_products`).
"""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable
from time import perf_counter
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from groupwise.atomic import write_whole
from groupwise.model.compiled import processor
from groupwise.model.products import OneDnnLinear, Products, fastest_products, rows_product
from groupwise.places import cache_folder

log = logging.getLogger(__name__)

SMALL = 10_000_000  # numbers in linear layers, below which nothing is measured
MARGIN = 0.95  # of the time of what the maker suggests, which another choice must stay below
_ROWS, _LARGEST, _SHAPES, _REPEATS = 256, 2048, 4, 4
_SETTINGS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE")
Shapes = dict[tuple[int, int], int]
"""(outputs, inputs) of linear layers, and how many layers have them."""


def products_for(model: nn.Module, device: torch.device) -> Products:
    """The fastest choice for a model that learns: as measured here before, else measured now (under two seconds)."""
    suggested, shapes = fastest_products(device), shapes_of(model)
    if suggested == "torch" or sum(out * into * count for (out, into), count in shapes.items()) < SMALL:
        return suggested
    settings = [processor(), torch.__version__, torch.get_num_threads(), sorted(shapes.items()), suggested]
    key = json.dumps([*settings, *map(os.environ.get, _SETTINGS)])
    path = cache_folder() / "products" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    try:
        found = json.loads(path.read_text())["matmul_backend"]
        if found in get_args(Products):
            return cast(Products, found)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    seconds = measured(shapes)
    chosen = fastest_of(seconds, suggested)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({"matmul_backend": chosen, "seconds": seconds}, indent=1) + "\n")
    except OSError as error:
        log.warning("the choice of matrix products is not kept: %s", error)
    return chosen


def shapes_of(model: nn.Module) -> Shapes:
    """Of the plain linear layers in fp32."""
    found: Shapes = Counter()
    for module in model.modules():
        if isinstance(module, nn.Linear) and type(module) in (nn.Linear, OneDnnLinear):
            found[module.out_features, module.in_features] += module.weight.dtype == torch.float32
    return found


@torch.no_grad()
def measured(shapes: Shapes) -> dict[str, float]:
    """Seconds of forward pass, input gradient and weight gradient by each choice, over a model's largest shapes."""
    largest = sorted(shapes, key=lambda shape: -shape[0] * shape[1] * shapes[shape])[:_SHAPES]
    seconds = dict.fromkeys(("packed", "onednn", "mixed"), 0.0)
    for out, into in largest:
        few = min(out, _LARGEST), min(into, _LARGEST)
        share = shapes[out, into] * (out * into) / (few[0] * few[1])
        forward, back, weight = _of_shape(*few)
        for choice, way in (("packed", 0), ("onednn", 1), ("mixed", 1)):
            seconds[choice] += share * (forward[way] + back[way] + weight[choice == "onednn"])
    return {choice: round(value, 6) for choice, value in seconds.items()}


def fastest_of(seconds: dict[str, float], suggested: Products) -> Products:
    """The choice that took the least time, if that is clearly less than the suggested one took."""
    best = min(seconds, key=lambda choice: seconds[choice])
    return cast(Products, best) if seconds[best] < MARGIN * seconds[suggested] else suggested


def _of_shape(out: int, into: int) -> tuple[tuple[float, float], ...]:
    """Seconds by PyTorch's own product and by oneDNN's: forward, gradient of the input, gradient of the weight."""
    own = torch.Generator().manual_seed(0)  # a run's draws do not depend on whether the choice was kept
    x, slope, weight = (torch.randn(shape, generator=own) for shape in ((_ROWS, into), (_ROWS, out), (out, into)))
    gradient = torch.zeros_like(weight)

    def pair(own: Callable[[], Any], onednn: Callable[[], Any]) -> tuple[float, float]:
        times = [[_seconds(own), _seconds(onednn)] for _ in range(_REPEATS)]
        return min(time[0] for time in times), min(time[1] for time in times)

    def both(rows: Tensor, factor: Tensor) -> tuple[float, float]:
        return pair(lambda: rows_product(rows, factor, "packed"), lambda: rows_product(rows, factor, "onednn"))

    return (
        both(x, weight),
        both(slope, weight.t()),
        pair(lambda: gradient.addmm_(slope.t(), x), lambda: gradient.add_(rows_product(slope.t(), x.t(), "onednn"))),
    )


def _seconds(work: Callable[[], Any]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started
