"""Files that are there whole or not at all: a failure at any moment leaves what was there."""

import os

import pytest

from groupwise.atomic import write_whole


def test_what_is_written_replaces_what_was_there_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    write_whole(path, "old, and longer")
    write_whole(path, "né\r\n")
    assert path.read_bytes() == b"n\xc3\xa9\r\n"  # UTF-8, and line ends as they are
    write_whole(path, b"\xff\x00")
    assert path.read_bytes() == b"\xff\x00"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_file_that_could_not_be_written_leaves_the_old_one(tmp_path, monkeypatch, where):
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    monkeypatch.setattr(os, where, lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_whole(path, "new")
    assert path.read_text() == "old"


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    seen, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (seen.append(sorted(os.listdir(tmp_path))), sync(file)))
    write_whole(tmp_path / "a.txt", "new")
    assert seen == [[".a.txt.partial"], ["a.txt"]]  # the file, and then the folder that names it
