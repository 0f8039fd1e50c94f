"""A user's reward function: its form told by its parameters, ready to be called. Runs in the child.

Every form (groupwise/rewards/forms.py) gives a scorer (groupwise/rewards/calls.py).
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from groupwise import functions
from groupwise.errors import GroupwiseError, RewardError
from groupwise.registry import REWARDS, nearest
from groupwise.rewards.calls import Scorer, at_once, concurrently, failure, is_async, one_by_one
from groupwise.rewards.forms import TOLD, TRL, asked, by_questions, form_of, one_each
from groupwise.rewards.seen import NAMES


class Adapted(NamedTuple):
    """at_once: the function is called once for all samples. columns: those it wants the questions to have. concurrent:
    it is async, and several of its calls are awaited at the same time."""

    at_once: bool
    scorer: Scorer
    columns: frozenset[str]
    concurrent: bool = False


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
        _check_given(wanted - set(NAMES), spec)
    any_column = open_ended and form is TRL
    accepted = None if any_column else set(names) | (set(form.names) if open_ended else set())
    call = asked(form, function, params, accepted, wanted)
    concurrent = is_async(function)
    if concurrent:
        pieces = by_questions if form.at_once else one_each
        scorer = concurrently(call, form.score, pieces=pieces, limited=not getattr(function, "limits_itself", False))
    else:
        scorer = (at_once if form.at_once else one_by_one)(call, form.score)
    return Adapted(form.at_once, scorer, frozenset(wanted), concurrent)


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
