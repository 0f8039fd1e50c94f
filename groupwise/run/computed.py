"""By what a run computes, kept in its checkpoints: another choice rounds otherwise, and a resumed run would differ."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from groupwise.config import Recipe
from groupwise.model.device import pick_device
from groupwise.model.policy import Policy
from groupwise.run.progress import remark

R = TypeVar("R", bound=Recipe)


def choices(policy: Policy) -> dict[str, Any]:
    """What a checkpoint holds of it."""
    return {
        "matmul_backend": policy.matmul_backend,
        "whole_layers": sorted(policy.whole_layers),
        "microbatch_limit": policy.microbatch_limit,
    }


def with_products(recipe: R, products: str | None) -> R:
    """The recipe with these products where it leaves them to the machine; None: nobody has chosen yet."""
    model = recipe.model
    usable = pick_device(model.device).type == "cpu" and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if model.matmul_backend != "auto" or products is None or not usable:
        return recipe
    return recipe.model_copy(update={"model": model.model_copy(update={"matmul_backend": products})})


def as_before(policy: Policy, kept: Mapping[str, Any], tokens: int | None) -> None:
    """Lets a policy compute as the checkpoint's did; kept: {} of a new run, whose micro-batches have `tokens`."""
    policy.microbatch_limit = kept.get("microbatch_limit", tokens)
    if "whole_layers" not in kept:
        return
    lacking = set(kept["whole_layers"]) - set(policy.whole_layers)
    policy.whole_layers = {place: form for place, form in policy.whole_layers.items() if place in kept["whole_layers"]}
    if lacking:
        remark(
            f"{len(lacking)} layers cannot be computed as a whole here, as they were before (no C compiler, or "
            "GROUPWISE_KERNELS=off): results are rounded otherwise than by the run so far"
        )
