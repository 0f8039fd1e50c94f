"""The parent's side of a reward function's process: starts it, asks it, kills it when it is late, starts it again."""

import json
import os
import pickle
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from groupwise.data import Part
from groupwise.errors import RewardError
from groupwise.rewards.forms import Scored, by_questions
from groupwise.rewards.guard import MARK
from groupwise.rewards.host import Terms
from groupwise.rewards.verdicts import Verdict
from groupwise.rewards.worker import HEADER, packed

START_SECONDS = 300.0
"""Limit for importing the function, and for handing a request over to a process that has nothing else to do."""

TOGETHER = {"model": 16, "process_model": 16}
"""Questions whose outputs one call judges: a model's forward pass takes many; any other function takes one question."""
GRACE_SECONDS = 5.0
"""Beyond its limit, for a process that ends late calls of its async function itself."""
END_SECONDS = 10.0
"""How long a process that was killed is waited for."""

# -P: a file of the user's folder must not stand in for one of the standard library before we have started.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "pipes = [int(end) for end in sys.argv[2:]]; from groupwise.rewards.guard import start; start(*pipes); "
    "from groupwise.rewards.worker import main; main(*pipes)"
)


class _Lost(Exception):
    """The process is late or dead; the text says which."""


class Child:
    """One reward function in its process. Use `start`, `ready`, then `verdicts` any number of times, then `close`."""

    def __init__(
        self,
        spec: str,
        params: dict[str, Any],
        *,
        timeout_seconds: float,
        terms: Terms | None = None,
        heard: Callable[[str, str], None] = lambda kind, said: None,
    ) -> None:
        """terms: those of the process; None: its time limit alone. heard: is given what the function says of itself
        (groupwise/rewards/host.py): the kind and the words."""
        self._job = (spec, params, terms or Terms(timeout_seconds=timeout_seconds))
        self._timeout_seconds, self._heard = timeout_seconds, heard
        self._folder = os.getcwd()
        self._process: subprocess.Popen[bytes] | None = None
        self._per_batch = self.concurrent = False
        self.counts: dict[str, float] = {}
        """What the function counted, by name, until someone takes it."""
        self.columns: frozenset[str] = frozenset()
        """Columns that the function wants the questions to have; known once it is `ready`."""
        self._halted = False
        self._unread = bytearray()

    def start(self) -> None:
        """Starts the process; it imports the function while we go on."""
        self._end()
        request_read, self._requests = os.pipe()
        self._replies, reply_write = os.pipe()
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-c",
                    _BOOT,
                    json.dumps([str(place) for place in sys.path]),
                    str(request_read),
                    str(reply_write),
                ],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=(request_read, reply_write),
                cwd=self._folder,
                env={**os.environ, MARK: uuid.uuid4().hex},
                start_new_session=True,  # Ctrl-C in the terminal is ours to handle, and killing takes its children too
            )
        except OSError as error:
            os.close(self._requests)
            os.close(self._replies)
            raise RewardError(f"reward {self._job[0]!r}: its process cannot be started: {error}") from None
        finally:
            os.close(request_read)
            os.close(reply_write)
        os.set_blocking(self._requests, False)
        if self._halted:
            self.halt()  # it was asked for while the process was being started

    def ready(self) -> None:
        """Waits until the function is imported and its form known. Raises RewardError if it cannot be."""
        spec = self._job[0]
        try:
            self._write(packed(self._job))
            reply = self._first_reply()
        except _Lost as lost:
            self._end()
            raise RewardError(f"reward {spec!r}: while it was imported {lost}", hint="import it by hand") from None
        except BaseException:
            self._end()
            raise
        if reply[0] == "refused":
            self._end()
            raise RewardError(reply[1], hint=reply[2])
        self._per_batch, self.concurrent, self.columns = reply[1:]

    def _first_reply(self) -> Any:
        """Whether the function is ready; what it waits for meanwhile is passed on, and gives it more time."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            reply = self._read(deadline)
            if reply[0] in ("ready", "refused"):
                return reply
            if reply[0] == "patience":
                deadline = max(deadline, time.monotonic() + START_SECONDS + reply[1])
            self._heard(reply[0], reply[-1])

    def verdicts(self, samples: Sequence[Scored], *, step: int) -> list[Verdict]:
        """One verdict per sample, in their order; a function that judges many outputs in a call is given a question's.

        A call that is late or kills the process fails its own samples; the rest go on in a new process."""
        together = TOGETHER.get(self._job[0], 1) if self._per_batch and not self.concurrent else len(samples)
        found: list[Verdict] = []
        for piece in by_questions(samples, together):
            found += self._of_call(piece, step)
        return found

    def _of_call(self, samples: Sequence[Scored], step: int) -> list[Verdict]:
        done: list[Verdict] = []
        while True:
            if self._halted:
                raise RewardError(f"reward {self._job[0]!r}: stopped while it scored")
            if len(done) == len(samples):
                return done
            rest = samples[len(done) :]
            begun = False
            try:
                if self._process is None or self._process.poll() is not None:
                    self.start()
                    self.ready()
                self._write(packed((rest, step)))
                begun = self._read(time.monotonic() + START_SECONDS) == ("begin",)
                while len(done) < len(samples) and not self._halted:
                    done += self._verdicts()
            except (_Lost, RewardError) as lost:
                self._end()
                failed = self._lost_with(samples[len(done) :]) if begun else len(samples) - len(done)
                done += [Verdict(Part("failed", None, str(lost)))] * failed
            except BaseException:
                self._end()  # Ctrl-C: half an answer may be in the pipe
                raise

    def _lost_with(self, samples: Sequence[Scored]) -> int:
        """How many of the samples that were not judged the call that was late or died was about."""
        if not self._per_batch:
            return 1
        return len(next(by_questions(samples))) if self.concurrent else len(samples)

    def _verdicts(self) -> list[Verdict]:
        """The next verdicts; what the function says of itself meanwhile is passed on, and may give it more time."""
        limit = self._timeout_seconds + GRACE_SECONDS * self.concurrent
        deadline = time.monotonic() + limit
        while True:
            reply = self._read(deadline)
            if reply[0] == "verdicts":
                for name, amount in reply[2].items():
                    self.counts[name] = self.counts.get(name, 0.0) + amount
                return list(reply[1])
            if reply[0] == "patience":
                deadline = max(deadline, time.monotonic() + limit + reply[1])
            self._heard(reply[0], reply[-1])

    def halt(self) -> None:
        """For another thread: `verdicts` gives up within moments and raises RewardError, until `close` was called.

        It ends the process and nothing else, so that the pipes have one owner."""
        self._halted = True
        if (process := self._process) is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kills the process and those it started; `verdicts` may be called again, and starts another."""
        self._end()
        self._halted = False

    def _end(self) -> int:
        """Kills the process and those it started; returns its exit code, 0 if there is none."""
        if self._process is None:
            return 0
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()  # it has ended and its group with it
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:  # in a wait of the kernel's that no signal ends, on a lost disk for one
            code = -signal.SIGKILL
        self._process = None  # before the pipes: a signal in here must not have them closed twice
        self._unread.clear()
        os.close(self._requests)
        os.close(self._replies)
        return code

    def _write(self, data: bytes) -> None:
        deadline = time.monotonic() + START_SECONDS
        view = memoryview(data)
        while view:
            _wait(self._requests, select.POLLOUT, deadline, START_SECONDS)
            try:
                view = view[os.write(self._requests, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise _Lost(self._death()) from None

    def _read(self, deadline: float) -> Any:
        seconds = deadline - time.monotonic()
        while True:
            size = HEADER.unpack_from(self._unread)[0] if len(self._unread) >= HEADER.size else None
            if size is not None and len(self._unread) >= HEADER.size + size:
                message = pickle.loads(self._unread[HEADER.size : HEADER.size + size])
                del self._unread[: HEADER.size + size]
                return message
            _wait(self._replies, select.POLLIN, deadline, seconds)
            chunk = os.read(self._replies, 1 << 20)
            if not chunk:
                raise _Lost(self._death())
            self._unread += chunk

    def _death(self) -> str:
        code = self._end()
        if code >= 0:
            return f"its process ended by itself (exit code {code})"
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _wait(pipe: int, event: int, deadline: float, seconds: float) -> None:
    poll = select.poll()
    poll.register(pipe, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise _Lost(f"it ran past its limit of {seconds:.4g} s and was stopped")
