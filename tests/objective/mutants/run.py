"""Runs the objective's tests against each mutant in one process: `python -m tests.objective.mutants.run`.

Everything but the package and its tests is imported once; each mutant is a fork that imports the package from a copy
with one change in it and calls the test functions one by one until one fails, beginning with the one that noticed the
mutant when `--record` wrote killers.json. A fork compiles the changed file alone: the bytecode of every file lies
beside it and counts as long as it has the hash of its source. Prints one JSON object: name of the mutant (or
"unchanged") -> how it ended.
"""

import functools
import gc
import importlib
import itertools
import json
import os
import py_compile
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

# Imported here, lazy parts of torch among them, so that no fork pays for it.
import hypothesis.strategies  # noqa: F401
import pytest
import torch
import torch.autograd.gradcheck
import torch.fx.experimental.symbolic_shapes
import torch.testing

from tests.objective.mutants.table import MUTANTS

REPOSITORY = Path(__file__).parents[3]
KILLERS = Path(__file__).with_name("killers.json")
"""Name of a mutant -> [test module, test function] that notices it. It saves time: what is not there, or notices
nothing any more, only takes longer."""
MODULES = [
    f"tests.objective.test_{name}"
    for name in (
        "losses",
        "sequence_losses",
        "surrogate",
        "kl",
        "presets",
        "correction",
        "value",
        "gae",
        "token_advantage",
        "per_reward",
        "contracts",
        "advantage_contracts",
        "advantage",
        "logprobs",
        "invariances",
        "policy_gradient",
        "rows_in_expectation",
        "token_rows_in_expectation",
        "off_policy",
    )
]
MODULES.append("tests.model.test_linear_logprobs")
PASSED, KILLED, BROKEN = "passed", "killed", "broken"


def main() -> None:
    sys.dont_write_bytecode = True  # that of a mutant is not to lie there when the next one comes
    torch.set_num_threads(1)
    known = json.loads(KILLERS.read_text(encoding="utf-8")) if KILLERS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "groupwise")
        for name in ("groupwise", "tests"):
            shutil.copytree(REPOSITORY / name, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__"))
        sys.path.insert(0, folder)
        for file in import_and_forget(MODULES):
            place = Path(folder, file.relative_to(REPOSITORY))
            py_compile.compile(str(place), invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
        gc.freeze()  # else a collection in a fork copies every page of what was imported
        results, killers = {"unchanged": outcome(package, MODULES)[0]}, {}
        for mutant in MUTANTS:
            file = package / mutant.file
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
            nearest_first = sorted(MODULES, key=lambda name: file.stem not in name)
            results[mutant.name], killers[mutant.name] = outcome(package, nearest_first, known.get(mutant.name))
            file.write_text(text, encoding="utf-8")
    if "--record" in sys.argv:
        KILLERS.write_text(json.dumps(killers, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(json.dumps(results))


def import_and_forget(names: list[str]) -> list[Path]:
    """Leaves in sys.modules what these import of other packages, and nothing of this repository but this program.

    Returns the files of this repository that were imported.
    """
    for name in names:
        importlib.import_module(name)
    ours = [name for name in sys.modules if name.split(".")[0] in ("groupwise", "tests")]
    files = [Path(file) for name in ours if (file := sys.modules.pop(name).__file__)]
    gc.collect()
    return [file for file in files if file.is_relative_to(REPOSITORY)]


def outcome(package: Path, names: list[str], killer: list[str] | None = None) -> tuple[str, list[str] | None]:
    """passed, killed by a test (which), or broken (it cannot be imported), in a fork that imports this copy of the
    package. killer: the module and the name of a test that is tried first."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        with open(reader, encoding="utf-8") as pipe:
            found = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return (PASSED, KILLED)[status] if status in (0, 1) else BROKEN, json.loads(found) if found else None
    status = 2
    try:
        found_by = killed_by(package, names, killer)
        status = 0 if found_by is None else 1
        os.write(writer, json.dumps(found_by).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def killed_by(package: Path, names: list[str], killer: list[str] | None) -> list[str] | None:
    """The module and the name of the first test that raises; a module is imported when its turn has come."""
    if killer is not None and killer[0] in MODULES and failing(package, killer[0], only=killer[1]):
        return killer
    for name in names:
        if test := failing(package, name):
            return [name, test]
    return None


def failing(package: Path, name: str, *, only: str | None = None) -> str | None:
    """The first test of a module that raises."""
    module = importlib.import_module(name)
    assert Path(sys.modules["groupwise"].__file__ or "").parent == package
    tests = [test for name, test in vars(module).items() if name.startswith("test_") and only in (None, name)]
    for test in sorted(tests, key=lambda test: "finite_differences" in test.__name__):  # by far the slowest
        for call in calls(test):
            try:
                call()
            except (Exception, pytest.fail.Exception):
                return test.__name__
    return None


def calls(function: Callable[..., None]) -> Iterator[Callable[[], None]]:
    """The test once for each combination of its parameters, as pytest would call it."""
    choices = []
    for mark in getattr(function, "pytestmark", []):
        assert mark.name == "parametrize", f"{function} has a mark that this runner does not know: {mark.name}"
        names = [mark.args[0]] if isinstance(mark.args[0], str) else mark.args[0]
        rows = [value if len(names) > 1 else [value] for value in mark.args[1]]
        choices.append([dict(zip(names, row, strict=True)) for row in rows])
    for chosen in itertools.product(*choices):
        yield functools.partial(function, **{name: value for part in chosen for name, value in part.items()})


if __name__ == "__main__":
    main()
