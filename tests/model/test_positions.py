"""Models with a table of positions: what they take, and what is said where one ends early."""

import pytest
import torch
from transformers import CamembertConfig, GPT2Config, OPTConfig, PretrainedConfig, RobertaConfig, XLMRobertaConfig

from groupwise.errors import ModelError
from groupwise.model.positions import require_positions
from groupwise.model.traits import context
from tests.equality import decoders

TEXT = [30, 41, 35, 52, 33, 48, 31, 60]


@pytest.mark.parametrize("kind", [CamembertConfig, GPT2Config, OPTConfig, RobertaConfig, XLMRobertaConfig])
def test_a_context_is_all_that_the_table_of_positions_holds(kind: type[PretrainedConfig]):
    model = decoders.model(decoders.small(kind))
    most = context(model.config)[0]
    row = torch.arange(most + 1)[None] % 50 + 30
    with torch.no_grad():
        assert model(row[:, :most], use_cache=False).logits.isfinite().all()
        with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
            model(row, use_cache=False)
    require_positions(model, "model.path = 'm'", TEXT, context=most)


def test_a_table_that_ends_before_the_context_is_refused_in_one_line():
    model = decoders.model(decoders.small(RobertaConfig))
    with pytest.raises(ModelError) as error:
        require_positions(model, "model.path = 'm'", TEXT, context=128)
    assert str(error.value) == (
        "model.path = 'm': positions of RobertaForCausalLM begin at row 2 of a table of 128, so that 126 tokens fit, "
        "and its config.json promises 128; choose another model"
    )
