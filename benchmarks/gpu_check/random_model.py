"""A random model of SmolLM2-135M's shape, and a tokenizer with a word for each of its 49,152 ids."""

import json
from pathlib import Path

SIZES = {
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "vocab_size": 49152},
    "shallow": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 9,
                "num_key_value_heads": 3, "vocab_size": 49152},
    "tiny": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6,
             "num_key_value_heads": 2, "vocab_size": 512},
}  # fmt: skip
"""`shallow`: where many steps count and not their size."""
SPREAD = 0.06  # of the weights: wide enough that the context decides what is likely


def write_model(folder: Path, size: str, *, device: str) -> Path:
    """The model's folder, in Hugging Face's form."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from groupwise.model.builtin import tiny

    target = folder / size
    if (target / "config.json").exists():
        return target
    tokenizer = AutoTokenizer.from_pretrained(tiny())
    tokenizer.save_pretrained(target)
    vocabulary_size = SIZES[size]["vocab_size"]
    file = target / "tokenizer.json"
    held = json.loads(file.read_text())
    vocabulary = held["model"]["vocab"]
    vocabulary |= {f"<{number}>": number for number in range(len(vocabulary), vocabulary_size)}
    file.write_text(json.dumps(held))
    torch.manual_seed(0)
    config = LlamaConfig(
        **SIZES[size],
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        initializer_range=SPREAD,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.device(device):
        model = LlamaForCausalLM(config)
    model.save_pretrained(target)
    return target
