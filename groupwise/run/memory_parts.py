"""Bytes that a run holds, part by part: counted from its models' sizes and its recipe, before weights are loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from groupwise.config import GroupsConfig, Recipe, RejectionRecipe, SamplingConfig
from groupwise.engines.cache import FIRST_TOKENS, PREFILL_TOKENS
from groupwise.learn.microbatches import usual_tokens
from groupwise.model.device import pick_device, pick_precision
from groupwise.model.footprint import Footprint
from groupwise.model.linear_logprobs import CHUNK_BYTES, GPU_CHUNK_BYTES
from groupwise.model.lora import adapted_bytes
from groupwise.model.memory import Recompute, default_recompute
from groupwise.model.products import Products, fastest_products

LEARNING = 3
"""What training holds beside each weight that learns: its gradient and AdamW's two moments."""
GROWING = 1.5
"""Times the cache's size while it grows: the old half is given back only to what fits into it."""
NARROW = 0.6  # of an activation's fp32 bytes where products are bf16: norms and residuals stay fp32
LIBRARIES = 64.0 * 2**20  # what PyTorch's libraries take once they compute
LOGITS = 4  # copies of a turn's logits, and of a chunk's: scaled, exponentials, their gradient
BETWEEN = 1.1  # memory between tensors, and kernels


@dataclass(frozen=True)
class Need:
    """Bytes by what they are for: held all along, and those of sampling and of an update, which take turns."""

    held: Mapping[str, float]
    sampling: Mapping[str, float] = field(default_factory=dict)
    update: Mapping[str, float] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        turn = max(sum(self.sampling.values()), sum(self.update.values()))
        return int((sum(self.held.values()) + turn) * BETWEEN)

    def __str__(self) -> str:
        parts = [f"{name} {shown(size)}" for name, size in self.held.items() if size]
        for name, turn in (("sampling", self.sampling), ("update", self.update)):
            if turn:
                inside = ", ".join(f"{what} {shown(size)}" for what, size in turn.items() if size >= 2**20)
                parts.append(f"{name} {shown(sum(turn.values()))}" + f" ({inside})" * bool(inside))
        return ", ".join(parts)


@dataclass(frozen=True)
class Models:
    """A run's models without their weights: those that learn, the policy first, and those that are only asked."""

    trained: Sequence[Any]
    asked: Sequence[Any]
    size: Footprint


@dataclass(frozen=True)
class _Place:
    """Where a run computes. narrow: its products are bf16. question: tokens of the longest question; output: of the
    longest output, with an environment's replies. heldout: questions that are evaluated on."""

    device: torch.device
    narrow: bool
    matmul_backend: Products
    question: int
    output: int
    heldout: int = 0


def need(recipe: Recipe, models: Models, *, question: int, replies: int = 0, heldout: int) -> Need:
    """Of a run that trains. question: tokens of the longest question; replies: of an environment's in an output.
    heldout: questions that are evaluated on."""
    place = _place(recipe, question, replies, heldout)
    held = {"weights": float(sum(map(model_bytes, models.trained)))}
    held["gradients and moments"] = float(sum(map(_learning_bytes, models.trained)))
    held["merged adapters"] = float(sum(map(adapted_bytes, models.trained)))
    held["other models"] = float(sum(map(model_bytes, models.asked)))
    held["libraries"] = LIBRARIES
    sampling = {} if recipe.rollout is None else _sampling(recipe, recipe.rollout, models.size, place)
    return Need(held, sampling, _update(recipe, models.size, place))


def to_sample(recipe: RejectionRecipe, model: Any, size: Footprint, *, question: int, replies: int = 0) -> Need:
    """Of a run that trains nothing."""
    place = _place(recipe, question, replies)
    return Need({"weights": float(model_bytes(model))}, _sampling(recipe, recipe.rollout, size, place))


def _place(recipe: Recipe, question: int, replies: int, heldout: int = 0) -> _Place:
    device = pick_device(recipe.model.device)
    narrow = pick_precision(recipe.model.precision, device) == torch.bfloat16
    matmul_backend = fastest_products(device) if recipe.model.matmul_backend == "auto" else recipe.model.matmul_backend
    output = replies + (0 if recipe.rollout is None else recipe.rollout.max_new_tokens)
    return _Place(device, narrow, matmul_backend, question, output, heldout)


