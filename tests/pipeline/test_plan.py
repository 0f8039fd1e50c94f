"""A pipeline's file: what each stage begins with, and every way in which that can be wrong."""

import json
import shutil

import pytest
import yaml

from groupwise.datasets.base import load_questions
from groupwise.datasets.inner import bare
from groupwise.errors import ConfigError, DataError, ModelError
from groupwise.pipeline.apart import check_apart
from groupwise.pipeline.plan import make_plan
from groupwise.pipeline.vocabulary import check_vocabularies
from tests.project.sources import ROOT

RECIPE = ROOT / "recipes" / "pipeline.yaml"
PIPELINES = sorted(path for path in (ROOT / "recipes").glob("*.yaml") if "\nstages:" in path.read_text())


def plan(source=RECIPE, *overrides, folder="made"):
    return make_plan(str(source), overrides, folder=lambda file: RECIPE.parent / folder)


def written(folder, change):
    tree = json.loads(json.dumps(yaml.safe_load(RECIPE.read_text())))  # no two places share what one anchor names
    change(tree)
    (folder / "p.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder / "p.yaml"


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.name)
def test_every_shipped_pipeline_is_valid_and_learns_from_nothing_that_it_is_measured_on(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_apart(plan(path))


def test_each_stage_begins_with_what_the_named_one_leaves():
    made = plan()
    cold, reasoning, collected, taught = made.stages
    assert [stage.recipe.model.path for stage in (cold, taught)] == ["tiny", "tiny"]
    assert reasoning.recipe.model.path == str(made.folder / "cold_start" / "checkpoints" / "step-000030")
    assert collected.recipe.model.path == str(made.folder / "reasoning" / "checkpoints" / "step-000030")
    assert taught.recipe.examples.source == str(made.folder / "collected" / "examples.jsonl")
    assert [stage.leaves for stage in made.stages] == ["policy", "policy", "examples", "policy"]
    assert [stage.measures for stage in made.stages] == [("digits",), ("digits",), (), ("digits",)]


def test_an_override_may_call_a_stage_by_its_name_and_the_seed_is_every_stages():
    made = plan(RECIPE, "stages.reasoning.update.steps=7", "stages.3.update.steps=8", "seed=5", "model.precision=fp32")
    assert [made.stages[i].recipe.update.steps for i in (1, 3)] == [7, 8]
    assert {stage.recipe.seed for stage in made.stages} | {m.seed for m in made.measures.values()} == {5}
    assert {stage.recipe.model.precision for stage in made.stages} == {"fp32"}
    assert made.stages[2].recipe.model.path.endswith("step-000007")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t["stages"][1].update({"from": "@taught"}), r"p\.yaml:\d+: stage 'reasoning': @taught comes later"),
        (lambda t: t["stages"][1].update({"from": "@reasoning"}), r"@reasoning comes later, or is itself; name an ear"),
        (lambda t: t["stages"][1].update({"from": "@cold"}), r"@cold: no stage of that name; did you mean 'cold_"),
        (lambda t: t["stages"][3].update({"name": "cold_start"}), r"name = 'cold_start' is an earlier stage's; give"),
        (lambda t: t["stages"][0].update({"name": "base"}), r"name = 'base' is the base model's"),
        (lambda t: t["stages"][0].pop("name"), r"p\.yaml:\d+: name = None: a stage needs one"),
        (lambda t: t["stages"][0].pop("from"), r"stage 'cold_start': from is missing; from: base, or"),
        (lambda t: t["stages"][0].update({"from": "tiny"}), r"from = 'tiny'; give base, or '@name'"),
        (lambda t: t["stages"][0].update({"model": {"path": "tiny"}}), r"both from and model\.path say what"),
        (
            lambda t: t["stages"][3].update({"from": "@collected"}),
            r"from = '@collected': stage 'collected' leaves a file of examples, wanted is a policy; name .*@cold_start",
        ),
        (
            lambda t: t["stages"][3]["examples"].update({"source": "@reasoning"}),
            r"examples\.source = '@reasoning': stage 'reasoning' leaves a policy, wanted is a file of examples",
        ),
        (
            lambda t: t["stages"][1]["rewards"].append({"function": "model", "params": {"path": "@cold_start"}}),
            r"rewards\.params\.path = '@cold_start': stage 'cold_start' leaves a policy, wanted is a reward model",
        ),
        (
            lambda t: t["stages"][3].update({"stage": "preference"}),
            r"examples\.source = '@collected': what is kept there is for stage sft, not preference",
        ),
        (lambda t: t["stages"][2]["rejection"].update({"against": ["@cold_start"]}), r"against = '@cold_start'"),
        (
            lambda t: t["measure"]["digits"]["rewards"].append({"function": "model", "params": {"path": "@taught"}}),
            r"measure\.digits: '@taught': a measure names no stage",
        ),
        (lambda t: t.update({"stages": 5}), r"stages = 5: give a list"),
        (lambda t: t["stages"][1]["update"].update({"stepps": 1}), r"stage 'reasoning': update\.stepps: unknown key"),
        (lambda t: t["stages"][1].update({"measure": ["digit"]}), r"measure = 'digit': no such name; did you mean 'di"),
        (lambda t: t["measure"]["digits"].pop("rewards"), r"measure\.digits: rewards: missing"),
        (lambda t: t["measure"]["digits"].update({"update": {}}), r"measure\.digits\.update: unknown key"),
        (lambda t: t.pop("stages"), r"p\.yaml: no stages, so it is no pipeline; use `groupwise train` for"),
        (lambda t: t.update({"stages": []}), r"stages = \[\]: "),
        (lambda t: t.update({"stagess": []}), r"stagess: unknown key; did you mean 'stages'"),
        (
            lambda t: t["stages"][1].update({"objective": {"preset": "distill"}}),
            r"p\.yaml:\d+: stage 'reasoning': .*teacher",
        ),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_stage(tmp_path, change, said):
    with pytest.raises(ConfigError, match=said) as error:
        plan(written(tmp_path, change))
    assert "\n" not in str(error.value)


