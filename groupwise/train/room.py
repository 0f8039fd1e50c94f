"""What a run needs of disk and memory, asked for before its weights are loaded. Loads no weights itself."""

from pathlib import Path

import torch

from groupwise.config import ModelConfig, Recipe
from groupwise.errors import ModelError
from groupwise.model import checkpoint as checkpoints
from groupwise.model.device import pick_device
from groupwise.model.lora import adapted_bytes, add_adapters
from groupwise.model.tokenizer import ChatTokenizer, other_model
from groupwise.objective.surrogate import Objective
from groupwise.train.disk import require_disk

LEARNING = 3
"""What training holds beside each weight that learns: its gradient and AdamW's two moments."""


def require_room(
    recipe: Recipe, tokenizer: ChatTokenizer, folder: Path, objective: Objective | None, *, heldout: int
) -> str:
    """Raises if the disk cannot hold the checkpoints, or the memory the models of this run; loads no weights.

    heldout: questions that are evaluated on. Returns a line about the disk.
    """
    policy = _empty(tokenizer, None if recipe.model.lora is None else recipe.model)
    critic = recipe.critic
    own_trunk = (
        [] if critic is None or critic.trunk == "shared" else [_other(critic.path, tokenizer, recipe.seed, "critic")]
    )
    reference = [_empty(tokenizer)] * (objective is not None and holds_reference(recipe, objective))
    teacher = [] if recipe.teacher is None else [_other(recipe.teacher.path, tokenizer, recipe.seed, "teacher")]
    trained = [policy, *own_trunk]
    one = checkpoints.bytes_needed(*trained, with_optimizer=True)
    one += sum(model_bytes(model) for model in reference if recipe.objective.reference_every)
    disk = require_disk(recipe, folder, checkpoint=one, heldout=heldout)
    _require_memory(
        recipe,
        sum(map(_training_bytes, trained)) + sum(map(model_bytes, [*reference, *teacher])),
        what="training",
        hint="use a smaller model"
        + ", or set objective.kl_coef=0: no reference" * bool(reference)
        + ", or critic.trunk=shared: no second model" * bool(own_trunk and recipe.model.lora is None),
    )
    return disk


def holds_reference(recipe: Recipe, objective: Objective) -> bool:
    """True if pi_ref is a model of its own: with adapters it is the policy without them, unless it is renewed."""
    return objective.kl_coef > 0 and (recipe.model.lora is None or recipe.objective.reference_every > 0)


def require_memory_to_sample(recipe: Recipe, tokenizer: ChatTokenizer) -> None:
    """Raises ModelError if the memory cannot hold the weights of a run that trains nothing."""
    _require_memory(recipe, model_bytes(_empty(tokenizer)), what="sampling from", hint="use a smaller model")


def _require_memory(recipe: Recipe, needed: int, *, what: str, hint: str) -> None:
    device = pick_device(recipe.model.device)
    free = _free_memory(device)
    if free is not None and free < needed:
        raise ModelError(
            f"not enough memory on {device}: {what} {recipe.model.path} holds {needed:,} bytes before the first "
            f"output, {free:,} are free",
            hint=hint,
        )


def model_bytes(model: torch.nn.Module) -> int:
    """Bytes of a model's weights in memory, tied ones once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in [*model.parameters(), *model.buffers()])


def _training_bytes(model: torch.nn.Module) -> int:
    """Bytes that a model in training holds; with adapters also their merged copy while a checkpoint is written."""
    learning = sum(weight.numel() * weight.element_size() for weight in model.parameters() if weight.requires_grad)
    return model_bytes(model) + LEARNING * learning + adapted_bytes(model)


def _other(path: str | None, tokenizer: ChatTokenizer, seed: int, section: str) -> torch.nn.Module:
    """The model behind a path without its weights; None: the policy's."""
    return _empty(tokenizer if path is None else other_model(tokenizer, path, seed=seed, section=section))


def _empty(tokenizer: ChatTokenizer, adapted: ModelConfig | None = None) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        trust = bool(tokenizer.trust_remote_code)
        model: torch.nn.Module = AutoModelForCausalLM.from_config(
            tokenizer.config, dtype=torch.float32, trust_remote_code=trust
        )
        if adapted is not None:
            add_adapters(model, adapted, seed=0)
    return model


def _free_memory(device: torch.device) -> int | None:
    """Bytes free on a device; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
