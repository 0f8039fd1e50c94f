"""Small random models of many families, their weights large enough that context matters; and uneven outputs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PretrainedConfig

from groupwise.config import ModelConfig
from groupwise.data import Group, Message, Output, Question, Reward, Sample
from groupwise.model.batch import Rollouts
from groupwise.model.builtin import TINY_CHARACTERS
from groupwise.model.loading import load_policy
from groupwise.model.policy import Policy
from groupwise.model.tokenizer import ChatTokenizer, load_tokenizer

VOCABULARY = 6 + len(TINY_CHARACTERS)  # as the built-in tiny model, whose tokenizer stands before every model here
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 1,
    "bos_token_id": None,
    "eos_token_id": 2,
}
GROUPED = _SIZES | {"num_key_value_heads": 2}
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}

SHARING: dict[str, PretrainedConfig] = {
    "llama": transformers.LlamaConfig(**GROUPED),
    "qwen2": transformers.Qwen2Config(**GROUPED),
    "qwen3": transformers.Qwen3Config(**GROUPED, head_dim=8),
    "mistral": transformers.MistralConfig(**GROUPED, sliding_window=None),
    "granite": transformers.GraniteConfig(**GROUPED, logits_scaling=3.0),
    "gpt2": transformers.GPT2Config(**_GPT2, initializer_range=0.3, bos_token_id=None, eos_token_id=2),
    "gpt_neox": transformers.GPTNeoXConfig(**_SIZES),
    "mistral_window": transformers.MistralConfig(**GROUPED, sliding_window=4),
    "gemma2": transformers.Gemma2Config(
        **GROUPED, head_dim=8, sliding_window=4, final_logit_softcapping=5.0, attn_logit_softcapping=5.0
    ),
    "gemma3": transformers.Gemma3TextConfig(**GROUPED, head_dim=8, sliding_window=4),
}
"""Models that may compute a group's question once."""

NOT_SHARING: dict[str, PretrainedConfig] = {
    "bloom": transformers.BloomConfig(
        vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3, bos_token_id=None
    ),
    "gptj": transformers.GPTJConfig(**_GPT2, rotary_dim=4, initializer_range=0.3, bos_token_id=None, eos_token_id=2),
}
"""Models that may not: no positions of the tokens, or attention of their own."""

RECURRENT = transformers.RecurrentGemmaConfig(**GROUPED, attention_window_size=64, lru_width=32)


def policy_of(config: PretrainedConfig, folder: Path, tiny_folder: Path, *, seed: int = 0) -> Policy:
    """Random weights of a config, saved and loaded as a user's model is, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return load_policy(ModelConfig(path=str(folder), device="cpu"), tokenizer_for(folder, tiny_folder))


def tokenizer_for(folder: Path, tiny_folder: Path) -> ChatTokenizer:
    """The tiny model's tokenizer before the weights of another folder."""
    return dataclasses.replace(load_tokenizer(ModelConfig(path=str(tiny_folder))), source=str(folder))


def rollouts(
    questions: Sequence[int], sizes: Sequence[int], *, longest: int = 9, seed: int = 0, device: Any = "cpu"
) -> Rollouts:
    """Random tokens: groups with questions of so many tokens and so many outputs of 1 to `longest` tokens each."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (count,), generator=generator).tolist()

    groups = []
    for question, size in zip(questions, sizes, strict=True):
        asked = draw(question)
        lengths = torch.randint(1, longest + 1, (size,), generator=generator).tolist()
        groups.append([output(asked, draw(length)) for length in lengths])
    return Rollouts.of([group(outputs, [0.0] * len(outputs)) for outputs in groups], device)


def output(question: Sequence[int], tokens: Sequence[int], **changed: Any) -> Output:
    """An output of these tokens, all sampled, that ended by itself."""
    made: dict[str, Any] = {
        "question_tokens": torch.tensor(list(question)).numpy(),
        "tokens": torch.tensor(list(tokens), dtype=torch.long).numpy(),
        "sampled": torch.ones(len(tokens), dtype=torch.bool).numpy(),
        "logprobs": torch.zeros(len(tokens)).numpy(),
        "text": "",
        "finish": "stop",
    }
    return Output(**(made | changed))


def group(outputs: Sequence[Output], rewards: Sequence[float | None]) -> Group:
    """A group of outputs with their rewards."""
    samples = tuple(Sample(made, Reward(value)) for made, value in zip(outputs, rewards, strict=True))
    return Group(Question("q", (Message("user", "?"),)), samples)


def with_gaps(mask: torch.Tensor) -> torch.Tensor:
    """The mask without every third column: a tool's words among the drawn tokens."""
    return mask & (torch.arange(mask.shape[1]) % 3 != 1)
