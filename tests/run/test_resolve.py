"""What cannot work together is refused with the row's own words, and what can is not."""

import pytest

from groupwise import registry
from groupwise.config import recipe_from
from groupwise.errors import ConfigError
from groupwise.objective.correction import token_masked, token_truncated, uncorrected
from groupwise.objective.surrogate import reads
from groupwise.run.resolve import resolve, resolve_recipe

BASE = {
    "model": {"path": "tiny"},
    "questions": {"source": "arithmetic"},
    "rewards": [{"function": "number"}],
    "update": {"steps": 10},
}
TEACHER = {"path": "tiny"}


def resolved(**sections):
    return resolve_recipe(recipe_from({**BASE, **sections}))


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"critic": {}, "objective": {"preset": "grpo"}},
            r"critic: .*'group_relative' \(preset 'grpo'\) reads no values",
        ),
        (
            {"objective": {"preset": "a2c"}, "critic": {"trunk": "shared", "path": "x"}},
            r"critic\.path = 'x': a shared trunk is the policy's",
        ),
        ({"objective": {"preset": "distill"}}, r"'teacher_gap' \(preset 'distill'\) reads a teacher's .*no teacher"),
        ({"teacher": TEACHER}, r"teacher\.path = 'tiny': .*'group_relative' .*reads no teacher"),
        ({"rollout": {"group_size": 1}}, r"rollout\.group_size = 1: .*'group_relative' .*a group needs at least 2"),
        (
            {"rollout": {"dynamic_sampling_rounds": 2, "group_size": 2}},
            r"dynamic_sampling_rounds = 2 with rollout\.group_size = 2: .*half",
        ),
        (
            {"rollout": {"dynamic_sampling_rounds": 2, "top_k": 1}},
            r"dynamic_sampling_rounds = 2 with rollout\.top_k = 1: .*the same",
        ),
        (
            {"rollout": {"dynamic_sampling_rounds": 2}, "objective": {"preset": "reinforce"}},
            r"dynamic_sampling_rounds = 2: .*'reward' \(preset 'reinforce'\) compares nothing inside a group",
        ),
        ({"objective": {"kl_coef": 0, "kl_target": 0.1}}, r"kl_target = 0\.1 with kl_coef = 0: there is no KL"),
        ({"objective": {"kl_coef": 0, "reference_every": 5}}, r"reference_every = 5 with kl_coef = 0: .*no reference"),
        (
            {"objective": {"preset": "gdpo"}, "rewards": [{"function": "number", "normalise": "group"}]},
            r"normalise = 'group' of 'number': .*'per_reward' .*own values",
        ),
        ({"objective": {"reference_mix": 0.5}}, r"reference_mix = 0\.5 with reference_every = 0: nothing reads it"),
        (
            {"objective": {"preset": "grpo_process", "kl_in": "reward"}},
            r"kl_in = 'reward': .*'process_supervision' .*reads neither the rewards nor the token_rewards",
        ),
        ({"objective": {"preset": "gdpo", "kl_in": "reward", "kl_coef": 0.1}}, r"kl_in = 'reward': .*'per_reward'"),
        (
            {"objective": {"correction": "token_masked", "correction_low": 3}},
            r"correction_low = 3 is above correction_high = 2",
        ),
        (
            {"objective": {"correction_high": 5}},
            r"correction_high = 5: the correction 'uncorrected' does not read it; it has no parameters; .*token_masked",
        ),
        ({"objective": {"kl_horizon": 500}}, r"kl_horizon = 500 with no kl_target: nothing reads it"),
        ({"objective": {"entropy_step": 0.1}}, r"entropy_step = 0\.1 with no entropy_target: nothing reads it"),
        (
            {"objective": {"kl_target": 0.1, "kl_horizon": 63}},
            r"kl_horizon = 63 and a step has 64 outputs: kl_coef would jump",
        ),
        (
            {"objective": {"preset": "ppo"}, "critic": {"warmup_steps": 10}},
            r"warmup_steps = 10 of update\.steps = 10: the policy would never learn",
        ),
        (
            {"objective": {"preset": "gspo", "advantage": "process_supervision"}},
            r"objective\.loss = 'sequence_clip' \(preset 'gspo'\) has one ratio .*gives each token its own",
        ),
        (
            {"objective": {"preset": "sapo", "clip_low": 0}},
            r"clip_low = 0: the loss 'soft_gate' does not read it; it reads tau_pos, tau_neg; drop it, or .*clip",
        ),
        (
            {"objective": {"dual_clip": 3}},
            r"dual_clip = 3: the loss 'clip' .*reads clip_low, clip_high; .*: dual_clip$",
        ),
        ({"objective": {"params": {"gamma": 1}}}, r"objective\.params\.gamma: no function .*; drop it"),
        ({"objective": {"params": {"clip_low": 1}}}, r"objective\.params\.clip_low: .*; set objective\.clip_low$"),
    ],
)
def test_an_impossible_combination_is_refused(sections, said):
    with pytest.raises(ConfigError, match=said):
        resolved(**sections)


def test_the_kl_counts_in_one_place_only():
    with pytest.raises(ConfigError, match=r"objective\.kl_in = 'both': input should be 'loss' or 'reward'"):
        resolved(objective={"kl_in": "both"})


@pytest.mark.parametrize("name", registry.ADVANTAGES)
def test_an_advantage_that_reads_values_brings_a_critic(name):
    found = recipe_from({**BASE, "objective": {"advantage": name}})
    assert (found.critic is not None) == ("values" in reads(registry.load(registry.ADVANTAGES, name)))


@pytest.mark.parametrize("preset", list(registry.PRESETS))
def test_every_preset_can_be_had(preset):
    sections = {"teacher": TEACHER} if preset == "distill" else {}
    assert resolved(objective={"preset": preset}, **sections).kl_coef >= 0


@pytest.mark.parametrize("preset", ["reinforce", "reinforce_pp", "online_rft", "ppo", "a2c"])
def test_one_output_a_question_is_enough_without_siblings(preset):
    resolved(objective={"preset": preset}, rollout={"group_size": 1})


def test_a_sequence_loss_with_an_advantage_of_each_token_has_its_own_row():
    resolved(objective={"preset": "gspo_token", "advantage": "process_supervision"})


def test_only_an_engine_that_is_not_exact_is_corrected_unless_the_recipe_says_so():
    config = recipe_from(BASE).objective
    assert resolve(config).correction is uncorrected
    assert resolve(config, exact_engine=False).correction is token_truncated
    named = config.model_copy(update={"correction": "token_masked"})
    assert resolve(named).correction is resolve(named, exact_engine=False).correction is token_masked


@pytest.mark.parametrize(("precision", "correction"), [("fp32", uncorrected), ("bf16", token_truncated)])
def test_the_local_engine_is_exact_in_fp32(precision, correction):
    found = resolved(model={"path": "tiny", "device": "cpu", "precision": precision})
    assert found.correction is correction
