"""Low-rank adaptation (arXiv:2106.09685): beside each linear layer a product of two thin ones, and only these learn.

h = W x + (alpha / rank) B A x, with A: [rank, in] drawn at random, B: [out, rank] zero at first, W as it was. The one
file that knows peft; the model keeps its class, so its decoder and attention are found as in any other.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from groupwise import registry
from groupwise.config import ModelConfig
from groupwise.data import Sampling
from groupwise.errors import CheckpointError, ConfigError, ModelError
from groupwise.model.batch import Rollouts
from groupwise.model.digest import weights_digest
from groupwise.model.linear_logprobs import Scored
from groupwise.model.loading import load_policy
from groupwise.model.manifest import checked
from groupwise.model.policy import Policy
from groupwise.model.processor import load_processor, reads_pictures
from groupwise.model.source import NO_MODEL
from groupwise.model.tokenizer import ChatTokenizer, first_line, other_model
from groupwise.model.weights import auto_class

FOLDER = "adapter"
"""Where a checkpoint has the adapters by themselves, in peft's own format."""
ALL_LINEAR = "all-linear"
_WEIGHTS = "adapter_model.safetensors"
_NAME = "default"  # peft's, of an adapter that is given none
_BASE = "base.json"
_DIGEST = "digest_without_adapters"  # of a model, put on it before it has adapters


def load_adapted(config: ModelConfig, tokenizer: ChatTokenizer, *, seed: int, resumed_from: Path | None) -> Policy:
    """A policy with adapters, which alone require a gradient, on the weights behind `config.path`.

    seed: A is drawn from it. resumed_from: a checkpoint with the adapters' weights. Raises ModelError, ConfigError, and
    CheckpointError if the checkpoint's adapters are not those of the recipe, or the weights not those they began with.
    """
    base = tokenizer if resumed_from is None else other_model(tokenizer, config.path, seed=seed, section="model")

    def adapt(model: Any) -> None:
        digest = weights_digest(model.state_dict())
        if resumed_from is not None:
            checked(resumed_from, f"{FOLDER}/{_BASE}")
            check_base(resumed_from, _digest_of_base(resumed_from / FOLDER) or "", digest, path=config.path)
        add_adapters(model, config, seed=seed)
        setattr(model, _DIGEST, digest)
        if Path(base.source).is_dir() and config.path not in registry.MODELS:  # found from any folder, and it stays
            model.peft_config[_NAME].base_model_name_or_path = str(Path(base.source).resolve())
        if resumed_from is not None:
            load_adapters(resumed_from, model)

    return load_policy(config, base, adapt=adapt)


def add_adapters(model: Any, config: ModelConfig, *, seed: int) -> None:
    """Puts adapters on linear layers of a model's decoder, and freezes all other weights.

    Raises ModelError if peft is missing, ConfigError if the recipe names a layer that the model does not have.
    """
    from transformers.pytorch_utils import Conv1D

    peft = _peft("model.lora")
    lora = config.lora
    assert lora is not None
    layers = _linear_layers(model)
    names = _targets(list(layers), lora.targets)
    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # a fraction is as good
        target_modules=names,
        fan_in_fan_out=all(isinstance(layers[name], Conv1D) for name in names),
        task_type="CAUSAL_LM",
        base_model_name_or_path=config.path,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(settings, model, adapter_name=_NAME)


def without_adapters(policy: Policy) -> Policy:
    """The model that the policy began with, on the policy's own weights: pi_ref without a second model.

    Only its log-probabilities are to be asked for; whatever is asked of the policy meanwhile is asked of its beginning.
    """
    return _Beginning(**vars(policy))


class _Beginning(Policy):
    def logprobs(self, rollouts: Rollouts, mask: Tensor, *, sampling: Sampling) -> Scored:
        layers: list[Any] = [layer for layer in self.model.modules() if _has_adapter(layer)]
        try:
            for layer in layers:
                layer.enable_adapters(False)
            return super().logprobs(rollouts, mask, sampling=sampling)
        finally:
            for layer in layers:
                layer.enable_adapters(True)


def is_adapted(model: nn.Module) -> bool:
    return any(map(_has_adapter, model.modules()))


def described(model: nn.Module) -> str:
    """How many weights are trained beside how many that are not, in words."""
    sizes = [(weight.requires_grad, weight.numel()) for weight in model.parameters()]
    layers, learning = sum(map(_has_adapter, model.modules())), sum(size for trained, size in sizes if trained)
    frozen = sum(size for _, size in sizes) - learning
    return f"adapters beside {layers} layers: {learning:,} weights are trained, {frozen:,} stay as they are"


def adapted_bytes(model: nn.Module) -> int:
    """Bytes of the weights that have an adapter: what `merged_weights` takes besides the model."""
    layers: list[Any] = [layer for layer in model.modules() if _has_adapter(layer)]
    weights = [layer.base_layer.weight for layer in layers]
    return sum(weight.numel() * weight.element_size() for weight in weights)


@torch.no_grad()
def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights by the names they have without adapters: copies W + (alpha / rank) B A where there is one,
    elsewhere the model's own memory."""
    layers: dict[str, Any] = {name: layer for name, layer in model.named_modules() if _has_adapter(layer)}
    found: dict[str, Tensor] = {}
    for key, tensor in model.state_dict().items():
        owner, inside, last = key.partition(".base_layer.")
        if inside:
            merged = tensor + layers[owner].get_delta_weight(_NAME) if last == "weight" else tensor
            found[f"{owner}.{last}"] = merged
        elif key.rpartition(".lora_")[0] not in layers:
            found[key] = tensor
    return found


