"""The tokenizer's ids beside the model's: more tokens than rows of the embedding, or more rows than tokens."""

from typing import TYPE_CHECKING, Any

import torch

from groupwise.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


def check_vocabulary(
    tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", *, resize: bool, where: str
) -> None:
    """Raises ModelError if the tokenizer has ids that the model has no embedding for, and none is to be made."""
    rows, ids = getattr(config.get_text_config(decoder=True), "vocab_size", None), tokenizer.get_vocab()
    beyond = sorted((index, token) for token, index in ids.items() if rows is not None and index >= rows)
    if beyond and not resize:
        raise ModelError(
            f"{where}: the tokenizer has {len(beyond)} tokens that the embedding of {rows:,} rows lacks, "
            f"{beyond[0][1]!r} (id {beyond[0][0]}) for one",
            hint="model.resize_embeddings=true adds rows for them; or use the tokenizer that belongs to the model",
        )


@torch.no_grad()
def add_rows(model: Any, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Rows of the embedding and the last layer for every id of the tokenizer; new ones are the mean of the others."""
    before, wanted = model.get_input_embeddings().weight.shape[0], max(tokenizer.get_vocab().values()) + 1
    if wanted <= before:
        return
    model.resize_token_embeddings(wanted, mean_resizing=False)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        for weight in (layer.weight, getattr(layer, "bias", None)):
            if weight is not None:
                weight[before:] = weight[:before].mean(0)


def lacking_ids(tokenizer: "PreTrainedTokenizerBase", rows: int) -> torch.Tensor | None:
    """Ids below `rows` that are no token of the tokenizer's, [n]: padding of the embedding, which nothing may draw.

    None if there are none."""
    known = set(tokenizer.get_vocab().values())
    lacking = [index for index in range(rows) if index not in known]
    return torch.tensor(lacking) if lacking else None
