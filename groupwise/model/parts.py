"""The parts of a model that reads pictures: its tower, what projects the tower's states, and the language part."""

import re
from collections.abc import Iterator
from typing import Any, Literal

from torch import nn

from groupwise.config import ModelConfig, TrainedPartsConfig
from groupwise.errors import ConfigError

Part = Literal["vision", "projector", "language"]
PARTS: tuple[Part, ...] = ("vision", "projector", "language")
_PROJECTOR = re.compile(
    r"projector|connector|merger|aligner|resampler|^embed_vision$|^(multi_)?modality_projection|^mlp_AR$|^qformer$"
)
_TOWER = re.compile(r"vision|visual|image_encoder|tower|^vqmodel$|^sam_model$", re.IGNORECASE)


def part_of(model: Any, name: str) -> Part:
    """The part that a weight belongs to, by its name in the model."""
    return _part(name, _language_names(model))


def named_parts(model: Any) -> dict[str, Part]:
    """The part of each weight, by names."""
    language = _language_names(model)
    return {name: _part(name, language) for name, _ in model.named_parameters()}


def projectors(model: Any) -> list[nn.Module]:
    """The modules that project the tower's states, none of them within another."""
    return list(_outermost(model, lambda path: any(map(_PROJECTOR.search, path))))


def train_parts(model: Any, config: ModelConfig, *, pictures: bool, section: str = "model") -> None:
    """Leaves a gradient to the weights of the parts that learn. pictures: the model is given some.

    Raises ConfigError if the recipe names parts of a model that reads text alone, or of one with adapters, which learn
    alone; or if nothing is left to learn.
    """
    train, where = config.train or TrainedPartsConfig(), f"{section}.train"
    if not pictures:
        if config.train is not None:
            raise ConfigError(
                f"{where}: {type(model).__name__} has no parts to choose from: it reads text alone",
                hint=f"leave {where} out",
            )
        if hasattr(model, "get_image_features"):  # a tower that nothing goes through
            _leave(model, {"language"})
        return
    if config.lora is not None:
        named = [
            name for name in PARTS if name in train.model_fields_set and getattr(train, name) != (name == _ADAPTED)
        ]
        if named:
            value = str(getattr(train, named[0])).lower()
            raise ConfigError(
                f"{where}.{named[0]} = {value}: with {section}.lora the adapters of the language part learn alone",
                hint=f"leave it out, or leave {section}.lora out",
            )
        return  # adapters freeze all else
    _leave(model, {name for name in PARTS if getattr(train, name)})
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ConfigError(f"{where}: no part learns", hint="set one of its parts to true")


_ADAPTED = "language"


def _leave(model: Any, learning: set[str]) -> None:
    parts = named_parts(model)
    for name, weight in model.named_parameters():
        weight.requires_grad_(weight.requires_grad and parts[name] in learning)


def learning_parts(model: Any) -> set[Part]:
    """The parts that have a weight with a gradient."""
    parts = named_parts(model)
    return {parts[name] for name, weight in model.named_parameters() if weight.requires_grad}


def _language_names(model: Any) -> set[str]:
    owned = {id(w) for w in model.get_decoder().parameters()}
    for layer in (model.get_output_embeddings(), model.get_input_embeddings()):
        owned |= {id(w) for w in layer.parameters()} if layer is not None else set()
    return {name for name, weight in model.named_parameters() if id(weight) in owned}


def _part(name: str, language: set[str]) -> Part:
    if name in language:
        return "language"
    path = name.split(".")
    if any(_PROJECTOR.search(step) for step in path):
        return "projector"
    return "vision" if any(_TOWER.search(step) for step in path) else "projector"


def _outermost(model: Any, wanted: Any) -> Iterator[nn.Module]:
    decoder, found = set(model.get_decoder().modules()), list[str]()
    for name, module in model.named_modules():
        if not name or module in decoder or any(name.startswith(f"{outer}.") for outer in found):
            continue
        if isinstance(module, nn.ModuleList):  # is never called
            continue
        if wanted(name.split(".")):
            found.append(name)
            yield module
