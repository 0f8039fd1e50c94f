"""More small models that read pictures, beside those of tests/model/vision.py; for the table alone."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import transformers

from tests.model.vision import TEXT, tokenizer_of

SIGLIP = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
SIGLIP |= {"image_size": 32, "patch_size": 8}


def _llava(folder: Path, kind: str) -> Any:
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    tokenizer = tokenizer_of("<image>", ("<image>",))
    size: dict[str, Any] = {"size": {"height": 32, "width": 32}, "crop_size": {"height": 32, "width": 32}}
    pins = [[32, 64], [64, 32], [64, 64]]
    if kind == "llava":
        images, config = LlavaImageProcessorPil(**size), transformers.LlavaConfig
        more: dict[str, Any] = {}
    else:
        size["size"] = {"shortest_edge": 32}
        images, config = LlavaNextImageProcessorPil(image_grid_pinpoints=pins, **size), transformers.LlavaNextConfig
        more = {"image_grid_pinpoints": pins}
    tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)
    chosen = {"vision_feature_select_strategy": "default"}
    settings = {"patch_size": 8, "num_additional_image_tokens": 1, **chosen}
    (folder / "processor_config.json").write_text(json.dumps(settings))
    return config(
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(tokenizer), "eos_token_id": 2},
        vision_config={**SIGLIP, "model_type": "clip_vision_model", "projection_dim": 32},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        **chosen,
        **more,
    )


def _paligemma(folder: Path, _: str) -> Any:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    tokenizer = tokenizer_of("<image>", ("<image>",), image_token="<image>")
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)
    text = {**TEXT, "model_type": "gemma", "vocab_size": len(tokenizer) + 1200, "head_dim": 16, "eos_token_id": 2}
    tower = {**SIGLIP, "projection_dim": 64, "model_type": "siglip_vision_model"}
    image = tokenizer.convert_tokens_to_ids("<image>")
    return transformers.PaliGemmaConfig(
        text_config=text, vision_config=tower, image_token_index=image, projection_dim=64
    )


def _pixtral(folder: Path, _: str) -> Any:
    from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

    names = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    tokenizer = tokenizer_of("[IMG]", names)
    tokenizer.save_pretrained(folder)
    PixtralImageProcessorPil(size={"longest_edge": 64}, patch_size={"height": 16, "width": 16}).save_pretrained(folder)
    settings = {"patch_size": 8, "spatial_merge_size": 2, "image_token": "[IMG]", "processor_class": "PixtralProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(settings))
    tower = {"model_type": "pixtral", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 2, "image_size": 64, "patch_size": 8, "head_dim": 16}
    return transformers.Mistral3Config(
        text_config={**TEXT, "model_type": "mistral", "vocab_size": len(tokenizer), "head_dim": 16, "eos_token_id": 2},
        vision_config=tower,
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
        vision_feature_layer=-1,
    )


def _glm4v(folder: Path, _: str) -> Any:
    from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil

    names = (
        "<|begin_of_image|>",
        "<|end_of_image|>",
        "<|image|>",
        "<|video|>",
        "<|begin_of_video|>",
        "<|end_of_video|>",
    )
    tokenizer = tokenizer_of("<|begin_of_image|><|image|><|end_of_image|>", names)
    tokenizer.save_pretrained(folder)
    size = {"shortest_edge": 28 * 28, "longest_edge": 64 * 14 * 14}
    Glm4vImageProcessorPil(patch_size=14, size=size).save_pretrained(folder)
    start, end, image, video, first, last = tokenizer.convert_tokens_to_ids(list(names))
    tower = {"depth": 2, "hidden_size": 32, "num_heads": 2, "patch_size": 14, "out_hidden_size": 64, "image_size": 56}
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 2, 4], "partial_rotary_factor": 1.0}
    return transformers.Glm4vConfig(
        text_config={**TEXT, "vocab_size": len(tokenizer), "rope_parameters": rope, "eos_token_id": 2},
        vision_config={**tower, "intermediate_size": 48},
        image_token_id=image,
        video_token_id=video,
        image_start_token_id=start,
        image_end_token_id=end,
        video_start_token_id=first,
        video_end_token_id=last,
    )


def _qwen_later(folder: Path, kind: str) -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    names = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = tokenizer_of("<|vision_start|><|image_pad|><|vision_end|>", names)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=16, min_pixels=1024, max_pixels=16_384).save_pretrained(folder)
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(names))
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 2, 4], "mrope_interleaved": True}
    text = {**TEXT, "vocab_size": len(tokenizer), "rope_parameters": rope, "eos_token_id": 2, "head_dim": 16}
    tower = {"depth": 2, "num_heads": 2, "patch_size": 16, "intermediate_size": 48, "hidden_size": 32}
    tower |= {"out_hidden_size": 64, "num_position_embeddings": 64}
    ids = {"image_token_id": image, "video_token_id": video, "vision_start_token_id": start, "vision_end_token_id": end}
    if kind == "qwen3_vl_moe":
        text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
        tower |= {"deepstack_visual_indexes": [0]}
        return transformers.Qwen3VLMoeConfig(text_config=text, vision_config=tower, **ids)
    text |= {"layer_types": ["linear_attention", "full_attention"], "linear_num_value_heads": 4}
    text |= {"linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
    text["rope_parameters"] = {**rope, "partial_rotary_factor": 1.0}
    return transformers.Qwen3_5Config(text_config=text, vision_config=tower, **ids)


FAMILIES: Mapping[str, Callable[[Path, str], Any]] = {
    "llava": _llava,
    "llava_next": _llava,
    "mistral3": _pixtral,
    "glm4v": _glm4v,
    "qwen3_vl_moe": _qwen_later,
    "qwen3_5": _qwen_later,
    "paligemma": _paligemma,
}
