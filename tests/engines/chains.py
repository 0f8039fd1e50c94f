"""Policies that say one fixed token after another, so that how an output ends can be tested by hand."""

from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from groupwise.config import ModelConfig
from groupwise.model.loading import load_policy
from groupwise.model.policy import Policy
from groupwise.model.tokenizer import ChatTokenizer
from tests.model.build import tokenizer_for


def text_chain(text: str, folder: Path, tiny_folder: Path) -> Policy:
    """After each character of a text of distinct ones the next, after the last the first."""
    tokenizer = tokenizer_for(folder, tiny_folder)
    ids = tokenizer.tokenizer(text, add_special_tokens=False)["input_ids"]
    return _chain(ids, folder, tokenizer)


def byte_chain(text: str, folder: Path, tiny_folder: Path) -> Policy:
    """The same with one token a byte, of a text of distinct bytes, and an end token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={character: index for index, character in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    made = replace(tokenizer_for(folder, tiny_folder), tokenizer=tokenizer)
    return _chain(tokenizer(text)["input_ids"], folder, made)


def _chain(ids: list[int], folder: Path, tokenizer: ChatTokenizer) -> Policy:
    assert len(set(ids)) == len(ids)
    size = len(tokenizer.tokenizer)
    width = -(-size // 8) * 8
    config = LlamaConfig(
        vocab_size=size, hidden_size=width, intermediate_size=4, num_hidden_layers=1, num_attention_heads=4,
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.zero_()  # attention and feed-forward add nothing: a token's state is its own unit vector
        model.model.embed_tokens.weight[:, :size] = torch.eye(size)
        for token, following in zip(ids, [*ids[1:], ids[0]], strict=True):
            model.lm_head.weight[following, token] = 100.0
    model.save_pretrained(folder)
    return load_policy(ModelConfig(path=str(folder), device="cpu"), tokenizer)
