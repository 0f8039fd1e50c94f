"""What configs say of positions and experts."""

from typing import Any

import pytest
from transformers import (
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen3MoeConfig,
    RobertaConfig,
    XLMRobertaConfig,
    XLNetConfig,
)

from groupwise.model.traits import context, routes_tokens

LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 8,
    "long_factor": [3.0] * 8,
    "original_max_position_embeddings": 12,
}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 12}
PHI = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96}


@pytest.mark.parametrize(
    ("config", "tokens", "kind"),
    [
        (Phi3Config(**PHI, original_max_position_embeddings=12, pad_token_id=0, rope_parameters=LONG), 12, "longrope"),
        (LlamaConfig(**PHI, rope_parameters=LONG), 12, "longrope"),
        (LlamaConfig(**PHI, rope_parameters={"sliding_attention": LINEAR, "full_attention": LONG}), 12, "longrope"),
        (LlamaConfig(**PHI, rope_parameters=LONG | {"original_max_position_embeddings": 96}), 96, ""),
        (LlamaConfig(**PHI, rope_parameters=YARN), 96, ""),
        (LlamaConfig(**PHI, rope_parameters=LINEAR | {"rope_type": "dynamic"}), 96, ""),
        (GPT2Config(n_positions=77), 77, ""),
        (OPTConfig(max_position_embeddings=77), 77, ""),  # its table has two rows more
        (RobertaConfig(max_position_embeddings=77, pad_token_id=1), 75, ""),
        (XLMRobertaConfig(max_position_embeddings=77, pad_token_id=4), 72, ""),
        (XLNetConfig(), 2**31, ""),
    ],
)
def test_the_context_ends_where_the_longest_row_would_turn_the_others(config: PretrainedConfig, tokens: int, kind: str):
    found, why = context(config)
    assert found == tokens
    assert bool(why) == bool(kind)
    assert kind in why


@pytest.mark.parametrize(
    ("config", "routes"), [(LlamaConfig(), False), (MixtralConfig(), True), (Qwen3MoeConfig(), True)]
)
def test_a_router_is_seen_in_the_config(config: Any, routes: bool):
    assert routes_tokens(config) is routes
