"""What a sandbox is: Python source and standard input go in, output comes out. Knows no test and no right answer.

A design is whatever has `run` and `close`; see groupwise.sandbox.designs for those that are shipped.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from groupwise.errors import RunError

Ended = Literal["exit", "signal", "time", "output"]
"""What ended a program: itself; a signal, a limit's or its own; the time limit; the limit of its output."""

MIB = 1 << 20
_WALL = 3.0


class SandboxError(RunError):
    """The sandbox failed, and nothing is known of the program."""


@dataclass(frozen=True)
class Limits:
    """What one run may use. seconds: of processor time; memory_mb: MiB of address space.

    wall_seconds: by the clock; None: three times the processor's, so that a busy machine makes no right program late.
    """

    seconds: float = 6.0
    memory_mb: int = 1024
    output_bytes: int = MIB
    """Of standard output; a program that writes more is ended. Of standard error, as much is kept."""
    wall_seconds: float | None = None

    @property
    def wall(self) -> float:
        """Seconds by the clock."""
        return _WALL * self.seconds if self.wall_seconds is None else self.wall_seconds


@dataclass(frozen=True)
class Outcome:
    """A finished run. code: exit code, or the signal's number where one ended it. stdout, stderr: as cut by limits."""

    ended: Ended
    code: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def fault(self) -> str:
        """Why the run failed, on one line; "" if the program came to its end with exit code 0."""
        if self.ended == "time":
            return f"stopped at its time limit after {self.seconds:.3g} s"
        if self.ended == "output":
            return f"stopped: more than {len(self.stdout)} bytes of output"
        last = next((line for line in reversed(self.stderr.decode(errors="replace").splitlines()) if line.strip()), "")
        if self.ended == "signal":
            return f"ended by signal {self.code}" + (f": {last[:300]}" if last else "")
        return "" if self.code == 0 else f"exit code {self.code}" + (f": {last[:300]}" if last else "")


class Sandbox(Protocol):
    """Runs programs, for several threads at once; each run is a fresh one that nothing of another reaches."""

    def run(self, source: str, stdin: bytes, limits: Limits) -> Outcome:
        """The outcome of `python -` with this source and standard input.

        Raises SandboxError if the sandbox itself fails; whatever the program does is an Outcome."""

    def close(self) -> None:
        """Ends what the sandbox holds, runs that are under way included."""