def write_adapters(folder: Path, model: Any) -> None:
    """The adapters alone as a folder that peft loads onto the model they were begun with, and that model's digest."""
    folder.mkdir()
    weights = {_outside(name): weight.detach().contiguous() for name, weight in _adapter_weights(model).items()}
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
    model.peft_config[_NAME].save_pretrained(folder)
    (folder / _BASE).write_text(json.dumps({"digest": getattr(model, _DIGEST, None)}), encoding="utf-8")


def write_merged(folder: Path, adapter: Path, *, base: str, where: str, trust: bool | None) -> None:
    """Writes an adapter's base with the adapter merged into it, as fp32, and the tokenizer of whichever has one.

    where: the setting that names the adapter. Raises ModelError if peft cannot merge it, or the base is another one.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    peft = _peft(where)
    allowed = {"trust_remote_code": bool(trust)}
    try:
        config = AutoConfig.from_pretrained(base, **allowed)
        processor = load_processor(base, config, trust=bool(trust)) if reads_pictures(base, config) else None
        kind = auto_class(processor)
        model = kind.from_pretrained(base, dtype=torch.float32, weights_only=True, **allowed)
    except Exception as error:  # whatever a damaged or foreign file makes of transformers
        raise ModelError(f"{where}: its base {base}: {first_line(error)}", hint=NO_MODEL) from None
    begun = _digest_of_base(adapter)
    if begun is not None and begun != weights_digest(model.state_dict()):
        raise ModelError(
            f"{where}: {base} is not the model that the adapter was trained on",
            hint="restore that model, or give the checkpoint's own folder, which is a whole model",
        )
    try:
        merged = peft.PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except Exception as error:
        raise ModelError(
            f"{where}: peft cannot merge it into {base}: {first_line(error)}",
            hint="merge it where it was trained, and give the folder of the whole model",
        ) from None
    generation, merged.generation_config = merged.generation_config, GenerationConfig()
    merged.save_pretrained(folder)
    generation.to_json_file(folder / "generation_config.json", use_diff=True)
    own = (adapter / "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(str(adapter) if own else base, **allowed)
    if processor is not None:
        processor.tokenizer, processor.chat_template = tokenizer, tokenizer.chat_template or processor.chat_template
    (tokenizer if processor is None else processor).save_pretrained(folder)


def load_adapters(checkpoint: Path, model: nn.Module) -> None:
    """Puts a checkpoint's adapters into those of a model. Raises CheckpointError if they are missing or others."""
    file = checked(checkpoint, f"{FOLDER}/{_WEIGHTS}")
    saved, weights = load_file(file), _adapter_weights(model)
    shapes = {_outside(name): weight.shape for name, weight in weights.items()}
    apart = sorted(shapes.items() ^ {name: tensor.shape for name, tensor in saved.items()}.items())
    if apart:
        raise CheckpointError(
            f"{file}: not the adapters of model.lora: {apart[0][0]} for one",
            hint="resume with the model and the settings that the run started with",
        )
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(saved[_outside(name)])


def digest_at_first(model: nn.Module) -> str:
    """The digest of a model's weights as they were loaded, adapters left out; asked for before any is trained."""
    return str(getattr(model, _DIGEST, None) or weights_digest(model.state_dict()))


def check_base(where: Path | None, began_with: str, digest: str, *, path: str) -> None:
    """Raises CheckpointError unless the weights behind a path have the digest of those that a run began with.

    where: the checkpoint that says so."""
    if began_with != digest:
        raise CheckpointError(
            f"{where}: model.path = {path!r} is not the model that the run began with: its weights differ",
            hint="restore it (for a run's folder, name the checkpoint that it was), or start a new run",
        )


def _digest_of_base(adapter: Path) -> str | None:
    """The digest of the weights that an adapter was begun with; None if it was not made here."""
    try:
        digest = json.loads((adapter / _BASE).read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(digest)


def _peft(where: str) -> Any:
    """The package. Raises ModelError if it is missing."""
    try:
        import peft
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise ModelError(f"{where}: the package peft is not installed", hint="pip install 'groupwise[lora]'") from None
    return peft


def _has_adapter(layer: Any) -> bool:
    """Told without peft, which a run of all weights does not need."""
    return hasattr(layer, "lora_A") and hasattr(layer, "base_layer")


def _adapter_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    owners = {name for name, layer in model.named_modules() if _has_adapter(layer)}
    named = model.named_parameters()
    return {name: weight for name, weight in named if name.rpartition(".lora_")[0] in owners}


def _outside(name: str) -> str:
    """The name that peft gives a weight in a file."""
    return f"base_model.model.{name.replace(f'.{_NAME}.', '.')}"


def _linear_layers(model: Any) -> dict[str, nn.Module]:
    """Linear layers of the decoder by their names in the model, without the last one, which scores the vocabulary.

    One of a kind of its own, as the router of some mixtures of experts, gives something else than W x and is left out.
    """
    from transformers.pytorch_utils import Conv1D

    inside, last = set(model.get_decoder().modules()), model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if module in inside and type(module) in (nn.Linear, Conv1D) and module is not last
    }


def _targets(layers: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The layers whose names are, or end in, one of those wanted. Raises ConfigError for one that is no layer's."""
    found: dict[str, None] = {}
    for target in wanted:
        matching = [name for name in layers if target == ALL_LINEAR or f".{name}".endswith(f".{target}")]
        if not matching:
            known = [ALL_LINEAR, *dict.fromkeys(name.rpartition(".")[2] for name in layers)]
            raise ConfigError(
                f"model.lora.targets: no linear layer of this model's decoder is called {target!r}",
                hint=registry.nearest(target, known),
            )
        found |= dict.fromkeys(matching)
    return list(found)
