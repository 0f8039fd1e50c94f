"""Tiny models of many families with weights large enough that every part of them matters; and a tokenizer for all.

Attention near uniform, or norms of 1 and biases of 0, would hide most mistakes.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast

from groupwise.model.loading import prepare
from groupwise.model.policy import Policy
from groupwise.model.template import Template
from groupwise.model.tokenizer import ChatTokenizer

_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
    "initializer_range": 0.2,
    "pad_token_id": 1,
    "bos_token_id": None,
    "eos_token_id": 2,
}
_GROUPED = _SIZES | {"num_key_value_heads": 2}
_GEMMA2 = _GROUPED | {
    "hidden_size": 48,  # not heads * head_dim, and a square root that is no whole number
    "head_dim": 16,
    "query_pre_attn_scalar": 10,
    "num_hidden_layers": 4,
    "final_logit_softcapping": 3.0,
    "attn_logit_softcapping": 4.0,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
_GEMMA3 = _GROUPED | {
    "hidden_size": 48,
    "head_dim": 16,
    "query_pre_attn_scalar": 10,
    "num_hidden_layers": 3,
    "sliding_window": 7,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
    },
}

FAMILIES: dict[str, PretrainedConfig] = {
    "llama": transformers.LlamaConfig(**_SIZES, num_key_value_heads=1, vocab_size=300, tie_word_embeddings=True),
    "qwen2": transformers.Qwen2Config(**_GROUPED, vocab_size=257, tie_word_embeddings=True),
    "qwen3": transformers.Qwen3Config(**_GROUPED, vocab_size=131, head_dim=24, tie_word_embeddings=False),
    "gemma2": transformers.Gemma2Config(**_GEMMA2, vocab_size=97, sliding_window=5),
    "gemma2_wide": transformers.Gemma2Config(**_GEMMA2, vocab_size=97, sliding_window=4096),
    "gemma3": transformers.Gemma3TextConfig(**_GEMMA3, vocab_size=120),
    "mistral": transformers.MistralConfig(**_GROUPED, vocab_size=150, sliding_window=6),
    "phi3": transformers.Phi3Config(**_GROUPED, vocab_size=101, sliding_window=None),
    "olmo2": transformers.Olmo2Config(**_GROUPED, vocab_size=140),
    "gpt_neox": transformers.GPTNeoXConfig(
        **_SIZES,
        vocab_size=110,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
    ),
}
"""SmolLM's shape (one key head for all, tied); biases; norms of queries and keys; caps on scores and logits with a
window smaller or larger than any test's text; two rotary bases; a window in every layer; one matrix for queries, keys
and values; norms after the blocks; rotation of a part, biases everywhere and parallel blocks."""


def model(config: PretrainedConfig, *, seed: int = 0) -> Any:
    """Random weights of a config, the same at each call: matrices of std 0.2, norms and biases 0.3 off their start."""
    made = transformers.AutoConfig.for_model(**config.to_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = AutoModelForCausalLM.from_config(made)
        with torch.no_grad():
            for weight in found.parameters():
                if weight.dim() == 1:
                    weight.add_(0.3 * torch.randn_like(weight))
    return found.eval()


def policy(family: str, *, precision: torch.dtype = torch.float32, matmul_backend: str = "auto") -> Policy:
    """The policy under test, its fast paths as they were found to work."""
    made = model(FAMILIES[family]).to(precision)
    tokens = tokenizer(FAMILIES[family].vocab_size)
    return prepare(made, tokens, device=torch.device("cpu"), precision=precision, matmul_backend=matmul_backend)


@cache
def tokenizer(size: int = 300) -> ChatTokenizer:
    """One character a token; 0, 1 and 2 are <unk>, <pad> and <end>, which ends an output."""
    special = ["<unk>", "<pad>", "<end>"]
    characters = [chr(code) for code in [*range(33, 127), *range(0x100, 0x250)]][: size - len(special)]
    backend = Tokenizer(models.WordLevel({text: n for n, text in enumerate([*special, *characters])}, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    backend.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<end>",
        clean_up_tokenization_spaces=False,
    )
    template = Template(end_tokens=frozenset({2}), bos=(), special=tuple(special), supports_system=True)
    return ChatTokenizer(source="tiny", tokenizer=wrapped, template=template, config=None, context=4096)


def ending_at(policy: Policy, *tokens: int) -> Policy:
    """The policy with other end tokens; with none, no output ends before its limit."""
    template = replace(policy.tokenizer.template, end_tokens=frozenset(tokens))
    return replace(policy, tokenizer=replace(policy.tokenizer, template=template))
