"""On an accelerator: every kind of run does its steps, in bf16, and goes on from its checkpoint, there and on a CPU."""

import math
from contextlib import closing

import pytest

from groupwise.record import open_record
from tests.command import RECIPE, SMALL, groupwise
from tests.project.sources import ROOT

pytestmark = pytest.mark.gpu
RECIPES = ROOT / "recipes"
FEW = ("examples.per_step=4", "update.steps=2")
ALWAYS = ("grad_norm", "entropy", "sampler/gap_mean", "length/mean")
"""Metrics that are numbers in every step; a critic's explained variance, for one, may be nan."""
RUNS = {
    "reference": (RECIPE, (*SMALL, "objective.kl_coef=0.1")),
    "adapters": (RECIPE, (*SMALL, "model.lora.rank=4", "objective.kl_coef=0.1")),
    "critic": (RECIPES / "presets" / "ppo.yaml", SMALL),
    "critic_on_the_policy": (RECIPES / "presets" / "a2c.yaml", SMALL),
    "teacher": (RECIPES / "presets" / "distill.yaml", SMALL),
    "layers_computed_twice": (RECIPE, (*SMALL, "update.activation_checkpointing=layers")),
    "products_kept": (RECIPE, (*SMALL, "update.activation_checkpointing=cheap")),
}


def run(words, folder, *, device):
    done = groupwise("train", *words, f"model.device={device}", "model.precision=bf16", "--run", folder)
    assert done.code == 0, done.err
    with closing(open_record(folder)) as record:
        metrics = record.metrics()
    told = [value for _, name, value in metrics if name in ALWAYS]
    assert told
    assert all(value is not None and math.isfinite(value) for value in told)
    return metrics


@pytest.mark.parametrize("name", list(RUNS))
def test_a_run_does_its_steps(name, tmp_path, tiny_folder, accelerator):
    if name == "adapters":
        pytest.importorskip("peft")
    recipe, own = RUNS[name]
    metrics = run((recipe, *own, f"model.path={tiny_folder}"), tmp_path / "run", device=accelerator)
    assert {step for step, _, _ in metrics} == {0, 1, 2, 3}
    # a teacher with the student's weights teaches nothing
    assert name == "teacher" or any(value for _, metric, value in metrics if metric == "grad_norm")


def test_a_checkpoint_goes_on_on_both(tmp_path, tiny_folder, accelerator):
    folder = tmp_path / "run"
    run((RECIPE, *SMALL, f"model.path={tiny_folder}", "update.steps=2"), folder, device=accelerator)
    for steps, device in ((3, accelerator), (4, "cpu")):
        done = groupwise("train", "--run", folder, "--resume", f"update.steps={steps}", f"model.device={device}")
        assert done.code == 0, done.err


@pytest.mark.parametrize("recipe", ["sft", "dpo", "kto"])
def test_examples_and_pairs_are_learned_from(recipe, tmp_path, tiny_folder, accelerator):
    assert run((RECIPES / f"{recipe}.yaml", *FEW, f"model.path={tiny_folder}"), tmp_path / "run", device=accelerator)
