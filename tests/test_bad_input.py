"""Input that cannot run: one line with what, where, the value and the remedy, exit code 2, and no weights loaded."""

import json
import os
import re
import shutil
from collections import namedtuple

import pytest
import torch
import transformers

from groupwise import registry
from tests.command import RECIPE, SMALL, groupwise

Usage = namedtuple("Usage", "total used free")
OWN_QUESTIONS = ("questions.params={}", "questions.heldout_size=0")


@pytest.fixture
def no_weights(monkeypatch):
    """Fails the test if weights are read."""
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))


@pytest.fixture
def here(tmp_path, tiny_folder, monkeypatch):
    """A working directory with the model's folder in it as `model`."""
    shutil.copytree(tiny_folder, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*words):
    """The one line that a command was refused with."""
    done = groupwise(*words)
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1, done.err
    return done.err.removeprefix("error: ").rstrip("\n")


def not_trained(*overrides):
    """The one line that a training was refused with; it has left no run behind."""
    line = refused("train", RECIPE, "model.path=model", *SMALL, *overrides, "--run", "run")
    assert not os.path.exists("run")
    return line


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("update.stepps=3", r"tiny\.yaml: update\.stepps: unknown key; did you mean 'steps'\?$"),
        ("update.steps=abc", r"update\.steps = 'abc': give a whole number$"),
        (
            "rollout.group_size=1",
            r"rollout\.group_size = 1: .*'group_relative' .*; a group needs at least 2 outputs to compare, try 8$",
        ),
        ("update.steps=0", r"update\.steps = 0: .*; to measure a model use `groupwise eval`$"),
        ("update.steps", r"override 'update\.steps' is not of the form a\.b=c; for example update\.steps=100$"),
        ("stage=grop", r"stage = 'grop': no such name; choose from: preference, "),
        ("rollout.engine=locl", r"rollout\.engine = 'locl': .*did you mean 'local'\?; known: (.*, )?local"),
        ("objective={preset: sapo, clip_low: 0}", r"objective\.clip_low = 0: the loss 'soft_gate' does not read"),
        ("objective={preset: sapo, tau_neg: 0}", r"objective\.tau_neg = 0: input should be greater than 0$"),
        (
            "objective.loss=mine.py",
            r"objective\.loss = 'mine\.py': a file, .*; name the function too: mine\.py:function$",
        ),
        ("objective.loss=mine.py:f", r"objective\.loss = 'mine\.py:f': no file 'mine\.py'; a path is relative to "),
        ("objective.preset=grop", r"objective\.preset = 'grop': .*'grpo'\?; known: .*dr_grpo"),
        (
            "rewards.0.function=nmber",
            r"rewards\[0\]\.function = 'nmber': .*did you mean 'number'\?; known: answer_tag,",
        ),
        ("questions.source=arithmetc", r"'arithmetc': .*'arithmetic'\?; known: .*reasoning_gym"),
        ("questions.params.levls=[1]", r"questions\.params\.levls = .* no such parameter; did you mean 'levels'\?$"),
        ("questions.template=Answer!", r"questions\.template = 'Answer!': no \{question\} in it"),
        ("questions.heldout_size=500", r"questions\.heldout_size = 500, but .* none would be left to train on; set a"),
        ("rollout.questions_per_step=999", r"questions_per_step = 999, but there are 104 training questions; set it"),
        ("rewards.0.weight=.inf", r"rewards\.0\.weight = inf: input should be a finite number$"),
        ("rewards.1.params.regex=(", r"reward 'one_digit' cannot judge question .*unterminated subpattern.*; give"),
        (
            "rewards.1.params.regx=a",
            r"reward 'pattern': params\.regx: it has no such parameter; did you mean 'regex'\?$",
        ),
        (
            "rollout.max_new_tokens=600",
            r"question 'successor-\S+ has \d tokens; with rollout\.max_new_tokens = 600 .*512",
        ),
        ("run.root=''", r"run\.root: an empty text; give a value, or leave the key out$"),
        ("questions.heldout=''", r"questions\.heldout: an empty text; give a value, or leave the key out$"),
        ("model.device=abacus", r"model\.device = 'abacus': no such device; try auto or cpu$"),
        (
            "model.chat_template=none.jinja",
            r"model\.chat_template = 'none\.jinja': No such file or directory; give the path of a Jinja file$",
        ),
        ("rewards.0.weight=heavy", r"tiny\.yaml: rewards\.0\.weight = 'heavy': give a number$"),
    ],
)
def test_a_wrong_value_in_the_recipe(here, no_weights, override, said):
    assert re.search(said, not_trained(override))


