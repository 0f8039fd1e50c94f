"""Classifiers of transformers' own making, with the tiny model's tokenizer before them; and readings to give them."""

import dataclasses
from pathlib import Path

import torch
import transformers
from transformers import PretrainedConfig

from groupwise.config import ModelConfig
from groupwise.data import Message
from groupwise.model.policy import Policy
from groupwise.model.reading import Reading
from groupwise.model.reward_model import Kind, load_classifier
from groupwise.model.tokenizer import load_tokenizer
from tests.model import build

ENCODER = transformers.BertConfig(
    vocab_size=build.VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=128,
    initializer_range=0.3,
    pad_token_id=1,
)


def saved(config: PretrainedConfig, kind: Kind, folder: Path, tiny_folder: Path, *, labels: int | None = None) -> Path:
    """Folder of a classifier with random weights, as transformers saves it, and the tiny model's tokenizer."""
    config = type(config).from_dict(config.to_dict() | {"num_labels": labels or kind.labels})
    if config.pad_token_id is None:
        config.pad_token_id = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"AutoModel{kind.ending}").from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(("score", "classifier")):
                weight.copy_(torch.linspace(-1, 1, weight.numel()).view_as(weight))
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    return folder


def classifier(
    config: PretrainedConfig, kind: Kind, folder: Path, tiny_folder: Path, *, labels: int | None = None
) -> Policy:
    """Such a classifier, loaded as a user's is."""
    saved(config, kind, folder, tiny_folder, labels=labels)
    model = ModelConfig(path=str(folder), device="cpu")
    tokenizer = dataclasses.replace(load_tokenizer(model))
    return load_classifier(model, tokenizer, kind=kind)


def plain(policy: Policy, readings: list[Reading]) -> torch.Tensor:
    """Logits at every place by transformers' own forward pass, padded on the right."""
    width = max(len(reading.tokens) for reading in readings)
    padding = policy.model.config.pad_token_id
    ids = torch.tensor([[*reading.tokens, *[padding] * (width - len(reading.tokens))] for reading in readings])
    lengths = torch.tensor([len(reading.tokens) for reading in readings])
    logits = policy.model(input_ids=ids, attention_mask=(torch.arange(width) < lengths[:, None]).long()).logits
    if logits.dim() == 2:
        return logits
    return torch.cat([logits[row, list(reading.places)] for row, reading in enumerate(readings)])


def random_groups(*, places: int, seed: int = 0) -> list[list[Reading]]:
    """Groups that begin alike, with answers of uneven lengths, read at their last tokens or at several."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int) -> list[int]:
        return torch.randint(3, build.VOCABULARY, (count,), generator=generator).tolist()

    groups = []
    for question, lengths in ((6, (4, 9)), (2, (1, 3)), (11, (7, 2))):
        asked = draw(question)
        group = []
        for length in lengths:
            end = question + length - 1
            asked_at = sorted({*range(question, end + 1, 3), end}) if places > 1 else [end]
            group.append(Reading((*asked, *draw(length)), tuple(asked_at)))
        groups.append(group)
    return groups


PROMPT = (Message("user", "47>"),)
