"""Who writes a run, and whether it lives: by a lock where there is one, by a sign of life where there is none."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from groupwise.errors import DataError, RunError
from groupwise.record import Recorder, open_record
from groupwise.record import process as writers
from groupwise.record.process import FILE, hold, living_writer, refuse_living, take_over
from tests.record.recorded_steps import write

ELSEWHERE = {
    "pid": 7,
    "host": "node-3",
    "kernel": "another boot",
    "space": "pid:[1]",
    "began": "5",
    "locked": True,
    "age": 0,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(writers, "WATCH_SECONDS", 0.3)
    monkeypatch.setattr(writers, "LOCK_SECONDS", 0.1)


def left_by(folder, *, seconds_ago=0.0, **fields):
    """The mark of a writer that holds no lock here: of another machine, unless told otherwise."""
    (folder / FILE).write_text(json.dumps({**ELSEWHERE, **fields}))
    os.utime(folder / FILE, (time.time() - seconds_ago,) * 2)


def ours(folder, **fields):
    """What this process would write of itself, changed."""
    held = hold(folder)
    told = json.loads((folder / FILE).read_text())
    held.release()
    return {**told, **fields}


def test_one_process_writes_and_leaves_nothing_behind(tmp_path):
    held = hold(tmp_path)
    writer = living_writer(tmp_path)
    assert (writer.pid, writer.here, writer.locked) == (os.getpid(), True, True)
    with pytest.raises(DataError, match=rf"is being written by process {os.getpid()} on .*sign of life \d+ s ago"):
        hold(tmp_path)
    held.release()
    held.release()
    assert living_writer(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    hold(tmp_path).release()


def test_a_look_takes_no_lock_away_from_a_start(tmp_path):
    stop = threading.Event()

    def look():
        while not stop.is_set():
            living_writer(tmp_path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(20):
            hold(tmp_path).release()
    finally:
        stop.set()
        looking.join()


@pytest.mark.parametrize(
    "change",
    [
        {},  # the very number, and a process that lives: but nobody holds the lock
        {"pid": 1},
        {"pid": 2**22 + 1},
        {"space": "pid:[1]"},  # a container that is gone
        {"locked": False, "began": "1"},  # without locks: another process was given the number
        {"locked": False, "pid": 2**22 + 1},
    ],
)
def test_a_process_of_this_machine_that_is_gone_stands_in_nobodys_way(tmp_path, change, capsys):
    left_by(tmp_path, **ours(tmp_path, **change))
    assert living_writer(tmp_path) is None
    hold(tmp_path).release()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("change", [{}, {"space": "pid:[1]"}])
def test_where_there_are_no_locks_the_process_or_its_sign_of_life_tells(tmp_path, change, monkeypatch):
    left_by(tmp_path, **ours(tmp_path, locked=False, **change))
    monkeypatch.setattr(writers.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(38, "no locks here")))
    beats(tmp_path, monkeypatch)
    with pytest.raises(DataError, match="is being written by process"):
        hold(tmp_path)


def beats(folder, monkeypatch):
    """Every look finds that the writer has given another sign of life."""
    signs = iter(range(1, 1000))
    monkeypatch.setattr(writers, "_changed", lambda path: next(signs))


def test_a_process_on_another_machine_is_watched_for_a_sign_of_life(tmp_path, monkeypatch, capsys):
    left_by(tmp_path, seconds_ago=15)
    hold(tmp_path).release()
    assert "waits 0 s for a sign of life of process 7 on node-3 (last sign of life 15 s ago)" in capsys.readouterr().err
    left_by(tmp_path, seconds_ago=15)
    beats(tmp_path, monkeypatch)
    with pytest.raises(DataError, match=r"is being written by process 7 on node-3 .*add --resume --take-over"):
        hold(tmp_path)


def test_one_whose_last_sign_is_old_is_not_watched(tmp_path, capsys):
    left_by(tmp_path, seconds_ago=3600)
    assert living_writer(tmp_path) is None
    hold(tmp_path).release()
    assert capsys.readouterr().err == ""


def test_a_recent_one_counts_as_alive_for_who_only_looks(tmp_path, monkeypatch):
    left_by(tmp_path)
    assert living_writer(tmp_path).host == "node-3"
    with pytest.raises(DataError, match="node-3"):
        refuse_living(tmp_path)


@pytest.mark.parametrize("told", ["", "{", "[1]", "null", '{"pid": 3}', '{"pid": "x", "more": 1}'])
def test_a_mark_that_says_nothing_whole_stands_in_nobodys_way(tmp_path, told):
    (tmp_path / FILE).write_text(told)
    assert living_writer(tmp_path) is None
    hold(tmp_path).release()


def test_a_sign_of_life_is_given_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "BEAT_SECONDS", 0.02)
    held = hold(tmp_path)
    os.utime(tmp_path / FILE, (0, 0))
    for _ in range(200):
        if (tmp_path / FILE).stat().st_mtime > 0:
            break
        time.sleep(0.02)
    assert living_writer(tmp_path).age < 60
    held.release()


def test_who_was_taken_over_writes_nothing_more(tmp_path):
    first = Recorder.create(tmp_path, {})
    write(first, 0)
    assert take_over(tmp_path).pid == os.getpid()
    second = Recorder.resume(tmp_path, 1)
    for attempt in (lambda: write(first, 1), first.require_ours, first.close):
        with pytest.raises(RunError, match="another process has taken this run over"):
            attempt()
    assert living_writer(tmp_path) is not None  # the first removed nothing of the second's
    write(second, 1)
    second.close()
    with closing(open_record(tmp_path)) as record:
        assert [(row.step, row.attempt) for row in record.outputs(limit=5)] == [(0, 0)] * 4 + [(1, 1)]


def test_the_lock_ends_with_its_process_though_a_program_that_it_started_lives(tmp_path):
    code = (
        "import os, subprocess, sys, time\nfrom pathlib import Path\nfrom groupwise.record.process import hold\n"
        "held = hold(Path(sys.argv[1]))\nleft = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "print(left.pid, flush=True)\ntime.sleep(60)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True, env=env)
    left = int(child.stdout.readline())
    try:
        assert living_writer(tmp_path).pid == child.pid
        child.kill()
        child.wait()
        assert living_writer(tmp_path) is None
        hold(tmp_path).release()
    finally:
        os.kill(left, 9)
        child.stdout.close()


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "run", Path("/proc/run"), tmp_path / ("x" * 300)):
        with pytest.raises(RunError, match=r"writer\.json: .*; free some space or allow writing there, or choose"):
            hold(folder)
