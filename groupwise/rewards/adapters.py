"""A user's reward function: its form told by its parameters, called, its answers checked. Runs in the child.

Every form (groupwise/rewards/forms.py) gives one: a scorer takes samples and a step, and yields verdicts as it goes.
"""

import asyncio
import importlib
import inspect
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from groupwise import functions
from groupwise.data import Part
from groupwise.errors import GroupwiseError, RewardError
from groupwise.functions import last_line
from groupwise.registry import REWARDS, nearest
from groupwise.rewards.forms import TOLD, TRL, Asked, Scored, asked, form_of
from groupwise.rewards.verdicts import Verdict, verdict_of, with_logged

FRAMES = 20  # of a traceback that are kept

Scorer = Callable[[Sequence[Scored], int], Iterator[list[Verdict]]]
"""(samples, step) -> lists of verdicts in the order of the samples: one list of all, or one of one per sample."""


class Adapted(NamedTuple):
    """at_once: the function is called once for all samples. columns: those it wants the questions to have."""

    at_once: bool
    scorer: Scorer
    columns: frozenset[str]


def find(spec: str) -> Callable[..., Any]:
    """The function named by a built-in's name, "module:function" or "path/to/file.py:function". Raises RewardError."""
    return functions.find(REWARDS, spec, f"reward {spec!r}", RewardError)


def adapt(function: Callable[..., Any], params: Mapping[str, Any], spec: str) -> Adapted:
    """The function, ready to be called.

    params are bound to it as keyword arguments; a class is made with them, now. Raises RewardError if its form is none
    of `forms.FORMS`, it lacks one of the params, wants a parameter that nothing gives, or an instance cannot be made.
    """
    if inspect.isclass(function):
        return adapt(_instance(function, params, spec), {}, spec)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise RewardError(f"reward {spec!r} does not tell its parameters", hint=f"accepted forms: {TOLD}") from None
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    form = form_of(names)
    if form is None:
        shown = ", ".join(names) or "none"
        raise RewardError(f"reward {spec!r}: not a known form, its parameters are: {shown}", hint=f"accepted: {TOLD}")
    if not open_ended:
        _check_known(params, names, spec)
    required = {name for name in names if parameters[name].default is inspect.Parameter.empty} - set(params)
    wanted = required - set(form.names)
    if not form.columns:
        _check_given(wanted, spec)
    any_column = open_ended and form is TRL
    accepted = None if any_column else set(names) | (set(form.names) if open_ended else set())
    call = asked(form, function, params, accepted, wanted)
    return Adapted(form.at_once, (_at_once if form.at_once else _one_by_one)(call, form.score), frozenset(wanted))


def failure(error: BaseException) -> Part:
    """A failed part: the frames of the user's own code, and last, on one line, the error and where it was raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    return Part("failed", None, "".join(traceback.format_list(frames[-FRAMES:])) + last_line(error, frames))


def _is_ours(filename: str) -> bool:
    folder = os.path.dirname(__file__)
    machinery = [os.path.join(folder, name) for name in ("adapters.py", "forms.py", "verdicts.py", "worker.py")]
    return filename in machinery or filename.startswith(
        ("<frozen importlib", os.path.dirname(importlib.__file__), os.path.dirname(asyncio.__file__))
    )


def _instance(kind: type, params: Mapping[str, Any], spec: str) -> Any:
    """An instance of the user's class. Raises RewardError for a param it does not take, or if making it fails."""
    taken = inspect.signature(kind).parameters
    needed = [
        name
        for name, p in taken.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        _check_known(params, taken, spec)
    _check_given(set(needed) - set(params), spec)
    try:
        return kind(**params)
    except GroupwiseError as error:
        raise RewardError(f"reward {spec!r}: {error.message}", hint=error.hint) from None
    except BaseException as error:
        what = failure(error).detail.rpartition("\n")[2]
        raise RewardError(f"reward {spec!r} cannot be made: {what}", hint="fix it there and run again") from None


def _check_known(params: Mapping[str, Any], names: Iterable[str], spec: str) -> None:
    unknown = sorted(set(params) - set(names))
    if unknown:
        close = nearest(unknown[0], names)
        raise RewardError(f"reward {spec!r}: params.{unknown[0]}: it has no such parameter", hint=close)


def _check_given(missing: set[str], spec: str) -> None:
    if missing:
        listing = ", ".join(sorted(missing))
        raise RewardError(f"reward {spec!r} needs {listing}", hint=f"set params.{min(missing)} in the recipe")


def _one_by_one(call: Asked, score: str) -> Scorer:
    def scorer(samples: Sequence[Scored], step: int) -> Iterator[list[Verdict]]:
        for sample in samples:
            try:
                scored = verdict_of(call([sample], step).returned[0], sample[1], score)
            except BaseException as error:  # sys.exit() in a reward fails its sample, not the process
                scored = Verdict(failure(error))
            yield [scored]

    return scorer


def _at_once(call: Asked, score: str) -> Scorer:
    def scorer(samples: Sequence[Scored], step: int) -> Iterator[list[Verdict]]:
        try:
            result = call(samples, step)
            found = [
                _verdict_or_failure(value, text, score)
                for value, (_, text, _) in zip(result.returned, samples, strict=True)
            ]
            yield [
                with_logged(verdict, {name: values[place] for name, values in result.logged.items()})
                for place, verdict in enumerate(found)
            ]
        except BaseException as error:
            yield [Verdict(failure(error))] * len(samples)

    return scorer


def _verdict_or_failure(value: Any, text: str, score: str) -> Verdict:
    try:
        return verdict_of(value, text, score)
    except (TypeError, ValueError) as error:
        return Verdict(failure(error))
