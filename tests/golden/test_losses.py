"""No change in numbers, unless meant: ten losses of every preset, as they were."""

import json

import pytest

from groupwise import registry
from tests.golden.bigram import FILE, ten_losses


@pytest.mark.parametrize("name", list(registry.PRESETS))
def test_ten_losses_are_as_they_were(name):
    golden = json.loads(FILE.read_text())[name]
    losses = ten_losses(registry.load(registry.PRESETS, name))
    assert len(losses) == len(golden) == 10
    assert max(abs(a - b) for a, b in zip(losses, golden, strict=True)) < 1e-6
