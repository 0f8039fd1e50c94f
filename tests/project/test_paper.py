"""Every name in docs/paper.md exists, so that a reader who looks for it finds it."""

import importlib
import importlib.util
import inspect
import re
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from tests.project.sources import ROOT

TEXT = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(groupwise(?:\.\w+)+)`", TEXT)))
ARGUMENTS = sorted(set(re.findall(r"`(\w+)` of `(groupwise(?:\.\w+)+)`", TEXT)))
SYMBOLS = re.findall(r"^\| (\$.+?) \|[^|]+\|([^|]+)\|", TEXT, flags=re.MULTILINE)


def named(dotted: str) -> Any:
    """What a dotted name means: a module, what it holds, or a field of what it holds. Raises LookupError if nothing."""
    first, *rest = dotted.split(".")
    path, found = first, importlib.import_module(first)
    for name in rest:
        path = f"{path}.{name}"
        if inspect.ismodule(found) and not hasattr(found, name) and importlib.util.find_spec(path):
            found = importlib.import_module(path)
        else:
            found = _held_by(found, name, path)
    return found


def _held_by(owner: Any, name: str, path: str) -> Any:
    if name in getattr(owner, "model_fields", {}):
        return owner.model_fields[name]
    if is_dataclass(owner) and name in {field.name for field in fields(owner)}:
        return name
    if hasattr(owner, name):
        return getattr(owner, name)
    raise LookupError(f"{path} does not exist")


@pytest.mark.parametrize("dotted", NAMES)
def test_the_name_exists(dotted):
    named(dotted)


@pytest.mark.parametrize(("argument", "function"), ARGUMENTS)
def test_the_argument_exists(argument, function):
    assert argument in inspect.signature(named(function)).parameters


def test_every_symbol_has_a_name():
    assert len(SYMBOLS) == 14
    assert all("`groupwise." in here for _, here in SYMBOLS)


@pytest.mark.parametrize(
    "wrong", ["groupwise.nothing", "groupwise.data.Output.token", "groupwise.config.RolloutConfig.num_generations"]
)
def test_the_check_finds_wrong_names(wrong):
    with pytest.raises(LookupError, match="does not exist"):
        named(wrong)
