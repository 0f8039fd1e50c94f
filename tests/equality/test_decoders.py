"""Decoders of the kinds that are hardest to compute fast: each is computed right; `make models` walks all of them."""

import logging

import pytest
from transformers import BertConfig, Phi3Config, XLMConfig

from groupwise.errors import ModelError
from groupwise.model.traits import context
from tests.equality import decoders, walk
from tests.equality.walk import Way
from tests.project.sources import ROOT

HARDEST = {
    "Gemma3Text": Way("stream", "shared"),
    "GptOss": Way("rows", "plain"),
    "InklingText": Way("rows, whole logits", "plain"),
    "Lfm2": Way("rows", "plain"),
    "Mamba": Way("rows", "level"),
    "MBart": Way("rows", "level"),
    "ModernBertDecoder": Way("rows, whole logits", "plain"),
    "OpenAIGPT": Way("rows", "none"),
}
"""Windows and two rotary bases; sinks in the softmax; logits of another scale; short convolutions; a recurrence; no use
of positions; a decoder without states; no cache."""
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 24,
}


@pytest.mark.parametrize("name", HARDEST)
def test_a_decoder_is_computed_as_a_pass_over_one_row(name: str):
    kind = next(kind for kind in decoders.configs() if kind.__name__ == f"{name}Config")
    policy, engine = walk.loaded(decoders.small(kind))
    assert Way.of(policy, engine) == HARDEST[name]
    found = walk.errors(policy, engine)
    assert found.small, found


def test_what_takes_a_padding_token_for_a_missing_one_is_refused_for_that():
    with pytest.raises(ModelError, match="XLMWithLMHeadModel takes a padding token inside a text for one that is miss"):
        walk.loaded(decoders.small(XLMConfig))


def test_what_looks_ahead_is_refused_in_one_line():
    config = BertConfig(**decoders.small(BertConfig).to_dict() | {"is_decoder": False})
    with pytest.raises(ModelError, match="the logits of BertLMHeadModel depend on later tokens") as error:
        walk.loaded(config)
    assert "\n" not in str(error.value)


def test_rotary_positions_that_change_for_a_whole_call_are_right_up_to_there():
    # questions of 17 tokens at most with outputs of 12: past 24 tokens every row would have the other angles
    settings = decoders.small(Phi3Config).to_dict() | {"original_max_position_embeddings": 24, "rope_parameters": LONG}
    config = Phi3Config(**settings)
    assert context(config)[0] == 24
    policy, engine = walk.loaded(config)
    assert not walk.errors(policy, engine).small
    short = walk.errors(policy, engine, lengths=(5, 1, 12))
    assert short.small, short


def test_the_loaded_weights_are_as_before(caplog: pytest.LogCaptureFixture):
    kind = next(kind for kind in decoders.configs() if kind.__name__ == "Gemma2Config")
    with caplog.at_level(logging.ERROR):
        policy, _ = walk.loaded(decoders.small(kind))
    untouched = decoders.model(decoders.small(kind)).state_dict()
    assert all(weight.equal(untouched[name]) for name, weight in policy.model.state_dict().items())


def test_the_document_has_the_table_of_this_code():
    lines = (ROOT / "docs" / "models.md").read_text().splitlines()
    table = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    for name, way in HARDEST.items():
        assert f"| {way.training} | {way.sampling} |" in table[name]
    assert not any("WRONG" in line for line in lines)
