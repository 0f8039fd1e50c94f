"""The sandbox's side within a run: launchers, each of which runs one program after the other. Knows no design."""

import inspect
import marshal
import os
import queue
import select
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from groupwise.sandbox import cgroup, inside, launcher
from groupwise.sandbox.base import Limits, Outcome, SandboxError
from groupwise.sandbox.launcher import END_SECONDS, ENDED, HEADER, REPLY, REQUEST, START_SECONDS

_BOOT = """
import sys
for name, source in zip(("", ".sandbox", ".sandbox.inside", ".sandbox.launcher"), ("", "", *sys.argv[1:])):
    module = sys.modules["groupwise" + name] = type(sys)("groupwise" + name)
    module.SOURCE_TEXT = source
    exec(compile(source, module.__name__, "exec", dont_inherit=True), module.__dict__)
    if name == ".sandbox.inside":
        sys.modules["groupwise.sandbox"].inside = module
module.main()
"""
"""The launcher's code comes in its arguments: it need not be able to read this folder, nor can what it starts."""
_OPTIONS = ("-s", "-S", "-P", "-B")
_MARK = "GROUPWISE_REWARD"
"""By this variable a reward's guard finds what the reward started (groupwise.rewards.guard)."""


class LocalSandbox:
    """Programs on this machine, `slots` of them at once, until `close`. config: what a design says to its launchers,
    given the slot's number."""

    def __init__(self, config: Callable[[int], dict[str, Any]], *, slots: int, memory_mb: int) -> None:
        self._slots = [_Slot(config, number, memory_mb) for number in range(slots)]
        self._idle: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for slot in self._slots:
            self._idle.put(slot)

    def run(self, source: str, stdin: bytes, limits: Limits) -> Outcome:
        """See groupwise.sandbox.base.Sandbox; waits for a slot."""
        slot = self._idle.get()
        try:
            return slot.run(source.encode("utf-8", "surrogatepass"), stdin, limits)
        finally:
            self._idle.put(slot)

    def close(self) -> None:
        """Ends launchers and programs; `run` may be called again, and starts others."""
        for slot in self._slots:
            slot.close()


class _Slot:
    """One launcher and its groups; started when it is first needed, and again after it has died."""

    def __init__(self, config: Callable[[int], dict[str, Any]], number: int, memory_mb: int) -> None:
        self._config, self._number, self._memory_mb = config, number, memory_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: list[str] = []
        self._ending = threading.Lock()

    def run(self, source: bytes, stdin: bytes, limits: Limits) -> Outcome:
        if self._process is None or self._process.poll() is not None:
            self._start()
        memory_mb = min(limits.memory_mb, self._memory_mb)
        head = REQUEST.pack(limits.seconds, limits.wall, memory_mb, limits.output_bytes, len(source))
        waits = limits.wall + START_SECONDS + 2 * END_SECONDS
        try:
            self._send(head + source + stdin, time.monotonic() + waits)
            reply = self._receive(time.monotonic() + waits)
        except BaseException:
            self.close()  # half a message may be under way
            raise
        which, code, seconds, size = REPLY.unpack_from(reply)
        stdout, stderr = reply[REPLY.size : REPLY.size + size], reply[REPLY.size + size :]
        if ENDED[which] == "broken":
            said = " ".join(stderr.decode(errors="replace").split())[-400:]
            raise SandboxError(f"the sandbox did not start a program: {said or 'it said nothing'}")
        return Outcome(ENDED[which], code, stdout, stderr, seconds)  # type: ignore[arg-type]

    def close(self) -> None:
        with self._ending:
            process, self._process = self._process, None
            if process is not None:
                process.kill()
                for pipe in (process.stdin, process.stdout):
                    with suppress(OSError):
                        pipe.close()  # type: ignore[union-attr]
                with suppress(subprocess.TimeoutExpired):
                    process.wait(END_SECONDS)
            cgroup.remove(self._groups)
            self._groups = []

    def __del__(self) -> None:
        if self._process is not None:  # whoever forgets a sandbox leaves no process
            self.close()

    def _start(self) -> None:
        self.close()
        config = self._config(self._number)
        self._groups = cgroup.made(self._number, self._memory_mb)
        environment = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
        environment |= {_MARK: os.environ[_MARK]} if _MARK in os.environ else {}
        try:
            self._process = subprocess.Popen(
                [config["executable"], *_OPTIONS, "-c", _BOOT, *map(inspect.getsource, (inside, launcher))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=environment,
                bufsize=0,
            )
            os.set_blocking(self._process.stdin.fileno(), False)  # type: ignore[union-attr]
            config |= {"cgroups": self._groups, "interpreter": [config["executable"], *_OPTIONS]}
            deadline = time.monotonic() + START_SECONDS
            self._send(marshal.dumps(config), deadline)
            said = self._receive(deadline)
        except (OSError, SandboxError) as error:
            self.close()
            raise SandboxError(f"the sandbox's launcher cannot be started: {error}") from None
        if said != b"+":
            self.close()
            raise SandboxError(f"the sandbox's launcher cannot be started: {said[1:].decode(errors='replace')}")

    def _send(self, message: bytes, deadline: float) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        end = self._process.stdin.fileno()
        data = memoryview(HEADER.pack(len(message)) + message)
        while data:
            _wait(end, select.POLLOUT, deadline)
            try:
                data = data[os.write(end, data[: 1 << 16]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise SandboxError("the sandbox's launcher has ended") from None

    def _receive(self, deadline: float) -> bytes:
        size = HEADER.unpack(self._exactly(HEADER.size, deadline))[0]
        return self._exactly(size, deadline)

    def _exactly(self, size: int, deadline: float) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        found = bytearray()
        while len(found) < size:
            _wait(self._process.stdout.fileno(), select.POLLIN, deadline)
            chunk = os.read(self._process.stdout.fileno(), min(size - len(found), 1 << 20))
            if not chunk:
                raise SandboxError("the sandbox's launcher has ended")
            found += chunk
        return bytes(found)


def _wait(end: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(end, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise SandboxError("the sandbox's launcher does not answer")
