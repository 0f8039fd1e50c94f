"""A sandbox is opened only if it holds, and says what to install if none does."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from groupwise.errors import ConfigError
from groupwise.sandbox import designs
from groupwise.sandbox.base import Limits, Outcome, SandboxError
from groupwise.sandbox.syscalls import ARGUMENTS, assembled, numbers
from tests.sandbox.arena import in_a_child

SHORT = Limits(seconds=2.0, memory_mb=256)


class Open:
    """No sandbox at all, but for what would change this machine."""

    def run(self, source: str, stdin: bytes, limits: Limits) -> Outcome:
        harmless = source.replace("for name, number in calls:", "for name, number in []:")
        done = subprocess.run([sys.executable, "-c", harmless], input=stdin, capture_output=True)
        return Outcome("exit", done.returncode, done.stdout, done.stderr, 0.0)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module", params=list(designs.DESIGNS))
def sandbox(request):
    try:
        opened = designs.open_sandbox(request.param, slots=2, memory_mb=256)
    except ConfigError as error:
        pytest.skip(str(error))
    yield opened
    opened.close()


def test_an_open_sandbox_is_found_out_and_refused(monkeypatch):
    monkeypatch.setattr(designs, "DESIGNS", {"open": lambda slots, memory_mb: Open()})
    with pytest.raises(ConfigError, match=r"a probe got through: read a file outside.*apt install bubblewrap") as error:
        designs.open_sandbox()
    assert all(f"{what}," in str(error.value) for what in ("remove a file outside", "socket AF_INET", "fork"))


def test_where_no_design_works_the_message_says_why_and_what_to_install(monkeypatch):
    monkeypatch.setattr(designs.shutil, "which", lambda name: None)
    monkeypatch.setattr(designs, "landlock_abi", lambda: 3)
    with pytest.raises(ConfigError) as refused:
        designs.open_sandbox()
    assert "bubblewrap is not installed" in str(refused.value)
    assert "this kernel has ABI 3" in str(refused.value)
    with pytest.raises(ConfigError, match="choose from: auto, bubblewrap, landlock"):
        designs.open_sandbox("landlok")


def test_a_program_reads_its_input_and_writes_its_output(sandbox):
    done = sandbox.run("import sys\nprint(int(input()) + 1)\nprint('note', file=sys.stderr)", b"41\n", SHORT)
    assert (done.ended, done.code, done.stdout, done.stderr, done.fault) == ("exit", 0, b"42\n", b"note\n", "")


def test_what_a_program_ends_with_is_told(sandbox):
    runs = {
        "raise ValueError('no')": "exit code 1: ValueError: no",
        "import sys; sys.exit(3)": "exit code 3",
        "import os; os.abort()": "ended by signal 6",
        "def f(:": "exit code 1: SyntaxError: invalid syntax",
        "bytearray(1 << 30)": "exit code 1: MemoryError",
        "import os; os._exit(0)": "",
    }
    assert {source: sandbox.run(source, b"", SHORT).fault for source in runs} == runs


def test_programs_behave_as_by_python_itself(sandbox):
    source = (
        "import atexit, threading, os\natexit.register(print, 'last')\n"
        "threading.Thread(target=lambda: print('thread')).start()\n"
        "print(__name__, os.environ.get('HOME'), {'b', 'a'} == {'a', 'b'}, 'é')\nexit()"
    )
    lines = sandbox.run(source, b"", SHORT).stdout.decode().split("\n")
    assert sorted(lines) == ["", "__main__ None True é", "last", "thread"]
    assert lines[-2] == "last"


def test_much_input_and_much_output_at_once_do_not_block(sandbox):
    data = b"x" * 900_000 + b"\n"
    assert sandbox.run("print(input())", data, SHORT).stdout == data
    assert sandbox.run("pass", data, SHORT).fault == ""  # nobody reads it


def test_runs_do_not_see_each_other(sandbox):
    first = sandbox.run("open('/tmp/left', 'w').write('x')\nimport builtins; builtins.left = 1", b"", SHORT)
    second = sandbox.run(
        "import os, builtins\nprint(os.path.exists('/tmp/left'), hasattr(builtins, 'left'))", b"", SHORT
    )
    assert first.ended == "exit"
    assert second.stdout == b"False False\n"


def test_several_threads_run_programs_at_once(sandbox):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: sandbox.run(f"print({n})", b"", SHORT).stdout, range(20)))
    assert found == [b"%d\n" % n for n in range(20)]


def test_a_launcher_that_dies_fails_its_run_and_is_started_again(sandbox):
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(sandbox.run, "import time; time.sleep(60)", b"", Limits(seconds=60, memory_mb=256))
        deadline = time.monotonic() + 10
        while not hanging.done() and time.monotonic() < deadline:
            for slot in sandbox._slots:
                if slot._process is not None:
                    slot._process.kill()
            time.sleep(0.05)
        with pytest.raises(SandboxError, match="launcher"):
            hanging.result(10)
    assert sandbox.run("print(1)", b"", SHORT).stdout == b"1\n"


@pytest.mark.parametrize("design", designs.DESIGNS)
def test_nothing_survives_its_parent_that_is_killed(design):
    if designs.available().get(design):
        pytest.skip(designs.available()[design])

    def parent_dies():
        import ctypes

        from tests.sandbox.arena import descendants

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        child = os.fork()
        if child == 0:
            sandbox = designs.DESIGNS[design](1, 256)
            threading.Timer(0.6, os.kill, (os.getpid(), signal.SIGKILL)).start()
            sandbox.run("while True: pass", b"", Limits(seconds=60, memory_mb=256))
            os._exit(1)
        status = os.waitpid(child, 0)[1]
        deadline = time.monotonic() + 10
        while descendants() and time.monotonic() < deadline:
            time.sleep(0.02)
        return [os.waitstatus_to_exitcode(status), descendants()]

    assert in_a_child(parent_dies) == [-signal.SIGKILL, []]


def test_the_filter_fits_the_kernel_and_lists_no_call_twice():
    for machine in ("x86_64", "aarch64"):
        found = assembled(machine)
        assert len(found.code) % 8 == 0
        assert len(found.code) // 8 < 4096
        tests = [test for some in ARGUMENTS.values() for test in some]
        assert len(found.pid_places) == sum(0xFFFFFFFF in values for _, _, values in tests)
        calls = numbers(machine)
        assert len(set(calls.values())) == len(calls)
        assert not {"execve", "fork", "vfork", "socket", "sendmsg", "ptrace", "chmod", "memfd_create"} & set(calls)