def test_the_line_is_that_of_the_stage(tmp_path):
    source = tmp_path / "p.yaml"
    source.write_text(RECIPE.read_text().replace("from: '@cold_start'", "from: '@colder'"))
    line = 1 + source.read_text().splitlines().index("  - name: reasoning")
    with pytest.raises(ConfigError, match=rf"p\.yaml:{line}: stage 'reasoning'"):
        plan(source)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stages.reason.update.steps=1", r"no stage 'reason'; did you mean 'reasoning'"),
        ("define.digits=1", r"YAML's anchors are long resolved; set it in each stage"),
    ],
)
def test_an_override_that_reaches_no_stage_is_refused(override, said):
    with pytest.raises(ConfigError, match=said):
        plan(RECIPE, override)


HELD = {"source": "words", "heldout_size": 60}


def pairs_on_words(tree):
    tree["measure"]["words"] = {"questions": HELD, "rewards": [{"function": "exact"}]}
    questions = {"questions": {**HELD, "heldout_size": 0}}
    tree["stages"][0] = {
        "name": "cold_start",
        "stage": "preference",
        "from": "base",
        "examples": {"source": "helpful_pairs", "params": questions, "per_step": 4, "heldout_size": 0},
        "update": {"steps": 1},
    }


def mixed_words(tree):
    tree["measure"]["words"] = {"questions": HELD, "rewards": [{"function": "exact"}]}
    params = {"questions": {**HELD, "heldout_size": 0}}
    tree["stages"][2]["rejection"]["mix"] = [{"source": "answered", "params": params, "weight": 1.0}]


def mixture(tree):
    digits = {**tree["measure"]["digits"]["questions"], "template": "{question}!", "heldout_size": 0}
    tree["stages"][1]["questions"] = {"source": "mixture", "params": {"parts": {"d": digits}}, "heldout_size": 0}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t["stages"][1]["questions"].update({"heldout_size": 0}),
            r"p\.yaml:\d+: stage 'reasoning' learns from question 'successor-\d-\d+' of 'arithmetic', which measure\.d",
        ),
        (
            lambda t: t["stages"][0].update(
                {"examples": {"source": "recipes/example_completions.jsonl", "heldout_size": 5}}
            ),
            r"stage 'cold_start' learns from .*example_completions\.jsonl:\d+, which measure\.digits holds out: '\d+>'",
        ),
        (mixture, r"stage 'reasoning' learns from question 'd/successor"),
        (pairs_on_words, r"stage 'cold_start' learns from .*which measure\.words holds out"),
        (mixed_words, r"stage 'collected' learns from .*which measure\.words holds out"),
    ],
)
def test_what_is_measured_on_is_learned_from_in_no_stage(tmp_path, monkeypatch, change, said):
    monkeypatch.chdir(ROOT)
    with pytest.raises(DataError, match=said) as error:
        check_apart(plan(written(tmp_path, change)))
    assert "\n" not in str(error.value)


def test_a_contaminated_question_of_a_file_is_told_by_its_line(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    digits = plan().measures["digits"]
    known = load_questions(bare(digits.questions), digits.seed).heldout[0]
    file = tmp_path / "own.jsonl"
    rows = [{"question": "What comes after Monday?", "answer": "Tuesday"}, {"question": known.text, "answer": "1"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def change(tree):
        tree["stages"][1]["questions"] = {"source": str(file), "heldout_size": 0}

    with pytest.raises(
        DataError, match=r"stage 'reasoning' learns from \S+own\.jsonl:2, which measure\.digits holds out"
    ):
        check_apart(plan(written(tmp_path, change)))


def test_a_teacher_of_another_vocabulary_is_refused_before_any_stage_runs(tmp_path, tiny_folder):
    def change(tree):
        tree["stages"][1] |= {"objective": {"preset": "distill"}, "teacher": {"path": str(other)}}

    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["é"] = 1 + max(tokenizer["model"]["vocab"].values())
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match=r"p\.yaml:\d+: stage 'reasoning': teacher\.path = .* is not the policy's"):
        check_vocabularies(plan(written(tmp_path, change)))
