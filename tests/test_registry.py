"""Names that a recipe may use: each stands for something that is there."""

import pytest

from groupwise import registry
from groupwise.errors import ConfigError

NAMES = [(table, name) for table, names in sorted(registry.TABLES.items()) for name in sorted(names)]


@pytest.mark.parametrize(("table", "name"), NAMES)
def test_every_name_stands_for_something(table, name):
    assert registry.load(registry.TABLES[table], name) is not None


def test_every_table_can_be_listed():
    tables = {key.lower() for key, value in vars(registry).items() if key.isupper() and isinstance(value, dict)}
    assert tables - {"tables", "sections", "preset_of", "set_by", "values"} == set(registry.TABLES)
    assert registry.SET_BY.keys() == registry.TABLES.keys()


def test_a_wrong_name_is_told_with_the_nearest_and_all_the_known():
    with pytest.raises(ConfigError) as error:
        registry.check({"grpo": "", "dapo": ""}, "grop", "objective.preset")
    assert str(error.value) == "objective.preset = 'grop': no such name; did you mean 'grpo'?; known: dapo, grpo"


def test_without_a_near_name_all_are_told():
    assert registry.nearest("zzz", ["b", "a"]) == "choose from: a, b"
    assert registry.nearest("weigth", ["weight", "name"]) == "did you mean 'weight'?"
