"""The JSON Schema of recipes and pipelines, by which editors complete and check them."""

import json
import re
from functools import cache

import jsonschema
import pytest
import yaml

from groupwise.places import MODELINE
from tests.command import groupwise
from tests.project.sources import ROOT

FILES = sorted((ROOT / "recipes").rglob("*.yaml"))


@pytest.mark.parametrize(
    ("file", "words"),
    [("recipes/start/recipe.schema.json", ["schema"]), ("recipes/pipeline.schema.json", ["schema", "--pipeline"])],
)
def test_the_schema_beside_the_recipes_is_the_commands(file, words):
    assert (ROOT / file).read_text() == groupwise(*words).out, f"groupwise {' '.join(words)} > {file}"


def test_every_shipped_recipe_names_its_schema_and_is_valid_by_it():
    for path in FILES:
        first = path.read_text().splitlines()[0]
        if path.parent.name == "start":  # `groupwise init` copies both
            assert first == f"{MODELINE} $schema=recipe.schema.json"
        validator((path.parent / re.fullmatch(rf"{MODELINE} \$schema=(\S+)", first)[1]).resolve()).validate(read(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rollout": {"group_sise": 8}}, "group_sise"),
        ({"rollout": {"group_size": 0}}, "less than the minimum"),
        ({"stage": "sft"}, "is not valid"),
    ],
)
def test_what_is_no_recipe_is_not_valid(change, said):
    with pytest.raises(jsonschema.ValidationError) as error:
        validator(ROOT / "recipes/start/recipe.schema.json").validate(
            {**read(ROOT / "recipes" / "tiny.yaml"), **change}
        )
    assert said in str(error.value) + str(error.value.context)


@cache
def validator(path):
    """By the schema in a file, which is one."""
    schema = json.loads(path.read_text())
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


def read(path):
    """As an editor reads YAML 1.2: `1e-3` is a number, which PyYAML takes for a text."""
    text = re.sub(r"(?<![\w.])(\d+)(e-?\d+)", r"\1.0\2", path.read_text())
    text = re.sub(r"(\d\.\d+e)(\d)", r"\1+\2", text)
    return yaml.safe_load(text)
