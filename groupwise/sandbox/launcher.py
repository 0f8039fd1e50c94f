"""The process that starts programs and ends them. Holds nothing that a program must not see: no environment, no secret.

It is the parent of every program, and minimal for that reason: bubblewrap's first process keeps the environment of its
parent, and what Landlock confines is forked from here. Requests come in on standard input and outcomes go out on
standard output, one after the other; once either is closed it kills what runs and ends.
"""

import ctypes
import marshal
import math
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from groupwise.sandbox import inside

HEADER = struct.Struct(">I")
REQUEST = struct.Struct(">ddIII")
"""Seconds of the processor, and by the clock; MiB of memory; bytes of output, of source. Source and input follow."""
REPLY = struct.Struct(">BidI")
"""Which of ENDED; exit code or signal; seconds; bytes of standard output. Output and errors follow."""
ENDED = ("exit", "signal", "time", "output", "broken")
"""broken: the sandbox failed before it was given the program; the errors say why."""
START_SECONDS, END_SECONDS = 20.0, 10.0
_DISK_BYTES, _DISK_FILES, _FILES = 16 << 20, 1024, 64
_CREATE_RULESET, _ADD_RULE, _PATH_BENEATH = 444, 445, 1
_READ_FILE, _WRITE_FILE, _READ_FOLDER = 1 << 2, 1 << 1, 1 << 3
_ALL_FILES, _ALL_NET, _ALL_SCOPES = (1 << 16) - 1, 3, 3
_BOOT = "import marshal; pipe = open(3, 'rb'); exec(marshal.load(pipe)); main(marshal.load(pipe), pipe)"


@dataclass(frozen=True)
class _Ends:
    """A run's pipes, the launcher's ends: the program and its standard input go in, the others come out."""

    pid: int
    source: int
    stdin: int
    status: int
    stdout: int
    stderr: int


def rules_of(config: dict[str, Any], seconds: float, memory_mb: int) -> dict[str, Any]:
    """What `inside.confine` does, as plain values. config: see groupwise.sandbox.local."""
    cpu, landlock = math.ceil(seconds), config["design"] == "landlock"
    limits = {
        "RLIMIT_AS": memory_mb << 20,
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0 if landlock else _DISK_BYTES,
        "RLIMIT_NOFILE": _FILES,
        "RLIMIT_NPROC": config["threads"],
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_SIGPENDING": 64,
        "RLIMIT_NICE": 0,
        "RLIMIT_RTPRIO": 0,
    }
    return {
        "uid": config["uid"],
        "folder": "/" if landlock else "/tmp",
        "tmpfs": "" if landlock else f"size={_DISK_BYTES},nr_inodes={_DISK_FILES}",
        "limits": [("RLIMIT_CPU", (cpu, cpu + 1)), *((name, (value, value)) for name, value in limits.items())],
        "filter": config["filter"],
        "pid_places": config["pid_places"],
        "path": config["path"],
        "parent": os.getpid() if landlock else 0,
        "ruleset": config.get("ruleset"),
        "preloaded": landlock,
    }


