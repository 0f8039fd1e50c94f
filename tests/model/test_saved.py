"""Which checkpoint of a run is used: the newest that is sound, or the best."""

import json
import shutil

import pytest

from groupwise.errors import CheckpointError
from groupwise.model.checkpoint import checkpoint_folder, prune
from groupwise.model.manifest import write_manifest
from groupwise.model.saved import Best, best_checkpoint, best_of, mark_best, sound_checkpoint


def made(run, *steps):
    """Checkpoints that hold what is looked at here: a file of weights, the state, the list of both."""
    for step in steps:
        folder = checkpoint_folder(run, step)
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(bytes(range(200)))
        (folder / "state.json").write_text(json.dumps({"step": step}))
        write_manifest(folder)
    return [checkpoint_folder(run, step) for step in steps]


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def truncated(folder):
    (folder / "model.safetensors").write_bytes(bytes(range(199)))


def flipped(folder):
    (folder / "model.safetensors").write_bytes(bytes([1, *range(1, 200)]))


def gone(folder):
    (folder / "state.json").unlink()


def replaced_by_a_folder(folder):
    (folder / "state.json").unlink()
    (folder / "state.json").mkdir()


def without_a_list(folder):
    (folder / "manifest.json").unlink()


def with_a_list(text):
    def damage(folder):
        (folder / "manifest.json").write_text(text)

    damage.__name__ = f"listed as {text[:12]}"
    return damage


def another_state(folder):
    (folder / "state.json").write_text("[1, 2]")
    write_manifest(folder)


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGES = [
    *(truncated, flipped, gone, replaced_by_a_folder, without_a_list, another_state, emptied),
    *(with_a_list(text) for text in ("[1, 2]", "7", "null", '{"a": 3}', '{"a": {"bytes": "x"}}', "{", "[" * 9999, "")),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_the_one_before_a_damaged_checkpoint_is_used_and_the_damage_named(tmp_path, damage, capsys):
    before, newest = made(tmp_path, 4, 6)
    damage(newest)
    assert sound_checkpoint(tmp_path) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"damaged checkpoint left out: {newest}")
    assert line.endswith(f"; using {before}")
    assert names(tmp_path) == ["step-000004", "step-000006"]  # a reader changes nothing
    assert sound_checkpoint(tmp_path, set_aside=True) == before
    assert names(tmp_path) == ["damaged-step-000006", "step-000004"]


def test_several_damaged_ones_are_named_each(tmp_path, capsys):
    _, *damaged = made(tmp_path, 2, 4, 1000000)
    for folder in damaged:
        truncated(folder)
    assert sound_checkpoint(tmp_path, set_aside=True) == checkpoint_folder(tmp_path, 2)
    assert [line.count("model.safetensors") for line in capsys.readouterr().err.splitlines()] == [1, 1]
    assert names(tmp_path) == ["damaged-step-000004", "damaged-step-1000000", "step-000002"]
    made(tmp_path, 4)
    truncated(checkpoint_folder(tmp_path, 4))
    sound_checkpoint(tmp_path, set_aside=True)
    assert "damaged-step-000004-1" in names(tmp_path)


def test_without_a_sound_one_there_is_one_line(tmp_path):
    assert sound_checkpoint(tmp_path) is None
    for folder in made(tmp_path, 2, 4):
        truncated(folder)
    with pytest.raises(CheckpointError, match=r"step-000004/model.safetensors: .*none of the 2 checkpoint\(s\)"):
        sound_checkpoint(tmp_path)


def test_the_best_is_kept_beside_the_newest(tmp_path):
    assert best_checkpoint(tmp_path) is None
    made(tmp_path, 1, 2, 3, 4)
    mark_best(tmp_path, Best(2, "accuracy", 0.5))
    prune(tmp_path, 1, spare=best_checkpoint(tmp_path))
    assert names(tmp_path) == ["best.json", "step-000002", "step-000004"]
    assert best_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 2)
    assert best_of(tmp_path) == Best(2, "accuracy", 0.5)
    assert sound_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 4)


@pytest.mark.parametrize("text", ["", "[1]", '{"step": 2}', '{"step": "x", "metric": "a", "value": 1}'])
def test_a_damaged_note_of_the_best_is_none(tmp_path, text):
    made(tmp_path, 2)
    (tmp_path / "checkpoints" / "best.json").write_text(text)
    assert best_checkpoint(tmp_path) is None