def test_a_broken_chat_template_is_named_by_its_file(here, no_weights):
    (here / "mine.jinja").write_text("{% for message in messages %}")
    said = not_trained("model.chat_template=mine.jinja")
    assert said.startswith("model.chat_template = 'mine.jinja': the chat template refuses messages")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(here, no_weights):
    assert re.search(r"model\.device = 'cuda': .*; try auto or cpu$", not_trained("model.device=cuda"))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ("objective.preset=distill",),
            r"reads a teacher's log-probabilities, .*; add a section teacher with its path$",
        ),
        (
            ("objective.preset=distill", "teacher.path=nowhere"),
            r"teacher\.path = 'nowhere': no such folder or built-in",
        ),
        (("objective.preset=distill", "teacher.path=other"), r"teacher\.path = 'other': its tokenizer is not the pol"),
        (
            ("critic.trunk=own", "objective.preset=grpo"),
            r"critic: .*'group_relative' .*reads no values, .*; set objective\.preset to ppo or a2c",
        ),
        (("objective.preset=ppo", "critic.path=other"), r"critic\.path = 'other': its tokenizer is not"),
        (
            ("examples.source=rows.jsonl",),
            r"examples: stage 'rl' does not read it, sft, reward_model and preference do; drop it$",
        ),
        (
            ("critic.discount=0.9",),
            r"critic: .*'group_relative' .*reads no values, .*to ppo or a2c, or drop the section$",
        ),
        (("critic.lambda=0.9",), r"critic\.lambda: unknown key; did you mean 'gae_lambda'\?$"),
        (
            ("objective.preset=grpo_process",),
            r"'process_supervision' .*reads the rewards of steps, and none of number, o",
        ),
        (
            ("rollout.dynamic_sampling_rounds=2", "rollout.group_size=2"),
            r"dynamic_sampling_rounds = 2 with rollout\.group_size = 2: two ",
        ),
        (("objective.kl_in=both",), r"objective\.kl_in = 'both': input should be 'loss' or 'reward'$"),
    ],
)
def test_a_combination_that_cannot_work(here, no_weights, overrides, said):
    shutil.copytree("model", "other")
    words = (here / "other" / "tokenizer.json").read_text().replace('"z": ', '"\u00e9": ')
    (here / "other" / "tokenizer.json").write_text(words)
    assert re.search(said, not_trained(*overrides))


def test_no_reward_weighs_anything(here, no_weights):
    said = not_trained("rewards.0.weight=0", "rewards.1.weight=0")
    assert said.endswith("rewards: every weight is 0, so no output would be better than another; set one to 1")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.yaml", None, r"recipe 'none\.yaml': no such file, and no shipped recipe has that name; "),
        ("bad.yaml", "a: [1\nb: 2\n", r"recipe bad\.yaml is not YAML: line 2, .*; check that line$"),
        ("words.yaml", "hello", r"recipe words\.yaml holds str, not sections; `groupwise init` writes one$"),
        (".", None, r"recipe '\.': a folder without recipe\.yaml; groupwise init makes one$"),
    ],
)
def test_a_file_that_is_no_recipe(here, name, text, said):
    if text is not None:
        (here / name).write_text(text)
    assert re.search(said, refused("train", name))