def main() -> None:
    """Serves its parent until that closes a pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while (
        spare := os.open("/dev/null", os.O_RDWR)
    ) < 10:  # 3 to 9 are taken, so that no pipe lies where a run's belong
        pass
    os.close(spare)
    config = marshal.loads(_received())
    try:
        for place in config["cgroups"]:
            with open(os.path.join(place, "cgroup.procs"), "w") as file:
                file.write(str(os.getpid()))
        if config["design"] == "landlock":
            config["ruleset"] = _ruleset(config["readable"], config["writable"])
            _preload()
        else:
            code = compile(inside.SOURCE_TEXT, "<sandbox>", "exec", dont_inherit=True)  # type: ignore[attr-defined]
            config["boot"] = marshal.dumps(code)
    except OSError as error:
        _send(b"-" + str(error).encode())
        return
    _send(b"+")
    start = _forked if config["design"] == "landlock" else _wrapped
    while True:
        request = _received()
        seconds, wall, memory_mb, output, size = REQUEST.unpack_from(request)
        source, stdin = request[REQUEST.size : REQUEST.size + size], request[REQUEST.size + size :]
        _send(_run(start, config, rules_of(config, seconds, memory_mb), source, stdin, wall, output))


def _preload() -> None:
    """What programs and their harnesses import most: forked with the launcher, it costs a run nothing."""
    import collections  # noqa: F401
    import functools  # noqa: F401
    import heapq  # noqa: F401
    import itertools  # noqa: F401
    import json  # noqa: F401
    import math  # noqa: F401
    import re  # noqa: F401
    import threading  # noqa: F401
    import typing  # noqa: F401

    ctypes.CDLL(None)


def _ruleset(readable: list[str], writable: list[str]) -> int:
    """A Landlock ruleset that refuses every file, TCP port, abstract socket and signal but what is listed."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    handled = struct.pack("=QQQ", _ALL_FILES, _ALL_NET, _ALL_SCOPES)
    ruleset = libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "Landlock: " + os.strerror(ctypes.get_errno()))
    for place in [*readable, *writable]:
        end = os.open(place, os.O_PATH | os.O_CLOEXEC)
        rights = _READ_FILE | (_READ_FOLDER if os.path.isdir(place) else 0) | (_WRITE_FILE if place in writable else 0)
        rule = struct.pack("=Qi", rights, end)
        if libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0):
            raise OSError(ctypes.get_errno(), f"Landlock: {place}: {os.strerror(ctypes.get_errno())}")
        os.close(end)
    return int(ruleset)


def _forked(config: dict[str, Any], rules: dict[str, Any], ends: tuple[int, ...]) -> tuple[int, bytes]:
    """Forks the program's process; what is to be sent to it before the program: nothing."""
    pid = os.fork()
    if pid:
        return pid, b""
    status = 70
    try:
        os.setsid()
        for number, end in enumerate(ends):
            os.dup2(end, number)
        os.dup2(rules["ruleset"], 5)
        os.closerange(6, 1 << 20)
        _score_for_oom()
        inside.main({**rules, "ruleset": 5}, open(inside.SOURCE, "rb"))  # noqa: SIM115
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def _wrapped(config: dict[str, Any], rules: dict[str, Any], ends: tuple[int, ...]) -> tuple[int, bytes]:
    """Starts bubblewrap with an interpreter in it; what is to be sent to it first: code to be confined by."""
    words = [*config["bubblewrap"], *config["interpreter"], "-c", _BOOT]
    moves = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate(ends)]
    environment = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
    pid = os.posix_spawn(words[0], words, environment, file_actions=moves)
    return pid, config["boot"] + marshal.dumps(rules)


