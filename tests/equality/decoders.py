"""Every causal language model of the installed transformers, made small by rules on the names of its settings."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

VOCABULARY, LAYERS, HIDDEN = 97, 4, 32
_KEEP = ("rope_parameters", "rope_scaling", "id2label", "label2id", "compress_rates")
_DROP = ("model_type", "transformers_version", "architectures", "torch_dtype", "dtype", "_name_or_path")
_BY_NAME: tuple[tuple[int | float, str], ...] = (
    (VOCABULARY, "vocab_size n_tokens vocab_size_per_layer_input decoder_vocab_size"),
    (
        HIDDEN,
        "hidden_size d_model n_embd dim embedding_size word_embed_proj_dim emb_dim lru_width hidden_dim "
        "input_embedding_size output_embedding_size attention_hidden_size",
    ),
    (
        LAYERS,
        "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_decoder_layers "
        "num_encoder_layers num_blocks",
    ),
    (
        4,
        "num_attention_heads n_head n_heads decoder_attention_heads encoder_attention_heads num_heads "
        "num_decoder_attention_heads num_encoder_attention_heads linear_num_value_heads num_experts num_local_experts "
        "n_routed_experts moe_num_experts moe_num_primary_experts index_n_heads sliding_window attention_window_size "
        "window_size attention_chunk_size sliding_window_size floor_scale chunk_size "
        "mamba_chunk_size block_size swa_num_attention_heads",
    ),
    (
        2,
        "num_key_value_heads num_kv_heads linear_num_key_heads num_experts_per_tok num_experts_per_token moe_topk "
        "moe_k moe_top_k top_k_experts first_k_dense_replace swa_num_key_value_heads num_global_key_value_heads "
        "zero_expert_num",
    ),
    (1, "n_group topk_group n_shared_experts num_shared_experts mamba_n_groups n_groups"),
    (
        8,
        "head_dim v_head_dim qk_nope_head_dim qk_rope_head_dim linear_key_head_dim linear_value_head_dim "
        "index_head_dim global_head_dim d_head rotary_dim mamba_d_head mamba_n_heads mamba_d_state "
        "mamba_head_dim mamba_num_heads n_mamba_heads "
        "state_size ssm_state_size local_attention swa_head_dim swa_v_head_dim attention_head_size "
        "mamba_headdim mamba_ngroups v_head_size hidden_size_per_layer_input qk_head_dim kv_channels",
    ),
    (16, "q_lora_rank kv_lora_rank o_lora_rank altup_lora_rank mamba_dt_rank time_step_rank laurel_rank"),
    (
        48,
        "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim ffn_hidden_size n_inner d_inner dim_ff d_ff "
        "feed_forward_size moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size "
        "expert_ffn_hidden_size moe_shared_expert_intermediate_size intermediate_size_mlp moe_ffn_hidden_size",
    ),
    (64, "mamba_d_ssm mamba_intermediate_size"),
    (
        128,
        "max_position_embeddings n_positions n_ctx max_source_positions max_target_positions max_seq_len "
        "context_length",
    ),
    (0.2, "initializer_range init_std"),
)
_SIZES = {name: size for size, names in _BY_NAME for name in names.split()}
_PLACES = {
    *("sliding_window", "attention_window_size", "window_size", "attention_chunk_size", "sliding_window_size"),
    *("floor_scale", "local_attention"),
}
_FAR = 64  # tokens: longer than what is tried, shorter than the context
_ROLES = {"pad_token_id": 1, "eos_token_id": 2, "bos_token_id": 0, "decoder_start_token_id": 0, "is_decoder": True}
_OWN: dict[str, dict[str, Any]] = {
    "GPTNeoConfig": {"attention_types": [[["global", "local"], 2]], "attention_layers": ["global", "local"] * 2},
    "XLMConfig": {"causal": True},
    "XLNetConfig": {"n_head": 4, "d_head": 8},
    "ReformerConfig": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"] * 2, "num_buckets": 4},
    "Mamba2Config": {"num_heads": 8, "head_dim": 8},
    "Lfm2Config": {"layer_types": ["conv", "full_attention"] * 2},
    "Lfm2MoeConfig": {"layer_types": ["conv", "full_attention"] * 2},
    "JambaConfig": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "XmodConfig": {"default_language": "en_XX"},
    "Gemma3nTextConfig": {"layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 0},
    "Gemma4TextConfig": {"per_layer_config": None, "num_kv_shared_layers": 0},
    "Gemma4UnifiedTextConfig": {"per_layer_config": None},
    "DeepseekV2Config": {"num_experts_per_tok": 2},
    "Dots1Config": {"n_shared_experts": 1},
    "NemotronConfig": {"num_key_value_heads": 2},
    "LongcatFlashConfig": {"qk_head_dim": 16, "head_dim": 8},
    "ZayaConfig": {"num_experts_per_tok": 1},
    "Qwen4ExpTextConfig": {"num_key_value_heads": 2},
}


def configs() -> Iterator[type]:
    """Each config class behind which AutoModelForCausalLM has a model, once."""
    yield from dict.fromkeys(AutoModelForCausalLM._model_mapping.keys())


def small(kind: type, *, far: bool = False) -> Any:
    """A config of the kind with a few thousand weights, its windows and chunks of a few tokens.

    far: windows and chunks are longer than what is tried, and weights as small as transformers draws them.
    """
    settings = kind().to_dict()
    made = _small(settings) | _OWN.get(kind.__name__, {})
    calm = {name: settings[name] for name in ("initializer_range", "init_std") if name in settings}
    away = {name: _FAR for name in _PLACES if made.get(name) == _SIZES[name]}
    return kind(**(made | calm | away if far else made))


def model(config: Any, *, seed: int = 0, spread: float = 0.3) -> Any:
    """Random weights of a config, the same at each call; norms and biases so far off their start.

    Raises ValueError if the rules did not make it small.
    """
    with torch.device("meta"):
        weights = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    if weights > 15e6:
        raise ValueError(f"{weights:,} weights")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        made: nn.Module = AutoModelForCausalLM.from_config(config)
        for weight in made.parameters():
            if weight.dim() == 1:
                weight.add_(spread * torch.randn_like(weight))
    return made.eval()


def _small(settings: Mapping[str, Any]) -> dict[str, Any]:
    layers = next(
        (settings[name] for name in ("num_hidden_layers", "n_layer", "decoder_layers") if name in settings), 0
    )
    found = {name: _value(name, value, layers) for name, value in settings.items() if name not in _DROP}
    if "kv_lora_rank" in found:  # latent attention has a key for every head
        found["num_key_value_heads"] = found["num_attention_heads"]
    return found


def _value(name: str, value: Any, layers: Any) -> Any:
    if name in _KEEP or (isinstance(value, bool) and name != "is_decoder"):
        return value
    if isinstance(value, Mapping):
        return _of_layers(value) if _is_by_layer(value) else _small(value)
    if isinstance(value, list) and layers and len(value) == layers:
        kinds = list(dict.fromkeys(value)) if isinstance(value[0], str) else value
        return (list(kinds) * LAYERS)[:LAYERS]
    if name in _ROLES:
        return _ROLES[name] if value is not None else None
    if name == "head_dim" or (isinstance(value, int | float) and value > 0):
        return _SIZES.get(name, value)
    return value


def _is_by_layer(value: Mapping[Any, Any]) -> bool:
    return bool(value) and all(isinstance(key, int) for key in value)


def _of_layers(value: Mapping[Any, Any]) -> dict[Any, Any]:
    """Settings of single layers, those of the first one on the last."""
    first: Any = next(iter(value.values()))
    return {LAYERS - 1: _small(first) if isinstance(first, Mapping) else first}
