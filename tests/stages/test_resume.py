"""A run that is taken up again is the uninterrupted one, whatever it holds beside the policy."""

import shutil
from contextlib import closing

import pytest
from safetensors.torch import load_file

from groupwise.record import open_record
from tests.command import RECIPE, SMALL, groupwise
from tests.project.sources import ROOT

PRESETS = ROOT / "recipes" / "presets"
STEERED = (
    "objective.kl_coef=0.1",
    "objective.kl_target=0.001",
    "objective.kl_horizon=50",
    "objective.entropy_target=9",
)
PICTURES = (
    "model.path=tiny_vision",
    "questions.source=shapes",
    "questions.params={levels: [1]}",
    "rewards=[{function: exact}, {function: captured, params: {regex: '([a-z0-9])'}}]",
)
COMBINATIONS = {
    "critic_of_its_own": (PRESETS / "ppo.yaml", ("critic.warmup_steps=1",)),
    "critic_on_the_policy": (PRESETS / "a2c.yaml", ()),
    "renewed_reference": (
        RECIPE,
        ("objective.kl_coef=0.5", "objective.reference_every=1", "objective.reference_mix=0.5"),
    ),
    "steered_coefficients": (RECIPE, STEERED),
    "dynamic_sampling": (RECIPE, ("rollout.dynamic_sampling_rounds=2", "objective.kl_coef=0")),
    "curriculum": (
        RECIPE,
        ("questions.size=6", "curriculum.floor=0.2", "curriculum.memory=0.5", "objective.kl_coef=0"),
    ),
    "teacher": (PRESETS / "distill.yaml", ()),
    "adapters": (
        RECIPE,
        ("model.lora.rank=4", "objective.kl_coef=0.5", "objective.reference_every=1", "objective.reference_mix=0.5"),
    ),
    "adapters_and_their_beginning": (RECIPE, ("model.lora.rank=4", "objective.kl_coef=0.5")),
    "pictures": (RECIPE, PICTURES),
    "pictures_that_a_tower_learns_from": (RECIPE, (*PICTURES, "model.train={vision: true}", "objective.kl_coef=0.5")),
    "adapters_and_a_critic": (PRESETS / "ppo.yaml", ("model.lora.rank=4", "critic.warmup_steps=1")),
}


def metrics(folder):
    """(step, name, value) of what does not depend on the clock."""
    with closing(open_record(folder)) as record:
        return [row for row in record.metrics() if not row[1].startswith(("time/", "tokens/per_second", "memory/"))]


@pytest.mark.parametrize("name", list(COMBINATIONS))
def test_a_resumed_run_is_the_uninterrupted_one(name, tmp_path, tiny_folder):
    recipe, own = COMBINATIONS[name]
    words = ("train", recipe, f"model.path={tiny_folder}", *SMALL, "questions.heldout_size=0", *own, "--run")
    done = groupwise(*words, tmp_path / "whole", "run.keep_checkpoints=2")
    assert done.code == 0, done.err
    # as if it had ended within step 4: all is lost that came after the checkpoint of step 2
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-000004")
    (tmp_path / "cut" / "summary.json").unlink()
    done = groupwise("train", "--run", tmp_path / "cut", "--resume")
    assert done.code == 0, done.err
    assert "steps 3 to 4" in done.err
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")
    ends = [tmp_path / folder / "checkpoints" / "step-000004" for folder in ("whole", "cut")]
    files = [sorted(path.relative_to(end) for path in end.rglob("*.safetensors")) for end in ends]
    assert files[0] == files[1]
    for file in files[0]:
        whole, cut = (load_file(end / file) for end in ends)
        assert whole.keys() == cut.keys()
        assert all(whole[key].equal(cut[key]) for key in whole), file


def test_steered_coefficients_move(tmp_path, tiny_folder):
    words = ("train", RECIPE, f"model.path={tiny_folder}", *SMALL, "questions.heldout_size=0", *STEERED)
    assert groupwise(*words, "update.learning_rate=1e-2", "--run", tmp_path / "run").code == 0
    found = {(step, name): value for step, name, value in metrics(tmp_path / "run")}
    # 16 outputs against a horizon of 50: at the first step the KL is 0, an error of -1, held to -0.2: a factor 0.936
    assert found[0, "kl"] < 1e-9
    assert found[0, "kl_coef"] == 0.1
    assert found[1, "kl_coef"] == pytest.approx(0.0936)
    # the entropy is under 9 nats, always: 0.1 of the recipe, then 0.005 more each step
    assert [found[step, "entropy_coef"] for step in range(4)] == pytest.approx([0.1, 0.105, 0.11, 0.115])
