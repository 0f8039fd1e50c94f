"""Small models that read pictures, of several families, with random weights and processors made of parts."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from groupwise.model.builtin import TINY_CHARACTERS, character_tokenizer

ROLES = ("<system>", "<user>", "<assistant>", "<end>")
TEXT = {"hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": None, "bos_token_id": None}


def template(picture: str) -> str:
    """A chat template that writes this for a picture."""
    return (
        "{% for m in messages %}{{ '<' + m['role'] + '>' }}{% if m['content'] is string %}{{ m['content'] }}{% else %}"
        "{% for part in m['content'] %}{% if part['type'] == 'image' %}{{ '" + picture + "' }}{% else %}"
        "{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<end>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
    )


def tokenizer_of(picture: str, special: tuple[str, ...], **named: str) -> Any:
    """One token per character, special ones among them, and a template that writes `picture` for a picture."""
    tokenizer = character_tokenizer(TINY_CHARACTERS + "\n", template(picture), special)
    for name, token in named.items():
        setattr(tokenizer, name, token)
    return tokenizer


def _qwen(folder: Path, kind: str) -> Any:
    import transformers
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    names = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = tokenizer_of("<|vision_start|><|image_pad|><|vision_end|>", names)
    patch = 16 if kind == "qwen3_vl" else 14
    images = Qwen2VLImageProcessorPil(patch_size=patch, min_pixels=4 * patch**2, max_pixels=64 * patch**2)
    tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(names))
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 2, 4]}
    text = {**TEXT, "vocab_size": len(tokenizer), "rope_parameters": rope, "eos_token_id": tokenizer.eos_token_id}
    ids = {"image_token_id": image, "video_token_id": video, "vision_start_token_id": start, "vision_end_token_id": end}
    tower: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": patch, "intermediate_size": 48}
    if kind == "qwen2_vl":
        tower |= {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
        config = transformers.Qwen2VLConfig(text_config=text, vision_config=tower, **ids)
    elif kind == "qwen2_5_vl":
        tower |= {"hidden_size": 32, "out_hidden_size": 64, "window_size": 56, "fullatt_block_indexes": [1]}
        config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=tower, **ids)
    else:
        tower |= {"hidden_size": 32, "out_hidden_size": 64, "deepstack_visual_indexes": [0, 1]}
        tower |= {"num_position_embeddings": 64}
        text |= {"head_dim": 16}
        config = transformers.Qwen3VLConfig(text_config=text, vision_config=tower, **ids)
    return config


def _smol(folder: Path, kind: str) -> Any:
    import transformers
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    names = ("<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>")
    names += tuple(f"<row_{row}_col_{col}>" for row in range(1, 4) for col in range(1, 4))
    tokenizer = tokenizer_of("<image>", names)
    # 32 pixels a side, patches of 8, merged by 2: 4 tokens a piece; pieces of a picture of 64 pixels, and a whole one
    maker = Idefics3ImageProcessorPil if kind == "idefics3" else SmolVLMImageProcessorPil
    images = maker(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}, do_image_splitting=True)
    tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)
    (folder / "processor_config.json").write_text('{"image_seq_len": 4}')
    text = {**TEXT, "model_type": "llama", "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    tower |= {"image_size": 32, "patch_size": 8}
    maker = transformers.Idefics3Config if kind == "idefics3" else transformers.SmolVLMConfig
    image = tokenizer.convert_tokens_to_ids("<image>")
    return maker(text_config=text, vision_config=tower, scale_factor=2, image_token_id=image, tie_word_embeddings=True)


def _gemma3(folder: Path, _: str) -> Any:
    import transformers
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    names = ("<start_of_image>", "<image_soft_token>", "<end_of_image>")
    tokenizer = tokenizer_of("<start_of_image>", names)
    start, image, end = tokenizer.convert_tokens_to_ids(list(names))
    tokenizer.init_kwargs["extra_special_tokens"] = {}
    extra = {"boi_token": names[0], "image_token": names[1], "eoi_token": names[2]}
    tokenizer = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer,
        eos_token="<end>",
        pad_token=tokenizer.pad_token,
        extra_special_tokens=extra,
        chat_template=tokenizer.chat_template,
    )
    tokenizer.save_pretrained(folder)
    Gemma3ImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    (folder / "processor_config.json").write_text('{"image_seq_length": 4}')
    text = {**TEXT, "vocab_size": len(tokenizer), "head_dim": 16, "sliding_window": 6, "eos_token_id": 0}
    text |= {"layer_types": ["sliding_attention", "full_attention"], "eos_token_id": tokenizer.eos_token_id}
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    tower |= {"image_size": 32, "patch_size": 8}
    ids = {"image_token_id": image, "boi_token_index": start, "eoi_token_index": end}
    return transformers.Gemma3Config(text_config=text, vision_config=tower, mm_tokens_per_image=4, **ids)


Maker = Callable[[Path, str], Any]
FAMILIES: Mapping[str, Maker] = {
    "qwen2_vl": _qwen,
    "qwen2_5_vl": _qwen,
    "qwen3_vl": _qwen,
    "smolvlm": _smol,
    "idefics3": _smol,
    "gemma3": _gemma3,
}


def write(folder: Path, family: str, *, families: Mapping[str, Maker] = FAMILIES, seed: int = 0) -> Path:
    """A model's folder, as the hub has them: weights, configs, tokenizer, processor."""
    from transformers import AutoModelForImageTextToText

    folder.mkdir(parents=True, exist_ok=True)
    config = families[family](folder, family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config)
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=0.3 if "embed" in name else weight[0].numel() ** -0.5)
    model.save_pretrained(folder)
    return folder
