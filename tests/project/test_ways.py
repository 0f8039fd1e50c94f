"""The two ways through the code in docs/architecture.md: as long as it says, each file opened from one before it."""

import ast
import re

import pytest

from tests.project.documents import text_of
from tests.project.layers import _imports
from tests.project.sources import package_sources

SOURCES = package_sources()
GRADIENT, CLIP = "From a question to its gradient", "From `objective.clip_high` to the line that uses it"
BESIDE = {
    "check_rewards",
    "finish_step",
    "with_coefficients",
    "expected_agreement",
    "reference_is_due",
    "renew_reference",
}
"""What the page of a step calls that is on no way from a question to its gradient."""
AT_RUN_TIME = {"run/resolve.py", "engines/local.py", "objective/advantage.py", "objective/losses.py"}
"""Files to which a recipe leads, and no import: resolve.py reads it, and it names the functions of the others."""


def way(beginning: str) -> list[str]:
    """The files that the page lists behind this beginning, as many as it says."""
    paragraph = next(part for part in text_of("docs/architecture.md").split("\n\n") if part.startswith(beginning))
    [(count, listed)] = re.findall(r"you open (\d+) files: (.*?)\.(?:\s|$)", paragraph, re.DOTALL)
    files = re.findall(r"`([\w/]+\.py)`", listed)
    assert len(set(files)) == len(files) == int(count)
    return files


def module(file: str) -> str:
    return "groupwise." + file.removesuffix(".py").replace("/", ".")


def opened_from(file: str) -> set[str]:
    """The files whose names this one imports."""
    names = _imports(module(file), SOURCES[module(file)])
    return {name.rpartition(".")[0].removeprefix("groupwise.").replace(".", "/") + ".py" for name in names}


@pytest.mark.parametrize(("beginning", "most"), [(GRADIENT, 14), (CLIP, 6)])
def test_a_way_is_as_short_as_the_page_says_and_each_file_is_reached(beginning, most):
    files = way(beginning)
    assert len(files) <= most
    for number, file in enumerate(files[1:], 1):
        reached = any(file in opened_from(before) for before in files[:number])
        assert reached or file in AT_RUN_TIME, f"no file before {file} imports it"


def test_all_that_the_page_of_a_step_calls_for_a_gradient_is_on_the_way():
    tree = ast.parse(SOURCES["groupwise.stages.rl"])
    homes = {
        alias.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    [page] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "rl_step"]
    called = {
        name.id
        for node in ast.walk(page)
        if isinstance(node, ast.Call)
        for name in ast.walk(node.func)
        if isinstance(name, ast.Name) and homes.get(name.id, "").startswith("groupwise.")
    }
    files = {module(file) for file in way(GRADIENT)}
    assert called >= BESIDE, "no longer called"
    assert {name for name in called - BESIDE if homes[name] not in files} == set()


def test_the_clip_is_a_key_at_one_end_and_used_at_the_other():
    first, reader, *_, last = way(CLIP)
    assert "    clip_high: float | None" in SOURCES[module(first)]
    assert "config: ObjectiveConfig" in SOURCES[module(reader)]
    assert re.search(r"clamp\(.*clip_high\)|1 \+ clip_high", SOURCES[module(last)])
