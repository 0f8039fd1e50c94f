"""Text from outside cannot command a terminal; a stream whose reader has left is no error."""

import io
import os
import subprocess
import sys

import pytest

from groupwise.strict_json import json_text
from groupwise.terminal import Outlet, printable, quoted, safe_streams
from tests.project.sources import ROOT


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("\x9b31m red", r"\x9b31m red"),
        ("right\rwrong", r"right\rwrong"),
        ("\x08\x7f\x00", r"\x08\x7f\x00"),
        ("abc \u202egnp.exe\u2066", r"abc \u202egnp.exe\u2066"),
        ("a\u200bb\ufeff\u2028", r"a\u200bb\ufeff\u2028"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("two\nlines\tand ü, 数, עברית, 🙂", "two\nlines\tand ü, 数, עברית, 🙂"),
    ],
)
def test_what_commands_a_terminal_is_shown_as_python_writes_it(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize("name", ["plain", "two words", "it's", "esc\x1b[2J", "line\nbreak", "ü\x07'\\"])
def test_a_path_in_a_command_is_read_by_the_shell_as_it_was(name):
    done = subprocess.run(["bash", "-c", f"printf %s {quoted(name)}"], capture_output=True, check=True)
    assert done.stdout == os.fsencode(name)
    assert printable(quoted(name)) == quoted(name)


def test_json_keeps_its_meaning_and_commands_nothing():
    text = json_text({"said": "\x1b[1m \x9b \u202e ü"})
    assert printable(text) == text
    assert r"\u009b \u202e ü" in text


class Gone(io.StringIO):
    """A stream whose reader has left."""

    def write(self, text):
        raise BrokenPipeError


def test_a_lost_reader_of_stderr_is_no_error():
    outlet = Outlet(Gone(), printable)
    assert outlet.write("lost") == 4
    outlet.writelines(["also", "lost"])
    outlet.flush()


def test_prints_are_printable_and_rich_keeps_its_own_codes(monkeypatch):
    from rich.console import Console

    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with safe_streams():
        print("a\x1b[31m")
        print("b\x1b[31m", file=sys.stderr)
        Console(stderr=True, force_terminal=True).print("[bold]bold")
    assert out.getvalue() == "a\\x1b[31m\n"
    assert err.getvalue().startswith("b\\x1b[31m\n\x1b[1mbold")
    assert sys.stdout is out


CLOSED = """
import os, sys
for number in (1, 2): os.close(number)
sys.stdout = sys.stderr = None
from groupwise.terminal import safe_streams
with safe_streams():
    print("nowhere"); print("nowhere", file=sys.stderr)
    file = open(sys.argv[1], "w")
    file.write(str(file.fileno())); file.flush()
    os.write(2, b"what C code says")
    import subprocess
    child = "import os; os.write(1, b'x'); os.write(2, b'x')"
    assert subprocess.run([sys.executable, "-c", child], stdout=2).returncode == 0
"""


def test_no_file_takes_the_number_of_a_stream_that_is_closed(tmp_path):
    command = [sys.executable, "-c", CLOSED, tmp_path / "file"]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0
    assert int((tmp_path / "file").read_text()) > 2
