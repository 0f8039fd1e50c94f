"""Recipes: what a YAML file and its overrides mean, and every way in which they can be wrong."""

import pytest

from groupwise.config import Recipe, RewardConfig, dump_recipe, read_recipe, recipe_from
from groupwise.errors import ConfigError
from groupwise.recipe_file import changes, read_tree
from tests.command import RECIPE
from tests.project.sources import ROOT

LEAST = {
    "model": {"path": "tiny"},
    "questions": {"source": "arithmetic"},
    "rewards": [{"function": "number"}],
    "update": {"steps": 1},
}


def written(folder, text):
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    return folder / "recipe.yaml"


RECIPES = [path for path in sorted((ROOT / "recipes").glob("*.yaml")) if "\nstages:" not in path.read_text()]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_shipped_recipe_is_valid(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert isinstance(read_recipe(path), Recipe)


def test_the_least_recipe_gets_the_defaults():
    recipe = recipe_from(LEAST)
    assert (recipe.stage, recipe.seed, recipe.rollout.group_size, recipe.objective.preset) == ("rl", 0, 8, "grpo")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-6", 1e-6), ("1E3", 1000.0), ("+1e2", 100.0), (".5e1", 5.0), ("2.e-1", 0.2), ("-1e-2", -0.01)],
)
def test_a_number_with_an_exponent_is_a_number(tmp_path, text, value):
    assert read_tree(written(tmp_path, f"a: {text}")) == {"a": value}


@pytest.mark.parametrize("text", ["1e", "e5", "1e5x", "v1e5", "'1e5'", '"1e-6"'])
def test_what_only_looks_like_one_or_is_quoted_is_text(tmp_path, text):
    assert read_tree(written(tmp_path, f"a: {text}")) == {"a": text.strip("'\"")}


def test_a_recipe_written_and_read_again_is_the_same(tmp_path):
    recipe = recipe_from(
        {
            **LEAST,
            "questions": {"source": "arithmetic", "system": "1e5", "template": "ä\n{question} = '#'"},
            "update": {"steps": 3, "learning_rate": 1e-6, "betas": [0.9, 0.95]},
            "rollout": {"stop": ["\n", "1e-3"], "top_p": 0.95},
        }
    )
    assert read_recipe(written(tmp_path, dump_recipe(recipe))) == recipe


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("update.steps=7", lambda r: r.update.steps == 7),
        ("update.learning_rate=1e-5", lambda r: r.update.learning_rate == 1e-5),
        ("rewards.1.weight=2", lambda r: r.rewards[1].weight == 2.0),
        ("rewards.1.params.regex=a=b", lambda r: r.rewards[1].params["regex"] == "a=b"),
        ("questions.params.kinds=[sum, product]", lambda r: r.questions.params["kinds"] == ["sum", "product"]),
        ("questions.system=a: b: c", lambda r: r.questions.system == "a: b: c"),  # not YAML, so text
        ("evaluate.every=5", lambda r: r.evaluate.every == 5),  # a section that the recipe does not have
        ("objective.clip_high=null", lambda r: r.objective.clip_high is None),
    ],
)
def test_an_override_sets_one_value(override, found):
    assert found(read_recipe(RECIPE, [override]))


def test_an_override_reaches_one_place_of_those_that_an_anchor_fills(tmp_path):
    path = written(tmp_path, "a: &x {b: [1, 2]}\nc: *x")
    assert read_tree(path, ["c.b.0=7"]) == {"a": {"b": [1, 2]}, "c": {"b": [7, 2]}}


def test_the_last_override_counts():
    assert read_recipe(RECIPE, ["update.steps=1", "update.steps=2"]).update.steps == 2


