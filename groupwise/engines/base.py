"""What an engine is: questions as token ids in, sampled outputs out. Knows no text, no rewards, no optimizer."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from groupwise.data import Output, Sampling


@dataclass(frozen=True)
class Task:
    """One question to sample from: plain data, so that it can be sent anywhere and done again.

    question_tokens: [N] ids. streams: one random stream per output wanted; the same stream gives the same output.
    limits: most tokens of each output, where that is less than `Sampling.max_new_tokens`; empty: no such limit.
    """

    question_tokens: tuple[int, ...]
    streams: tuple[int, ...]
    limits: tuple[int, ...] = ()


Finished = Callable[[int, list[Output]], None]
"""(index of a task, its outputs), called in the order in which tasks are done."""


class Engine(Protocol):
    """Samples from the policy as it is now."""

    exact: bool
    """True if the log-probabilities it reports are the policy's own where that computes in fp32 (so that no second
    pass is needed)."""

    def generate(
        self,
        tasks: Sequence[Task],
        sampling: Sampling,
        *,
        policy_version: int = 0,
        finished: Finished = lambda task, outputs: None,
    ) -> list[list[Output]]:
        """For each task its outputs, one per stream, in order; `finished` hears of each task as soon as it is done."""


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
