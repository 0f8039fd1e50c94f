"""A recipe is found by its path, its folder or its name, with the files that it names; what a first run needs."""

import os
import shutil
import sys

import pytest

from groupwise import places
from groupwise.config import read_recipe
from groupwise.datasets.base import load_questions
from groupwise.errors import ConfigError, DataError
from groupwise.recipe_file import read_tree
from groupwise.rewards.adapters import adapt, find
from tests.command import groupwise
from tests.project.sources import ROOT


@pytest.fixture
def elsewhere(tmp_path, monkeypatch, tiny_folder):
    """A folder without the repository, whose path has a blank in it."""
    folder = tmp_path / "some where"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GROUPWISE_CACHE", str(tiny_folder.parent))
    return folder


def test_shipped_recipes_are_found_by_name_from_anywhere(elsewhere):
    assert {"tiny", "demo", "presets/dapo"} <= places.shipped().keys()
    assert "start/recipe" not in places.shipped()
    for name in ("tiny", "presets/dapo", "recipes/tiny.yaml", "tiny.yaml"):
        assert os.path.samefile(
            places.recipe_file(name), ROOT / "recipes" / f"{name.removeprefix('recipes/').removesuffix('.yaml')}.yaml"
        )


@pytest.mark.parametrize("name", sorted(places.shipped()))
def test_the_files_of_a_shipped_recipe_are_found_from_anywhere(elsewhere, name):
    def named(node, key=""):
        if isinstance(node, dict):
            return [file for inner, value in node.items() for file in named(value, inner)]
        if isinstance(node, list):
            return [file for value in node for file in named(value, key)]
        return [node.partition(":")[0]] if key in places.NAMING and isinstance(node, str) else []

    tree = read_tree(places.shipped()[name])
    # what has an ending is a file: Qwen/Qwen2.5-VL-3B-Instruct is a place on the hub
    files = [file for file in named(tree) if os.path.splitext(file)[1][1:].isalnum()]
    assert [file for file in files if not os.path.exists(file)] == []


def test_a_file_of_the_working_folder_comes_before_the_recipes_own(elsewhere):
    (elsewhere / "mine").mkdir()
    recipe = elsewhere / "mine" / "a.yaml"
    recipe.write_text("questions: {source: rows.jsonl}\nmodel: {path: tiny}\nrewards: [{function: 'own.py:right'}]\n")
    for name in ("rows.jsonl", "own.py", "tiny"):
        (elsewhere / "mine" / name).write_text("")
    found = read_tree(recipe.relative_to(elsewhere))
    assert found["questions"]["source"] == "mine/rows.jsonl"
    assert found["rewards"][0]["function"] == "mine/own.py:right"
    assert found["model"]["path"] == "tiny"  # a name, not a file
    (elsewhere / "rows.jsonl").write_text("")
    assert read_tree(recipe)["questions"]["source"] == "rows.jsonl"
    assert read_tree(recipe, ["questions.source=own.py"])["questions"]["source"] == "own.py"  # where it was typed


def test_a_folder_stands_for_the_recipe_in_it_unless_it_is_a_run(elsewhere):
    places.write_start(elsewhere / "mine")
    assert places.recipe_file("mine") == os.path.join("mine", "recipe.yaml")
    (elsewhere / "mine" / "record.sqlite").write_text("")
    with pytest.raises(ConfigError, match=r"recipe 'mine': this is a run; resume it with --run mine --resume"):
        places.recipe_file("mine")
    (elsewhere / "tiny").mkdir()
    with pytest.raises(ConfigError, match=r"recipe 'tiny': a folder without recipe\.yaml"):
        places.recipe_file("tiny")


@pytest.mark.parametrize(
    ("word", "hint"),
    [("tny", "'tiny'"), ("dapo", "'presets/dapo'"), ("recipes/demo.yml2", "'demo'"),
     ("mine/recipes.yaml", "'mine/recipe.yaml'")],
)  # fmt: skip
def test_a_recipe_that_is_not_there_is_answered_with_the_nearest(elsewhere, word, hint):
    places.write_start(elsewhere / "mine")
    with pytest.raises(ConfigError, match=f"did you mean {hint}"):
        places.recipe_file(word)


def test_what_init_writes_is_a_run_that_can_be_trained_from_the_folder_and_from_outside(elsewhere, monkeypatch):
    done = groupwise("init", "my run")
    assert done.out.splitlines() == [
        "wrote questions.jsonl, recipe.schema.json, recipe.yaml, rewards.py in my run",
        "train with: groupwise train 'my run'",
    ]
    words = ("update.steps=1", "rollout.questions_per_step=2", "rollout.group_size=2", "questions.heldout_size=2")
    outside = groupwise("train", "my run", *words)
    assert outside.code == 0, outside.err
    monkeypatch.chdir("my run")
    inside = groupwise("train", *words)
    assert inside.code == 0, inside.err
    [run] = (elsewhere / "my run" / "runs").iterdir()
    assert run.name.startswith("my run-")
    recipe = read_recipe("recipe.yaml")
    for reward in recipe.rewards:
        adapt(find(reward.function), reward.params, reward.function)
    assert len(load_questions(recipe.questions, 0).train) == 80


def test_init_overwrites_nothing_and_takes_a_folder_with_other_files(elsewhere):
    (elsewhere / "notes.txt").write_text("mine")
    assert groupwise("init").code == 0
    (elsewhere / "rewards.py").write_text("my own")
    again = groupwise("init")
    assert again.code == 2
    assert again.err.startswith(
        "error: .: questions.jsonl, recipe.schema.json, recipe.yaml, rewards.py there already; nothing was written"
    )
    assert (elsewhere / "rewards.py").read_text() == "my own"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX folders")
def test_init_says_where_it_cannot_write(elsewhere):
    (elsewhere / "file").write_text("")
    with pytest.raises(DataError, match="file: a file, not a folder"):
        places.write_start(elsewhere / "file")
    with pytest.raises(DataError, match="/dev/null/x: a file, not a folder"):
        places.write_start(places.Path("/dev/null/x"))


def test_a_recipe_with_windows_line_ends_reads_the_same(elsewhere):
    text = (ROOT / "recipes" / "tiny.yaml").read_bytes()
    (elsewhere / "crlf.yaml").write_bytes(text.replace(b"\n", b"\r\n"))
    shutil.copyfile(ROOT / "recipes" / "tiny.yaml", elsewhere / "lf.yaml")
    assert read_tree(elsewhere / "crlf.yaml") == read_tree(elsewhere / "lf.yaml")