def test_a_section_left_empty_takes_an_override(tmp_path):
    text = dump_recipe(recipe_from(LEAST)).partition("\nrun:")[0] + "\nrun:\n"
    assert read_recipe(written(tmp_path, text), ["run.root=elsewhere"]).run.root == "elsewhere"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("steps", "override 'steps' is not of the form a.b=c; for example update.steps=100"),
        ("=3", "override '=3' is not of the form a.b=c"),
        ("update..steps=3", "override 'update..steps=3' is not of the form a.b=c"),
        ("seed.a=3", "override 'seed.a=3': 'seed' is a value, not a section; set seed itself"),
        ("rewards.7.weight=3", "override 'rewards.7.weight': '7' is not an index into 2 item(s)"),
        ("rewards.first.weight=3", "'first' is not an index into 2 item(s)"),
    ],
)
def test_a_wrong_override(override, said):
    with pytest.raises(ConfigError) as error:
        read_recipe(RECIPE, [override])
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"update": {"stepps": 1, "steps": 1}}, "update.stepps: unknown key; did you mean 'steps'?"),
        ({"udpate": {}}, "udpate: unknown key; did you mean 'update'?"),
        ({"rewards": [{"function": "number", "wieght": 1}]}, "rewards.0.wieght: unknown key; did you mean 'weight'?"),
        ({"update": {}}, "update.steps: missing; add it to the recipe"),
        ({"update": {"steps": "abc"}}, "update.steps = 'abc': give a whole number"),
        ({"update": {"steps": 1.5}}, "update.steps = 1.5: give a whole number"),
        ({"update": {"steps": 0}}, "update.steps = 0: input should be greater than or equal to 1; a run of no steps"),
        ({"rollout": {"group_size": 0}}, "group_size = 0: input should be greater than or equal to 1"),
        ({"rollout": {"temperature": "hot"}}, "rollout.temperature = 'hot': give a number"),
        ({"rollout": {"temperature": float("nan")}}, "rollout.temperature = nan: input should be a finite number"),
        ({"rollout": {"stop": [""]}}, "rollout.stop: an empty stop string would end every output at once"),
        ({"rollout": {"stop": "x" * 200}}, f"rollout.stop = '{'x' * 76}...: give a list"),
        ({"questions": {"source": "arithmetic", "shuffle": "maybe"}}, "questions.shuffle = 'maybe': give true or"),
        ({"questions": {"source": 3}}, "questions.source = 3: give text"),
        ({"model": "tiny"}, "model = 'tiny': give a section, with keys of its own"),
        ({"rewards": []}, "a run needs at least one reward function"),
        ({"rewards": "number"}, "rewards = 'number': give a list"),
        ({"rewards": [{"function": "number"}] * 2}, "rewards: number used twice; give each its own `name`"),
        ({"rewards": [{"function": "number", "name": "mean"}]}, "the name 'mean' is taken by the metric reward/mean"),
        ({"rewards": [{"function": "number", "weight": 0}]}, "rewards: every weight is 0"),
        ({"evaluate": {"correct": "nmber"}}, "evaluate.correct = 'nmber': no reward of that name; did you mean"),
        ({"stage": "grop"}, "stage = 'grop': no such name; choose from: "),
        ({"objective": {"loss": "clp"}}, "objective.loss = 'clp': no such name; did you mean 'clip'?"),
        ({"objective": {"kl_estimator": "k4"}}, "objective.kl_estimator = 'k4': no such name"),
        ({"rollout": {"engine": "locl"}}, "rollout.engine = 'locl': no such name; did you mean 'local'?"),
        ({"questions": {"source": "arithmetik"}}, "questions.source = 'arithmetik': no such name; did you mean"),
        ({"rewards": [{"function": "nmber"}]}, "rewards[0].function = 'nmber': no such name; did you mean 'number'?"),
        ({"seed": -1}, "seed = -1: input should be greater than or equal to 0"),
    ],
)
def test_a_wrong_value_is_told_with_its_place_and_remedy(change, said):
    with pytest.raises(ConfigError) as error:
        recipe_from({**LEAST, **change})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_all_errors_are_told_at_once():
    with pytest.raises(ConfigError) as error:
        recipe_from({**LEAST, "seed": -1, "update": {"steps": 0, "sped": 1}})
    assert all(place in str(error.value) for place in ("seed = -1", "update.steps = 0", "update.sped"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\nb: 2\n", "is not YAML: line 2, "),
        ("just words", "holds str, not sections"),
        ("", "is empty"),
        ("1: 2", "1 = 1: keys should be strings"),
        ("day: 2024-13-45", "is not YAML: month must be in 1..12"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        read_recipe(written(tmp_path, text))


def test_a_recipe_in_another_encoding_is_told(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes("seed: 0 # é".encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_recipe(tmp_path / "recipe.yaml")


def test_a_reward_is_called_by_its_name_or_its_functions():
    assert RewardConfig(function="my/rewards.py:tidy").label == "tidy"
    assert RewardConfig(function="number").label == "number"
    assert RewardConfig(function="number", name="right").label == "right"


def test_greedy_sampling_keeps_the_limits():
    rollout = recipe_from({**LEAST, "rollout": {"max_new_tokens": 9, "stop": ["."], "top_k": 5}}).rollout
    assert (rollout.sampling().greedy, rollout.sampling(greedy=True).greedy) == (False, True)
    assert rollout.sampling(greedy=True).max_new_tokens == 9
    assert (rollout.sampling().top_k, rollout.sampling().stop) == (5, (".",))


def test_changes_between_two_recipes():
    before = {"a": 1, "b": {"c": [1, {"d": 2}], "e": None}, "f": [1]}
    after = {"a": 1, "b": {"c": [1, {"d": 3}], "e": 0}, "f": [1, 2], "g": True}
    expected = [("b.c.1.d", 2, 3), ("b.e", None, 0), ("f", [1], [1, 2]), ("g", None, True)]
    assert changes(before, after) == expected
    assert changes(before, before) == []


def test_a_recipe_of_the_stages_grpo_and_ppo_is_told_what_to_write():
    with pytest.raises(ConfigError, match=r"stage = 'ppo': .*rl; stage: rl, objective.preset: ppo$"):
        recipe_from({**LEAST, "stage": "ppo"})
    with pytest.raises(ConfigError, match=r"stage = 'grpo': .*rl; stage: rl$"):
        recipe_from({**LEAST, "stage": "grpo"})


EXAMPLES = {"model": {"path": "tiny"}, "examples": {"source": "x.jsonl"}, "update": {"steps": 1}}


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({**EXAMPLES, "stage": "sft", "objective": {}}, "objective: stage 'sft' does not read it, rl does; drop it"),
        (
            {**EXAMPLES, "stage": "sft", "rollout": {"group_size": 4}},
            "rollout.group_size: stage 'sft' does not read it, rl and rejection do; drop it",
        ),
        ({**EXAMPLES, "stage": "sft", "rollout": {}}, "rollout without questions: nothing is sampled"),
        ({**EXAMPLES, "stage": "sft", "evaluate": {"samples": 2}}, "evaluate.samples = 2 without questions"),
        ({**EXAMPLES, "stage": "sft", "rewards": LEAST["rewards"]}, "rewards without questions"),
        ({**EXAMPLES, "stage": "sft", "update": {"steps": 1, "mask_truncated": True}}, "update.mask_truncated: stage"),
        ({**EXAMPLES, "stage": "preference", "teacher": {"path": "tiny"}}, "teacher: stage 'preference' does not"),
        ({**EXAMPLES, "stage": "reward_model", "model": {"path": "tiny", "lora": {}}}, "model.lora: stage 'reward_"),
        (
            {**EXAMPLES, "stage": "reward_model", "questions": {"source": "arithmetic"}},
            "questions: stage 'reward_model'",
        ),
        ({**EXAMPLES, "stage": "reward_model", "evaluate": {"samples": 2}}, "evaluate.samples: stage 'reward_model'"),
        ({**LEAST, "stage": "rejection"}, "update: stage 'rejection' does not read it"),
        ({**EXAMPLES, "stage": "sft", "rejektion": {}}, "rejektion: unknown key; choose from: "),
    ],
)
def test_what_a_stage_does_not_read_cannot_be_written(tree, said):
    with pytest.raises(ConfigError) as error:
        recipe_from(tree)
    assert said in str(error.value)


def test_a_section_that_a_stage_does_not_have_reads_as_none_and_is_not_written():
    recipe = recipe_from({**EXAMPLES, "stage": "reward_model"})
    assert (recipe.questions, recipe.rollout, recipe.critic, recipe.rewards) == (None, None, None, ())
    assert list(recipe.model_dump()) == [
        "stage",
        "seed",
        "model",
        "examples",
        "reward_model",
        "update",
        "evaluate",
        "run",
    ]
    with pytest.raises(AttributeError):
        recipe.nothing  # noqa: B018


@pytest.mark.parametrize(("stage", "rank", "rate"), [("rl", 8, 1e-5), ("sft", 64, 1e-4), ("preference", 16, 1e-5)])
def test_adapters_have_the_rank_and_the_rate_of_their_stage(stage, rank, rate):
    tree = {**(LEAST if stage == "rl" else EXAMPLES), "stage": stage, "model": {"path": "tiny", "lora": {}}}
    recipe = recipe_from(tree)
    assert (recipe.model.lora.rank, recipe.update.learning_rate) == (rank, rate)
    plain = recipe_from({**tree, "model": {"path": "tiny"}})
    assert (plain.model.lora, plain.update.learning_rate) == (None, 1e-6)
