"""What an engine is: questions as token ids in, sampled outputs out. Knows no text, no rewards, no optimizer."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from groupwise.activity import advance
from groupwise.data import Output, Sampling
from groupwise.errors import RunError

if TYPE_CHECKING:
    from groupwise.model.policy import Policy

Key = TypeVar("Key")
POLL_SECONDS = 10.0
POLL_BRIEFLY = 0.02
"""Where somebody else may have something to say too."""


@dataclass(frozen=True)
class Task:
    """One question to sample from: plain data, so that it can be sent anywhere and done again.

    question_tokens: [N] ids. streams: one random stream per output wanted; the same stream gives the same output.
    limits: most tokens of each output, no more than `Sampling.max_new_tokens`; empty: that.
    before, drawn: of each output in its later turns, the tokens after the question that are there already, and how many
    numbers of its stream they took; empty: none. keep: later turns of this question may follow (`Engine.release`).
    """

    question_tokens: tuple[int, ...]
    streams: tuple[int, ...]
    limits: tuple[int, ...] = ()
    before: tuple[tuple[int, ...], ...] = ()
    drawn: tuple[int, ...] = ()
    keep: bool = False


@dataclass(frozen=True)
class Capabilities:
    """What may be relied on.

    exact: its log-probabilities are the policy's own where that computes in fp32, so that no second pass is needed.
    logprobs: it reports some for each token; else they are 0, and no run can learn from rewards with it.
    keeps_questions: a question's keys and values are kept for later turns. silent_seconds: an engine that finishes no
    task for longer is given up.
    """

    exact: bool
    logprobs: bool = True
    keeps_questions: bool = False
    silent_seconds: float = 600.0


class Engine(Protocol):
    """Samples from a policy. A recipe's class is called with (policy, max_num_seqs=...), then `open`, `sync`.

    A recipe that sets `rollout.precision` also gives it precision=..., if it takes that.
    """

    capabilities: Capabilities

    def open(self) -> None:
        """Takes what it needs: processes, memory, connections."""

    def sync(self, policy: "Policy", version: int) -> None:
        """The policy's weights are new: outputs of tasks submitted from here on are sampled from them and carry this
        version. Never called while tasks are on their way."""

    def submit(self, tasks: Sequence[Task], sampling: Sampling) -> list[int]:
        """Takes in tasks and returns at once; a number for each, by which `poll` names it."""

    def poll(self, timeout: float) -> list[tuple[int, list[Output]]]:
        """Tasks that are done since the last call, in any order, each with an output per stream, in their order.

        Waits up to `timeout` seconds for the first; empty if there is none. An engine that samples within this call may
        take longer.
        """

    def release(self, questions: Sequence[tuple[int, ...]] | None = None) -> None:
        """No later turns of these questions follow. None: of none, and tasks on their way are dropped."""

    def close(self) -> None:
        """Gives back what `open` took. Called once, whatever happened."""


class InFlight(Generic[Key]):
    """Tasks on their way in an engine, by the caller's keys."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tasks: dict[int, tuple[Key, Task]] = {}
        self._heard = time.monotonic()  # when the engine last said something, or began

    def __len__(self) -> int:
        return len(self._tasks)

    def submit(self, tasks: Sequence[tuple[Key, Task]], sampling: Sampling) -> None:
        if not self._tasks:
            self._heard = time.monotonic()
        numbers = self._engine.submit([task for _, task in tasks], sampling)
        self._tasks.update(zip(numbers, tasks, strict=True))

    def done(self, *, wait: bool = True) -> list[tuple[Key, list[Output]]]:
        """At least one task that is done, with its outputs; waits for it. wait: else for POLL_BRIEFLY alone.

        Empty if nothing is on its way. Raises RunError if the engine is silent for too long or gives what nobody asked
        for.
        """
        most = self._engine.capabilities.silent_seconds
        while self._tasks:
            if found := self._engine.poll(min(POLL_SECONDS, most) if wait else POLL_BRIEFLY):
                self._heard = time.monotonic()
                return [self._checked(number, outputs) for number, outputs in found]
            if time.monotonic() - self._heard > most:
                raise RunError(
                    f"{_name(self._engine)} finished none of {len(self._tasks)} tasks in {most:g} s",
                    hint="check that it still runs; its capabilities.silent_seconds sets the limit",
                )
            if not wait:
                break
        return []

    def _checked(self, number: int, outputs: list[Output]) -> tuple[Key, list[Output]]:
        if number not in self._tasks:
            raise RunError(f"{_name(self._engine)} gave outputs of task {number}, which is not on its way")
        key, task = self._tasks.pop(number)
        if len(outputs) != len(task.streams):
            raise RunError(f"{_name(self._engine)} gave {len(outputs)} outputs where {len(task.streams)} were wanted")
        return key, outputs


@contextmanager
def in_flight(engine: Engine) -> Iterator[InFlight[Any]]:
    """No tasks yet; what is still on its way at the end of the block is dropped."""
    try:
        yield InFlight(engine)
    finally:
        engine.release()


def _name(engine: Engine) -> str:
    return f"the engine {type(engine).__name__}"


Finished = Callable[[int, list[Output]], None]
"""(index of a task, its outputs), called in the order in which tasks are done."""


def generate(
    engine: Engine,
    tasks: Sequence[Task],
    sampling: Sampling,
    *,
    finished: Finished = lambda task, outputs: None,
) -> list[list[Output]]:
    """For each task its outputs, one per stream, in order; `finished` hears of each task as soon as it is done."""
    outputs: list[list[Output]] = [[] for _ in tasks]
    with in_flight(engine) as work:
        work.submit(list(enumerate(tasks)), sampling)
        while work:
            for task, own in work.done():
                outputs[task] = own
                advance(len(own))
                finished(task, own)
    return outputs


def stream(seed: int, step: int, question_id: str, sample: int) -> int:
    """Key of a random stream, [0, 2^64), from what names a sample; equal on every machine."""
    name = f"{seed}/{step}/{sample}/{question_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def uniforms(streams: np.ndarray, position: int | np.ndarray) -> np.ndarray:
    """Draw number `position` of each stream: [R] uint64 keys -> [R] float64 in [0, 1), by SplitMix64 of key and place.

    position: one for all, or [R].

    A counter-based generator (Steele, Lea and Flood 2014): what one stream gives does not depend on any other.
    """
    with np.errstate(over="ignore"):
        z = streams + (np.asarray(position).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