def _sampling(recipe: Recipe, rollout: SamplingConfig, size: Footprint, place: _Place) -> dict[str, float]:
    narrow = place.narrow or rollout.precision == "bf16"
    # a CPU's fused decode step keeps keys and values in fp32 whatever its products are
    number, samples = 0.5 if narrow and place.device.type != "cpu" else 1.0, getattr(recipe.evaluate, "samples", 0)
    training, group = 0, 1
    if isinstance(rollout, GroupsConfig):
        training, group = min(rollout.max_num_seqs, rollout.questions_per_step * rollout.group_size), rollout.group_size
    evaluated = min(rollout.max_num_seqs, place.heldout * max(1, samples))
    rows = max(training, evaluated)
    # rows of an evaluation all have questions of their own
    asked = max(-(-training // group), min(rollout.max_num_seqs, place.heldout))
    own = rows * place.output * (GROWING if place.output > FIRST_TOKENS else 1)
    at_once = max(place.question, min(PREFILL_TOKENS, asked * place.question))
    return {
        "cache": (own + asked * place.question) * size.cache * number,
        # of one pass over questions: keys and values before they lie in the cache, and what a layer works with
        "questions": at_once * (size.cache * number + (size.layer + 3 * size.state) * _narrowed(place)),
        "copies of weights": _copies(size, replace(place, narrow=narrow), sampling=True),
        "logits": rows * size.vocabulary * 4.0 * LOGITS,
    }


def _update(recipe: Recipe, size: Footprint, place: _Place) -> dict[str, float]:
    kind, rollout, number = _recompute(recipe, place.device), recipe.rollout, _narrowed(place)
    tokens = recipe.update.tokens_per_microbatch or usual_tokens(place.device.type)
    scored = tokens
    if isinstance(rollout, GroupsConfig):
        longest, outputs = place.question + place.output, rollout.group_size * place.output
        tokens = max(longest, min(tokens, rollout.questions_per_step * (place.question + outputs)))
        scored = max(place.output, tokens * outputs // (place.question + outputs))
    logits = scored * size.vocabulary * 4
    if not size.whole_logits:
        logits = min(logits, CHUNK_BYTES if place.device.type == "cpu" else GPU_CHUNK_BYTES)
    in_place = place.matmul_backend != "torch" and not place.narrow
    return {
        "activations": tokens * (size.kept[kind] * number + (kind != "nothing") * size.layer * number + 3 * size.state),
        "copies of weights": _copies(size, place, sampling=False),
        "logits": logits * float(LOGITS),
        # groupwise.model.products adds the last layer's gradient where it belongs, PyTorch's own layer makes a second
        "gradient on its way": 0.0 if in_place else float(size.last),
    }


def _narrowed(place: _Place) -> float:
    return NARROW if place.narrow else 1.0


def _recompute(recipe: Recipe, device: torch.device) -> Recompute:
    if recipe.update.activation_checkpointing is not None:
        return recipe.update.activation_checkpointing
    return "nothing" if recipe.model.lora is not None else default_recompute(device)


def _copies(size: Footprint, place: _Place, *, sampling: bool) -> float:
    """Of the linear layers' weights: bf16 ones, and while sampling those that oneDNN lays out for few rows."""
    laid_out = place.matmul_backend != "torch" and sampling
    if not place.narrow:
        return float(size.linear) if laid_out else 0.0
    return size.linear / 2 + size.last / 2 * laid_out


def model_bytes(model: torch.nn.Module) -> int:
    """Bytes of a model's weights in memory, tied ones once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in [*model.parameters(), *model.buffers()])


def _learning_bytes(model: torch.nn.Module) -> int:
    return LEARNING * sum(w.numel() * w.element_size() for w in model.parameters() if w.requires_grad)


def shown(size: float) -> str:
    """Bytes as a person reads them."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"
