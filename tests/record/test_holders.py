"""Who holds a record locked is named."""

import subprocess
import sys

import pytest

from groupwise.errors import RunError
from groupwise.record import Recorder
from groupwise.record import write as recording
from groupwise.record.holders import holders

HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's list of locks is Linux's")
def test_the_process_that_holds_the_record_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "LOCK_SECONDS", 0.1)
    recorder = Recorder.create(tmp_path / "run", {})
    command = [sys.executable, "-c", HOLD, str(recorder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        recorder._db.execute("PRAGMA busy_timeout = 100")
        with pytest.raises(RunError, match=rf"database is locked by process {other.pid} \(.*python"):
            recorder.set_info("steps", "3")
        other.stdin.close()
    recorder.close()


def test_a_file_that_nobody_holds_or_that_is_not_there_has_no_holders(tmp_path):
    (tmp_path / "file").touch()
    assert holders([tmp_path / "file", tmp_path / "none"]) == []
