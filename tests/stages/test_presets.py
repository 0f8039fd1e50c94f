"""Each preset has a recipe that runs, on the tiny model, and the documents' table of presets is that of the code."""

import json
import re

import pytest

from groupwise import registry
from groupwise.config import read_recipe
from tests.command import SMALL, groupwise
from tests.project.sources import ROOT

RECIPES = ROOT / "recipes" / "presets"


def test_every_preset_has_its_recipe():
    assert sorted(path.stem for path in RECIPES.iterdir()) == sorted(registry.PRESETS)


@pytest.mark.parametrize("name", list(registry.PRESETS))
def test_the_recipe_of_a_preset_takes_two_steps(name, tmp_path, tiny_folder):
    recipe = RECIPES / f"{name}.yaml"
    assert read_recipe(recipe).objective.preset == name
    several = "update.outputs_per_update=4"  # of 16: the ratio leaves 1
    words = (f"model.path={tiny_folder}", *SMALL, several, "update.steps=2", "questions.heldout_size=0")
    done = groupwise("train", recipe, *words, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 2


def test_the_presets_of_the_documents_are_those_of_the_code():
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    cells = r"^\| `(\w+)` \| `(\w+)` \| `(\w+)` \| `(\w+)` \| ([\d., ]*)\| ([\d.]+) \|"
    told = {row[0]: (*row[1:4], numbers(row[4]), numbers(row[5])) for row in re.findall(cells, text, re.MULTILINE)}
    presets = {name: registry.load(registry.PRESETS, name) for name in registry.PRESETS}
    assert told == {
        name: (row.advantage, row.loss, row.aggregate, [*row.parameters.values()], [row.kl_coef])
        for name, row in presets.items()
    }


def numbers(cell):
    return [float(number) for number in cell.replace(",", " ").split()]
