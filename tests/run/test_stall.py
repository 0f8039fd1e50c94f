"""A run that stands still shows where, and goes on; one that moves leaves nothing behind."""

import time

from groupwise.run.stall import FILE, watched


def wait_for(path, text):
    for _ in range(500):
        if path.exists() and text in path.read_text():
            return True
        time.sleep(0.01)
    return False


def test_the_stacks_of_a_run_that_stands_still_are_in_its_folder(tmp_path, capsys):
    with watched(tmp_path, 0.05) as beat:
        beat("step 3")
        assert wait_for(tmp_path / FILE, "test_the_stacks_of_a_run")
        for _ in range(500):
            if "no progress in step 3 for 0.05 s" in capsys.readouterr().err:
                break
            time.sleep(0.01)
        else:
            raise AssertionError("nothing was said")
    assert (tmp_path / FILE).exists()


def test_a_run_that_moves_leaves_no_file(tmp_path, capsys):
    with watched(tmp_path, 60) as beat:
        beat("step 1")
    with watched(tmp_path, 0) as beat:
        beat("step 1")
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""