def _score_for_oom() -> None:
    """If memory is short, the program goes and not the launcher."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass


def _run(
    start: Callable[..., tuple[int, bytes]],
    config: dict[str, Any],
    rules: dict[str, Any],
    source: bytes,
    stdin: bytes,
    seconds: float,
    output: int,
) -> bytes:
    """One program from its start to its end, as a reply."""
    pairs = [os.pipe() for _ in range(5)]
    stdin_pipe, stdout_pipe, stderr_pipe, source_pipe, status_pipe = pairs
    theirs = (stdin_pipe[0], stdout_pipe[1], stderr_pipe[1], source_pipe[0], status_pipe[1])
    try:
        pid, first = start(config, rules, theirs)
    except OSError as error:
        for end in (end for pair in pairs for end in pair):
            os.close(end)
        return REPLY.pack(ENDED.index("broken"), 0, 0.0, 0) + f"{error}".encode()
    for end in theirs:
        os.close(end)
    ends = _Ends(pid, source_pipe[1], stdin_pipe[1], status_pipe[0], stdout_pipe[0], stderr_pipe[0])
    return _Watch(ends, {ends.source: first + source, ends.stdin: stdin}, seconds, output).reply()


class _Watch:
    """One run as its launcher sees it: bytes go in and come out until it ends or a limit is reached."""

    def __init__(self, ends: _Ends, incoming: dict[int, bytes], seconds: float, output: int) -> None:
        self._ends, self._output, self._seconds = ends, output, seconds
        self._incoming = {end: memoryview(data) for end, data in incoming.items()}
        self._taken: dict[int, bytearray] = {end: bytearray() for end in (ends.stdout, ends.stderr, ends.status)}
        self._poll = select.poll()
        for end in (*self._incoming, *self._taken):
            os.set_blocking(end, False)
            self._poll.register(end, select.POLLOUT if end in self._incoming else select.POLLIN)
        self._poll.register(0, 0)  # the parent closing its end
        self._open = {*self._incoming, *self._taken}
        self._process = os.pidfd_open(ends.pid)
        self._poll.register(self._process, select.POLLIN)
        self._open.add(self._process)
        self._killed = ""

    def reply(self) -> bytes:
        """The outcome, once nothing of the run is left."""
        begun = time.monotonic()
        deadline = begun + START_SECONDS
        confined = 0.0
        while (self._taken.keys() | {self._process}) & self._open:
            self._step(deadline)
            if not confined and self._taken[self._ends.status]:
                confined = time.monotonic()
                deadline = confined + self._seconds
            if time.monotonic() > deadline:
                if self._killed:
                    os._exit(1)  # what was killed does not end: the parent hears that the launcher is gone
                self._kill("time")
                deadline = time.monotonic() + END_SECONDS
            elif len(self._taken[self._ends.stdout]) > self._output and not self._killed:
                self._kill("output")
                deadline = time.monotonic() + END_SECONDS
        for end in list(self._open):
            self._close(end)
        _, status = os.waitpid(self._ends.pid, 0)
        return self._packed(status, confined, time.monotonic() - (confined or begun))

    def _packed(self, status: int, confined: float, seconds: float) -> bytes:
        stdout, stderr = (bytes(self._taken[end][: self._output]) for end in (self._ends.stdout, self._ends.stderr))
        code = os.waitstatus_to_exitcode(status)
        signalled = -code if code < 0 else code - 128 if code > 128 else 0  # bubblewrap tells a signal as 128 + it
        if not confined:
            ended = "broken"
        else:
            late = signalled == signal.SIGXCPU
            ended = self._killed or ("time" if late else "signal" if signalled else "exit")
        return REPLY.pack(ENDED.index(ended), signalled or code, seconds, len(stdout)) + stdout + stderr

    def _step(self, deadline: float) -> None:
        for end, event in self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000 + 1):
            if end == 0:
                self._kill("time")
                os._exit(0)
            if end == self._process:
                self._close(end)
            elif end in self._incoming:
                self._feed(end)
            elif event:
                self._drain(end)

    def _feed(self, end: int) -> None:
        try:
            data = self._incoming[end]
            self._incoming[end] = data[os.write(end, data[: 1 << 16]) :] if data else data
        except BlockingIOError:
            return
        except BrokenPipeError:  # the program does not read it
            self._incoming[end] = memoryview(b"")
        if not self._incoming[end]:
            self._close(end)

    def _drain(self, end: int) -> None:
        try:
            chunk = os.read(end, 1 << 16)
        except BlockingIOError:
            return
        if not chunk:
            self._close(end)
        elif len(self._taken[end]) <= self._output:  # of what is beyond, nothing is kept
            self._taken[end] += chunk

    def _close(self, end: int) -> None:
        self._poll.unregister(end)
        self._open.discard(end)
        os.close(end)

    def _kill(self, why: str) -> None:
        self._killed = why
        os.kill(self._ends.pid, signal.SIGKILL)  # a zombie at least: it is waited for later


def _received() -> bytes:
    """The next message; ends the process once there is none."""
    size = HEADER.unpack(_exactly(HEADER.size))[0]
    return _exactly(size)


def _exactly(size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        chunk = os.read(0, min(size - len(found), 1 << 20))
        if not chunk:
            os._exit(0)
        found += chunk
    return bytes(found)


def _send(message: bytes) -> None:
    data = memoryview(HEADER.pack(len(message)) + message)
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    sys.exit("started by groupwise.sandbox.local")
