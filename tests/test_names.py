"""What is written by someone who knows another trainer is answered with our names, and never with a wrong one."""

import pytest

from groupwise import names, registry
from groupwise.config import read_recipe
from groupwise.config.settings import settings
from groupwise.errors import ConfigError
from tests.command import RECIPE, groupwise


def refused(override):
    with pytest.raises(ConfigError) as caught:
        read_recipe(RECIPE, [override])
    return str(caught.value).removeprefix(f"{RECIPE}: ")


@pytest.mark.parametrize(
    ("override", "ours"),
    [
        # TRL
        ("num_generations=8", "rollout.group_size"),
        ("rollout.num_generations=8", "rollout.group_size"),
        ("learning_rate=1e-6", "update.learning_rate"),
        ("beta=0.1", "objective.kl_coef"),
        ("epsilon_high=0.28", "objective.clip_high"),
        ("num_train_epochs=3", "update.steps"),
        ("warmup_ratio=0.1", "update.warmup_steps"),
        ("output_dir=out", "--run DIR"),
        ("report_to=wandb", "record.sqlite"),
        # verl, whole and in part
        ("actor_rollout_ref.rollout.n=8", "rollout.group_size"),
        ("rollout.n=8", "rollout.group_size"),
        ("algorithm.adv_estimator=grpo", "objective.preset"),
        ("actor_rollout_ref={actor: {optim: {lr: 1}}}", "update.learning_rate"),
        ("critic.optim.lr=1", "critic.learning_rate"),
        ("trainer.n_gpus_per_node=8", "one device"),
        # OpenRLHF and EasyR1
        ("n_samples_per_prompt=8", "rollout.group_size"),
        ("worker.actor.optim.lr=1", "update.learning_rate"),
        ("worker.rollout.n=5", "rollout.group_size"),
        ("init_kl_coef=0.1", "objective.kl_coef"),
        ("prompt_data=x.jsonl", "questions.source"),
    ],
)
def test_a_name_of_another_trainer_is_answered_with_ours(override, ours):
    assert ours in refused(override).partition("unknown key; ")[2]


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("preset=grpo", "'objective.preset'"),
        ("group_size=4", "'rollout.group_size'"),
        ("rollout.Group-Size=4", "'group_size'"),
        ("lora.rank=8", "'model.lora.rank'"),
        ("rollout.temp=0.7", "'temperature'"),
        ("path=tiny", "'model.path' or 'critic.path' or 'teacher.path'"),
        ("objective.preset=GRPO", "'grpo'"),
        ("objective.preset=Dr-GRPO", "'dr_grpo'"),
        ("objective.preset=reinforce++", "'reinforce_pp'"),
        ("objective.preset=dpo", "stage=preference preference.loss=dpo"),
        ("stage=dpo", "stage=preference preference.loss=dpo"),
        ("stage=dapo", "objective.preset=dapo"),
        ("stage=rm", "'reward_model'"),
        ("objective.aggregate=seq-mean-token-sum-norm", "'fixed_length'"),
        ("objective.kl_estimator=low_var_kl", "'k3'"),
        ("objective.loss=gspo", "'sequence_clip'"),
    ],
)
def test_a_name_in_the_wrong_place_or_spelling_is_answered_with_the_right_one(override, meant):
    assert f"did you mean {meant}?" in refused(override)


def test_a_key_that_nobody_knows_is_answered_with_those_there_are():
    assert refused("zzz=1").startswith("zzz: unknown key; choose from: critic, curriculum, evaluate, ")


def test_a_section_given_as_a_value_says_its_keys():
    assert refused("model=tiny").startswith("model = 'tiny': give a section, with keys of its own: path, device, ")


def test_each_row_of_the_names_is_a_setting_in_a_recipes_order():
    keys = [setting.key for setting in settings()]
    assert {name.ours for name in names.NAMES} <= set(keys)
    assert len({name.ours for name in names.NAMES}) == len(names.NAMES)
    for key, values in names.VALUES.items():
        listed = next(table for table, set_by in registry.SET_BY.items() if set_by == key)
        assert set(values.values()) <= set(registry.TABLES[listed])


def test_no_setting_is_without_a_meaning():
    assert [setting.key for setting in settings() if not setting.meaning] == []


@pytest.mark.parametrize(
    ("key", "default", "wanted"),
    [
        ("rollout.group_size", 8, "whole number >= 1"),
        ("rollout.top_p", 1.0, "number > 0 <= 1"),
        ("update.schedule", "constant", "constant, linear, cosine"),
        ("objective.preset", "grpo", "`groupwise list presets`"),
        ("questions.shuffle", True, "true, false"),
        ("model.lora.rank", 8, "whole number >= 1"),
        ("critic.discount", 1.0, "number > 0 <= 1"),
    ],
)
def test_a_setting_has_its_default_and_its_range(key, default, wanted):
    found = next(setting for setting in settings() if setting.key == key)
    assert (found.default, found.needed, found.range) == (default, False, wanted)


def test_a_setting_is_listed_with_what_others_call_it():
    lines = groupwise("list", "settings").out.splitlines()
    at = lines.index("rollout.group_size: 8   (whole number >= 1)")
    assert lines[at + 2] == "    TRL: num_generations; verl: actor_rollout_ref.rollout.n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "no verb 'trian'; did you mean 'train'?"),
        (["evaluate", "x"], "no verb 'evaluate'; did you mean 'eval'?"),
        (["mine.yaml"], "no verb 'mine.yaml'; did you mean `groupwise train mine.yaml`?"),
        (["train", "tiny", "--steps", "3"], "--steps; a recipe's value is set without dashes: update.steps=3"),
        (["train", "tiny", "--lr=1e-3"], "update.learning_rate here"),
        (["sample", "tiny", "7>", "--sample", "2"], "sample: no option --sample; did you mean --samples?"),
        (["eval"], "eval: missing argument 'source'; see `groupwise eval --help`"),
        (["eval", "runs/zzz"], "runs/zzz: no such run, recipe file or shipped recipe; see `groupwise runs`"),
        (["list", "reward"], "list 'reward': no such table; did you mean 'rewards'?"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_read_is_one_line_with_what_to_write(words, said):
    done = groupwise(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert said in done.err
