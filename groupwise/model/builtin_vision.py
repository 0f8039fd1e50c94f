"""A model that reads pictures and needs no hub: a two-layer Idefics3 made on the spot, with its processor.

Its image processor is the one of transformers that needs Pillow alone, not torchvision.
"""

import importlib.util
import string
from pathlib import Path

from groupwise.errors import ModelError
from groupwise.model.builtin import cached, character_tokenizer, write_random

IMAGE_SIDE = 48
"""Pixels of a side, to which each picture is scaled."""
_PATCH = 8
_MERGED = 2  # patches along each side of what becomes one token
IMAGE_TOKENS = (IMAGE_SIDE // _PATCH // _MERGED) ** 2
"""Tokens of a picture, besides the three that stand around them."""
_CHARACTERS = "\n " + string.digits + string.ascii_letters + string.punctuation
_SPECIAL = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
_TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' }}{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{{ '<end>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def tiny_vision(seed: int = 0) -> Path:
    """Folder of an Idefics3 with a tower of two layers, one token per character and random weights from the seed.

    Raises ModelError if Pillow is missing.
    """
    if importlib.util.find_spec("PIL") is None:
        raise ModelError("model.path = 'tiny_vision': needs Pillow", hint="pip install 'groupwise[vision]'")
    return cached(f"tiny_vision-{seed}", lambda folder: _write(folder, seed))


def _write(folder: Path, seed: int) -> None:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = character_tokenizer(_CHARACTERS, _TEMPLATE, _SPECIAL)
    side = {"longest_edge": IMAGE_SIDE}
    processor = Idefics3Processor(
        Idefics3ImageProcessorPil(size=side, max_image_size=side, do_image_splitting=False),
        tokenizer,
        image_seq_len=IMAGE_TOKENS,
        chat_template=_TEMPLATE,
    )
    text = {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    tower = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": IMAGE_SIDE,
        "patch_size": _PATCH,
    }
    config = Idefics3Config(
        text_config=text,
        vision_config=tower,
        scale_factor=_MERGED,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    write_random(folder, Idefics3ForConditionalGeneration, config, processor, seed=seed)
