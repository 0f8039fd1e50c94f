"""The example of a user's own loss: what it is between `clip` and no clip, and that a recipe trains with it."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

from groupwise.objective.losses import clip
from groupwise.objective.small_batch import batch
from groupwise.objective.surrogate import called
from groupwise.recipe_file import read_tree
from tests.close import close
from tests.command import SMALL, groupwise
from tests.project.sources import ROOT

FILE = ROOT / "examples" / "own_loss.py"


@pytest.fixture(scope="module")
def leaky_clip():
    spec = importlib.util.spec_from_file_location("own_loss", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.leaky_clip


def slopes(loss, inputs, **parameters):
    at = inputs["logprobs"].clone().requires_grad_()
    values = called(loss, {**inputs, **parameters, "logprobs": at})
    return values.detach(), torch.autograd.grad(values.sum(), at)[0]


def test_without_a_leak_it_is_clip_and_with_a_whole_one_nothing_is_clipped(leaky_clip):
    inputs, bounds = batch(), {"clip_low": 0.2, "clip_high": 0.28}
    for leak, limit in ((0.0, bounds), (1.0, {"clip_low": 1e9, "clip_high": 1e9})):
        for found, expected in zip(
            slopes(leaky_clip, inputs, leak=leak, **bounds), slopes(clip, inputs, **limit), strict=True
        ):
            close(found, expected)


def test_past_its_bound_a_token_keeps_a_share_of_its_gradient(leaky_clip):
    # ratio 1.5, A = 2: 1.28 + 0.1 * 0.22 = 1.302; d/dlogp of 0.1 ratio A is 0.3
    one = torch.ones(1, 1, dtype=torch.float64)
    inputs = {"logprobs": one * 0, "old_logprobs": -(1.5 * one).log(), "advantages": 2 * one, "mask": one > 0}
    values, gradient = slopes(leaky_clip, inputs)
    close(values, [[-2 * 1.302]])
    close(gradient, [[-0.3]])


def test_every_contract_is_shown_and_one_that_fails_is_told_with_numbers(tmp_path):
    done = groupwise("list", "losses", "--check", f"{FILE}:leaky_clip", "leak=0.5")
    assert (done.code, done.out.count("\n"), done.out.count("ok ")) == (0, 11, 11)
    own = tmp_path / "own.py"
    own.write_text("def f(logprobs, advantages, mask, *, alpha):\n    return -alpha * advantages * logprobs\n")
    done = groupwise("list", "losses", "--check", f"{own}:f", "alpha=2")
    assert done.code == 1
    assert "fails  is 0 outside the mask and reads nothing there, nan included: outside the mask: output 0" in done.out
    for words, told in (
        ([], "needs 'alpha', which has no default; add alpha=VALUE"),
        (["alpha=1", "beta=2"], "beta: .* has no such parameter; choose from: alpha"),
    ):
        done = groupwise("list", "losses", "--check", f"{own}:f", *words)
        assert done.code == 2
        assert re.search(told, done.err)


def test_a_recipe_trains_with_a_loss_that_lies_beside_it(tmp_path, tiny_folder, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "own_loss.py").write_text(FILE.read_text())
    text = (ROOT / "recipes" / "tiny.yaml").read_text()
    (folder / "recipe.yaml").write_text(
        text.replace("  preset: grpo\n", "  preset: grpo\n  loss: own_loss.py:leaky_clip\n")
    )
    monkeypatch.chdir(tmp_path)
    assert read_tree(Path("mine/recipe.yaml"))["objective"]["loss"] == "mine/own_loss.py:leaky_clip"
    words = ("update.steps=1", "questions.heldout_size=0", "objective.params.leak=0.3")
    done = groupwise("train", "mine", f"model.path={tiny_folder}", *SMALL, *words, "--run", "run")
    assert done.code == 0, done.err
