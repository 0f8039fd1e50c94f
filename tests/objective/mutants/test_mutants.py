"""The oracle is itself tested: every listed mistake in the objective fails at least one of its tests."""

import json
import os
import subprocess
import sys

import pytest

from tests.objective.mutants.run import KILLED, PASSED, REPOSITORY
from tests.objective.mutants.table import MUTANTS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="one process per mutant needs fork")


def test_each_mutant_changes_exactly_one_place():
    texts = {file: (REPOSITORY / "groupwise" / file).read_text(encoding="utf-8") for file in {m.file for m in MUTANTS}}
    assert [mutant.name for mutant in MUTANTS if texts[mutant.file].count(mutant.old) != 1] == []
    assert [mutant.name for mutant in MUTANTS if mutant.old == mutant.new] == []


def test_every_mutant_is_killed_and_the_unchanged_package_is_not():
    done = subprocess.run(
        [sys.executable, "-m", "tests.objective.mutants.run"],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    results = json.loads(done.stdout)
    assert results.pop("unchanged") == PASSED
    assert {name: end for name, end in results.items() if end != KILLED} == {}, f"not noticed, or broken\n{done.stderr}"
    assert set(results) == {mutant.name for mutant in MUTANTS}
