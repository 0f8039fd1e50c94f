"""A resumed run computes by what the run began with, where the machine lets it."""

import json

import pytest
import torch

from groupwise.model import layer_choice, loading
from groupwise.model.layer_kernels import layer_kernels
from groupwise.run.computed import as_before
from tests.command import RECIPE, SMALL, groupwise
from tests.model import build
from tests.model.test_layer_choice import ALIKE

pytestmark = pytest.mark.skipif(
    layer_kernels() is None or not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="nothing to choose from"
)


def test_a_resumed_run_keeps_its_products_and_tells_of_layers_that_it_cannot(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setattr(loading, "products_for", lambda model, device: "onednn")
    words = (f"model.path={tiny_folder}", "model.device=cpu", *SMALL, "questions.heldout_size=0", "--run")
    done = groupwise("train", RECIPE, *words, tmp_path / "run", "update.steps=1")
    assert done.code == 0, done.err
    (state,) = (tmp_path / "run" / "checkpoints" / "step-000001").glob("*state*.json")
    assert {"matmul_backend": "onednn", "whole_layers": [0, 1]}.items() <= json.loads(state.read_text()).items()

    def never(model, device):
        raise AssertionError("chosen anew")

    monkeypatch.setattr(loading, "products_for", never)
    monkeypatch.setattr(layer_choice, "layer_kernels", lambda: None)
    done = groupwise("train", "--run", tmp_path / "run", "--resume", "update.steps=2")
    assert done.code == 0, done.err
    assert "2 layers cannot be computed as a whole here" in done.err


def test_layers_that_the_run_computed_by_their_modules_stay_so(tmp_path, tiny_folder):
    resumed = build.policy_of(ALIKE["llama"], tmp_path, tiny_folder)
    as_before(resumed, {"whole_layers": [1], "microbatch_limit": 7}, 9)
    assert list(resumed.whole_layers) == [1]
    assert resumed.microbatch_limit == 7
    as_before(resumed, {}, 9)
    assert list(resumed.whole_layers) == [1]
    assert resumed.microbatch_limit == 9
