"""One process that forks all runs, and the run that nothing happens to."""

import pytest

from tests.kills.runs import Forker, uninterrupted


@pytest.fixture(scope="session")
def forker(tmp_path_factory, tiny_folder):
    forker = Forker(tmp_path_factory.mktemp("kills"), tiny_folder)
    yield forker
    forker.close()


@pytest.fixture(scope="session")
def whole(forker, tmp_path_factory):
    return uninterrupted(forker, tmp_path_factory.mktemp("whole") / "run")