@pytest.mark.parametrize(
    ("text", "override", "said"),
    [
        ('{"prompt": "1>", "answer": "2"}\n{"prompt": \n', "", r"rows\.jsonl:2: not JSON: .* column 12: .*; write one"),
        ('{"promp": "1>", "answer": "2"}\n', "", r"rows\.jsonl: no column prompt, .*; columns: promp, answer; name"),
        ("", "", r"'rows\.jsonl': the file is empty; give a file with at least one question$"),
        ('{"prompt": "1>", "answer": null}\n' * 4, "questions.answer_column=answer", r"empty in all 4 rows; fill it"),
        (
            '{"prompt": "1>", "answer": null}\n' * 4,
            "",
            r"reward 'number' cannot judge question 'rows:1': .*no answer to compare with .*; give questions\.answer_c",
        ),
        ('{"prompt": "%s"}\n' % ("1" * 600), "", r"question 'rows:1' has 60\d tokens; .*context of the model, 512 t"),
        (None, "", r"questions 'rows\.jsonl': no such file or folder; give \.jsonl, .*arithmetic"),
    ],
)  # fmt: skip
def test_questions_that_cannot_be_used(here, no_weights, text, override, said):
    if text is not None:
        (here / "rows.jsonl").write_text(text)
    rewards = () if text is None or "null" in text else (r"rewards=[{function: pattern, params: {regex: a}}]",)
    few = ("questions.source=rows.jsonl", *OWN_QUESTIONS, "rollout.questions_per_step=1", *rewards)
    assert re.search(said, not_trained(*few, *([override] if override else [])))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("broken.py:f", r"reward 'broken\.py:f' cannot be imported: .*'nothing_here' .*broken\.py:1\); fix it there"),
        ("fine.py:g", r"reward 'fine\.py:g': fine\.py has no 'g'; choose from: f$"),
        ("none.py:f", r"reward 'none\.py:f': no file 'none\.py'; a path is relative to "),
        ("nothing.here:f", r"reward 'nothing\.here:f': no module named 'nothing'; modules are looked for here"),
    ],
)
def test_a_reward_function_that_cannot_be_used(here, no_weights, function, said):
    (here / "broken.py").write_text("import nothing_here\n")
    (here / "fine.py").write_text("def f(text):\n    return 0.0\n")
    assert re.search(said, not_trained(f"rewards=[{{function: '{function}'}}]"))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", None, r"no config\.json there; give a folder with config\.json"),
        ("config.json", "{", r"not a valid JSON file.*; give a folder"),
        ("config.json", '{"model_type": "abacus"}', r"model type `abacus` but Transformers does not recognize.*; give"),
        ("tokenizer.json", None, r"model\.path = 'model': .*; give a folder"),
        ("chat_template.jinja", None, r"the tokenizer has no chat template; model\.chat_template: a file with"),
    ],
)
def test_a_model_folder_that_is_none(here, no_weights, file, content, said):
    (here / "model" / file).unlink()
    if content is not None:
        (here / "model" / file).write_text(content)
    line = not_trained()
    assert line.startswith("model.path = 'model': ")
    assert re.search(said, line)


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_weights_that_are_damaged(here, damage):
    weights = here / "model" / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    if damage == "cut":
        weights.write_bytes(content[: len(content) // 2])
    assert re.search(r"^model\.path = 'model': .+; ", not_trained())


@pytest.mark.parametrize("name", ["nowhere", "./nowhere", "a/b/c"])
def test_a_model_that_is_nowhere(here, no_weights, name):
    line, known = not_trained(f"model.path={name}"), ", ".join(sorted(registry.MODELS))
    assert line == f"model.path = '{name}': no such folder or built-in model; choose from: {known}"


def test_a_hub_name_without_a_network(here, no_weights, monkeypatch):
    from huggingface_hub import constants

    # As for a user whose network is down: nothing listens at this address, and nobody has asked for offline mode.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    line = not_trained("model.path=someone/something")
    assert re.search(r"^model\.path = 'someone/something': .*connect.*; give a folder", line)
    assert constants.HF_HUB_OFFLINE is True  # else the client would try each file again for a minute


def test_too_little_disk(here, no_weights, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 1000, 1000))
    said = r"^run: not enough disk for 3 checkpoints of 0\.1 GB: [\d,]+ bytes needed, 1,000 free; free some space, keep"
    assert re.search(said, not_trained())


@pytest.mark.parametrize(
    ("kl_coef", "remedy"),
    [
        (0, "use a smaller model$"),
        (0.1, "use a smaller model; objective.kl_coef=0 would take less$"),
    ],
)
def test_too_little_memory(here, no_weights, monkeypatch, kl_coef, remedy):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**18, 0, 10**18))
    config = json.loads((here / "model" / "config.json").read_text())
    config |= {"intermediate_size": 10**11}  # 64 x 10^11 x 4 bytes x 3 matrices x 2 layers: 150 TB
    (here / "model" / "config.json").write_text(json.dumps(config))
    said = r"^not enough memory on cpu: training model needs about [\d,]+\.\d GiB \(weights .*\); .* are free; "
    assert re.search(said + remedy, not_trained("model.device=cpu", f"objective.kl_coef={kl_coef}"))


