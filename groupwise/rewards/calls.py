"""Calls of a reward function: what it returned as verdicts; several calls of an async function at the same time."""

import importlib
import inspect
import os
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from groupwise.data import Part
from groupwise.functions import last_line
from groupwise.rewards import host
from groupwise.rewards.forms import Asked, Said, Scored
from groupwise.rewards.verdicts import Verdict, verdict_of, with_logged

if TYPE_CHECKING:  # imported where something is awaited: it takes as long as all else that most functions need
    import asyncio

FRAMES = 20  # of a traceback that are kept
OURS = ("adapters.py", "calls.py", "forms.py", "verdicts.py", "worker.py")
"""Files of this folder that stand between the process and the function."""

Scorer = Callable[[Sequence[Scored], int], Iterator[list[Verdict]]]
"""(samples, step) -> lists of verdicts in the order of the samples: one list of all, or one of one per sample."""
_runner: "list[asyncio.Runner]" = []


def is_async(function: Any) -> bool:
    """Whether calls of the function, or of an instance, are to be awaited."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def one_by_one(call: Asked, score: str) -> Scorer:
    """Calls the function for one sample after the other. score: key of the score in a dict."""

    def scorer(samples: Sequence[Scored], step: int) -> Iterator[list[Verdict]]:
        for sample in samples:
            yield _verdicts(call, [sample], step, score)

    return scorer


def at_once(call: Asked, score: str) -> Scorer:
    """Calls the function once for all samples."""

    def scorer(samples: Sequence[Scored], step: int) -> Iterator[list[Verdict]]:
        yield _verdicts(call, samples, step, score)

    return scorer


def concurrently(
    call: Asked, score: str, *, pieces: Callable[..., Iterator[Sequence[Scored]]], limited: bool
) -> Scorer:
    """Awaits several calls of an async function at the same time, as many as its terms say.

    pieces: cuts samples into those of each call. limited: a call past the time limit fails its own samples; else it
    limits itself. Calls begin in their order, and their verdicts come in it.
    """

    def scorer(samples: Sequence[Scored], step: int) -> Iterator[list[Verdict]]:
        import asyncio

        terms = host.terms()
        free = asyncio.Semaphore(terms.concurrency)

        async def one(piece: Sequence[Scored]) -> list[Verdict]:
            async with free:
                try:
                    async with asyncio.timeout(terms.timeout_seconds if limited else None) as limit:
                        raw, said = call(piece, step)
                        result = await raw
                    return _read(said(result), piece, score)
                except BaseException as error:  # sys.exit() in a reward fails its samples, not the process
                    if isinstance(error, TimeoutError) and limit.expired():
                        late = f"it ran past its limit of {terms.timeout_seconds:.4g} s and was stopped"
                        return [Verdict(Part("failed", None, late))] * len(piece)
                    return [Verdict(failure(error))] * len(piece)

        loop = _loop()
        tasks = [loop.create_task(one(piece)) for piece in pieces(samples)]
        for task in tasks:
            yield loop.run_until_complete(task)

    return scorer


def failure(error: BaseException) -> Part:
    """A failed part: the frames of the user's own code, and last, on one line, the error and where it was raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    return Part("failed", None, "".join(traceback.format_list(frames[-FRAMES:])) + last_line(error, frames))


def _is_ours(filename: str) -> bool:
    folder = os.path.dirname(__file__)
    return filename in [os.path.join(folder, name) for name in OURS] or filename.startswith(
        (
            "<frozen importlib",
            os.path.dirname(importlib.__file__),
            os.path.join(os.path.dirname(os.__file__), "asyncio"),
        )
    )


def _verdicts(call: Asked, samples: Sequence[Scored], step: int, score: str) -> list[Verdict]:
    try:
        raw, said = call(samples, step)
        return _read(
            said(_loop().run_until_complete(_awaited(raw)) if inspect.isawaitable(raw) else raw), samples, score
        )
    except BaseException as error:  # sys.exit() in a reward fails its samples, not the process
        return [Verdict(failure(error))] * len(samples)


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


def _loop() -> "asyncio.AbstractEventLoop":
    """The loop of this process: clients that a function keeps belong to one."""
    import asyncio

    if not _runner:
        _runner.append(asyncio.Runner())
    return _runner[0].get_loop()


def _read(said: Said, samples: Sequence[Scored], score: str) -> list[Verdict]:
    found = [_verdict(value, text, score) for value, (_, text, _) in zip(said.returned, samples, strict=True)]
    return [
        with_logged(verdict, {name: values[place] for name, values in said.logged.items()})
        for place, verdict in enumerate(found)
    ]


def _verdict(value: Any, text: str, score: str) -> Verdict:
    """What was returned for one output; an exception, as asyncio.gather may return it, fails that one."""
    if isinstance(value, BaseException):
        return Verdict(failure(value))
    try:
        return verdict_of(value, text, score)
    except (TypeError, ValueError) as error:
        return Verdict(failure(error))