def test_a_run_directory_that_is_taken(here, no_weights):
    (here / "taken").mkdir()
    (here / "taken" / "file").touch()
    for place in ("taken", "taken/file"):
        line = refused("train", RECIPE, *SMALL, "--run", place)
        assert line == f"--run {place}: it exists and is not an empty folder; give another name"
    (here / "taken" / "record.sqlite").write_text("something")
    line = refused("train", RECIPE, *SMALL, "--run", "taken")
    assert line == "--run taken: a run is there already; add --resume to continue it, or give another name"


def test_a_run_directory_that_cannot_be_made(here, no_weights):
    (here / "file").touch(mode=0o777)
    line = refused("train", RECIPE, *SMALL, "--run", "file/run")
    assert line == f"--run file/run: {here}/file is not a folder that can be written to; give another place"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_directory_that_may_not_be_written_to(here, no_weights):
    (here / "locked").mkdir(mode=0o500)
    assert "locked is not a folder that can be written to" in refused("train", RECIPE, *SMALL, "--run", "locked/run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["train"],
            "train: no recipe given, and no recipe.yaml here; `groupwise init` creates one, `groupwise train tiny` "
            "uses a shipped one; or add --run DIR --resume",
        ),
        (["train", RECIPE, "--resume"], "--resume without --run: which run?; see `groupwise runs`"),
        (["train", "--run", "none", "--resume"], "--run none: no run there to resume; see `groupwise runs`"),
        (
            ["train", RECIPE, "--run", "none", "--resume"],
            "--run none: no run there to resume; leave --resume out to start one",
        ),
        (["list", "reward"], "list 'reward': no such table; did you mean 'rewards'?"),
        (["eval", "."], ".: neither a run directory nor a recipe; see `groupwise runs`"),
        (
            ["eval", RECIPE, "questions.heldout_size=0"],
            "questions.heldout_size = 0: nothing to evaluate on; set it to 200, for example, or name questions with "
            "--questions",
        ),
        (
            ["runs", "model/config.json"],
            "model/config.json: a file, not a folder with runs; see `groupwise runs model`",
        ),
        (["eval", RECIPE, "--out="], "--out: an empty text; give a value, or leave it out"),
        (["train", RECIPE, "--run", ""], "--run: an empty text; give a value, or leave it out"),
        (["init", ""], "init: an argument: an empty text; give a value, or leave it out"),
        (["sample", "model", "  "], "the question is empty; give some text"),
    ],
)
def test_a_command_that_cannot_be_followed(here, no_weights, words, said):
    assert refused(*words) == said


def test_a_question_longer_than_the_context(here):
    line = refused("sample", "model", "1" * 600)
    assert re.search(
        r"^the question's 60\d tokens and --max-new-tokens 128 are more than the model's context of 512;", line
    )


def test_a_run_without_a_checkpoint_cannot_be_evaluated(here):
    assert groupwise("train", RECIPE, "model.path=model", *SMALL, "update.steps=1", "--run", "run").code == 0
    shutil.rmtree("run/checkpoints")
    assert refused("eval", "run") == "run: the run has no checkpoint yet; give its recipe to evaluate the base model"
