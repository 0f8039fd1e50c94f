"""A user's reward function: found, its form told by its parameters, called, its answers checked. Runs in the child.

Three forms (`FORMS`) give one: a scorer takes samples and a step, and yields verdicts as it goes.
"""

import asyncio
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from groupwise.data import Message, Part, Question
from groupwise.errors import GroupwiseError, RewardError
from groupwise.registry import REWARDS, nearest
from groupwise.rewards.verdicts import Verdict, verdict_of

FORMS = (
    "(prompts, completions, **columns) -> list of float or None as in TRL, "
    "(data_source, solution_str, ground_truth, extra_info) -> float or dict with 'score' as in verl, "
    "(text, question) -> float, None or dict with 'score', or (texts, questions) -> list of these; "
    "or a class whose instances are called so"
)
FRAMES = 20  # of a traceback that are kept

Scored = tuple[Question, str, np.ndarray]
"""A question, the text of one of its outputs, and that output's token ids [T]."""


Scorer = Callable[[Sequence[Scored], int], Iterator[list[Verdict]]]
"""(samples, step) -> lists of verdicts in the order of the samples: one list of all, or one of one per sample."""


def find(spec: str) -> Callable[..., Any]:
    """The function named by a built-in's name, "module:function" or "path/to/file.py:function". Raises RewardError."""
    if ":" not in spec and spec not in REWARDS:
        hint = f"{nearest(spec, REWARDS)}; a function of your own is named module:function or path/to/file.py:function"
        raise RewardError(f"reward {spec!r}: no such built-in", hint=hint)
    place, _, name = REWARDS.get(spec, spec).rpartition(":")
    module = _import_file(place, spec) if place.endswith(".py") or os.sep in place else _import_module(place, spec)
    found = getattr(module, name, None)
    if found is None:
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise RewardError(
            f"reward {spec!r}: {place} has no {name!r}",
            hint=nearest(name, names) if names else "it defines no function",
        )
    if not callable(found):
        raise RewardError(f"reward {spec!r} is {type(found).__name__}, not a function", hint=f"accepted forms: {FORMS}")
    return found


def adapt(function: Callable[..., Any], params: Mapping[str, Any], spec: str) -> tuple[bool, Scorer]:
    """Whether the function is called once for all samples, and the scorer that calls it.

    params are bound to it as keyword arguments; a class is made with them, now. Raises RewardError if its form is none
    of FORMS, it lacks one of the params, wants a parameter that nothing gives, or if an instance cannot be made."""
    if inspect.isclass(function):
        return adapt(_made(function, params, spec), {}, spec)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise RewardError(f"reward {spec!r} does not tell its parameters", hint=f"accepted forms: {FORMS}") from None
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if not open_ended:
        _check_known(params, names, spec)
    required = {name for name in names if parameters[name].default is inspect.Parameter.empty} - set(params)
    if "completions" in names:
        return True, _trl(function, params, None if open_ended else set(names), required)
    if "solution_str" in names:
        given = {"data_source", "solution_str", "ground_truth", "extra_info"}
        scorer = _verl(function, params, given if open_ended else given & set(names))
    elif names and names[0] == "texts":
        given = {"texts", "questions"}
        scorer = _ours_at_once(function, params, "questions" in names)
    elif names and names[0] == "text":
        given = {"text", "question"}
        scorer = _ours(function, params, "question" in names)
    else:
        shown = ", ".join(names) or "none"
        raise RewardError(f"reward {spec!r}: not a known form, its parameters are: {shown}", hint=f"accepted: {FORMS}")
    _check_given(required - given, spec)
    return "texts" in names, scorer


def failure(error: BaseException) -> Part:
    """A failed part: the frames of the user's own code, and last, on one line, the error and where it was raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    return Part("failed", None, "".join(traceback.format_list(frames[-FRAMES:])) + _last_line(error, frames))


def _last_line(error: BaseException, frames: Sequence[traceback.FrameSummary]) -> str:
    lines = traceback.format_exception_only(error)
    told = " ".join(lines[-1 if isinstance(error, SyntaxError) else 0].split())[:400]
    if isinstance(error, SyntaxError):
        return f"{told} ({error.filename}:{error.lineno})"
    return f"{told} ({frames[-1].filename}:{frames[-1].lineno})" if frames else told


def _is_ours(filename: str) -> bool:
    folder = os.path.dirname(__file__)
    machinery = [os.path.join(folder, name) for name in ("adapters.py", "verdicts.py", "worker.py")]
    return filename in machinery or filename.startswith(
        ("<frozen importlib", os.path.dirname(importlib.__file__), os.path.dirname(asyncio.__file__))
    )


def _import_file(place: str, spec: str) -> Any:
    path = os.path.abspath(place)
    if not os.path.isfile(path):
        raise RewardError(f"reward {spec!r}: no file {place!r}", hint=f"a path is relative to {os.getcwd()}")
    name = "reward_file_" + os.path.basename(path).removesuffix(".py")
    source = importlib.util.spec_from_file_location(name, path)
    if source is None or source.loader is None:
        raise RewardError(f"reward {spec!r}: {place!r} is not a Python file", hint="its name must end in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(source)
    sys.path.insert(0, os.path.dirname(path))  # for its sibling files, as if it were run as a script
    try:
        source.loader.exec_module(module)
    except BaseException as error:
        raise _not_imported(spec, error) from None
    return module


def _import_module(place: str, spec: str) -> Any:
    if not place.startswith("groupwise."):
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise _not_imported(spec, error) from None
        raise RewardError(
            f"reward {spec!r}: no module named {error.name!r}",
            hint="modules are looked for here and among the installed; a file is named as path/to/file.py:function",
        ) from None
    except BaseException as error:
        raise _not_imported(spec, error) from None


def _not_imported(spec: str, error: BaseException) -> RewardError:
    last_line = failure(error).detail.rpartition("\n")[2]
    return RewardError(f"reward {spec!r} cannot be imported: {last_line}", hint="fix it there and run again")


def _call(function: Callable[..., Any], *positional: Any, **named: Any) -> Any:
    result = function(*positional, **named)
    return asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result


async def _awaited(result: Any) -> Any:
    return await result


def _made(kind: type, params: Mapping[str, Any], spec: str) -> Any:
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
        last_line = failure(error).detail.rpartition("\n")[2]
        raise RewardError(f"reward {spec!r} cannot be made: {last_line}", hint="fix it there and run again") from None


def _check_known(params: Mapping[str, Any], names: Iterable[str], spec: str) -> None:
    unknown = sorted(set(params) - set(names))
    if unknown:
        close = nearest(unknown[0], names)
        raise RewardError(f"reward {spec!r}: params.{unknown[0]}: it has no such parameter", hint=close)


def _check_given(missing: set[str], spec: str) -> None:
    if missing:
        told = ", ".join(sorted(missing))
        raise RewardError(f"reward {spec!r} needs {told}", hint=f"set params.{min(missing)} in the recipe")


def _ours(function: Callable[..., Any], params: Mapping[str, Any], wants_question: bool) -> Scorer:
    def returned(sample: Scored) -> Any:
        question, text, _ = sample
        return _call(function, text, **({"question": question} if wants_question else {}), **params)

    return _one_by_one(returned)


def _verl(function: Callable[..., Any], params: Mapping[str, Any], accepted: set[str]) -> Scorer:
    def returned(sample: Scored) -> Any:
        question, text, _ = sample
        judged = question.meta.get("reward_model")
        given = {
            "data_source": question.meta.get("data_source"),
            "solution_str": text,
            "ground_truth": judged["ground_truth"] if judged and "ground_truth" in judged else question.answer,
            "extra_info": question.meta.get("extra_info") or {},
        }
        return _call(function, **{key: value for key, value in given.items() if key in accepted}, **params)

    return _one_by_one(returned)


def _one_by_one(returned: Callable[[Scored], Any]) -> Scorer:
    def scorer(samples: Sequence[Scored], step: int) -> Iterator[list[Verdict]]:
        for sample in samples:
            try:
                scored = verdict_of(returned(sample), sample[1])
            except BaseException as error:  # sys.exit() in a reward fails its sample, not the process
                scored = Verdict(failure(error))
            yield [scored]

    return scorer


def _trl(
    function: Callable[..., Any], params: Mapping[str, Any], accepted: set[str] | None, required: set[str]
) -> Scorer:
    def values(samples: Sequence[Scored], step: int) -> list[Any]:
        given: dict[str, Any] = dict(_columns([question for question, _, _ in samples]))
        given |= {
            "prompts": [_prompt(question) for question, _, _ in samples],
            "completions": [_completion(question, text) for question, text, _ in samples],
            "completion_ids": [tokens.tolist() for _, _, tokens in samples],
            "trainer_state": SimpleNamespace(global_step=step),
            "log_extra": _no_log,
            "log_metric": _no_log,
            "environments": None,
        }
        missing = sorted(required - set(given))
        if missing:
            columns = ", ".join(sorted(given))
            raise TypeError(f"wants column {missing[0]!r}, or params.{missing[0]}; the questions have: {columns}")
        named = {key: value for key, value in given.items() if accepted is None or key in accepted}
        return _listed(_call(function, **(named | dict(params))), len(samples))

    return _at_once(values)


def _ours_at_once(function: Callable[..., Any], params: Mapping[str, Any], wants_questions: bool) -> Scorer:
    def values(samples: Sequence[Scored], step: int) -> list[Any]:
        given = {"questions": [question for question, _, _ in samples]} if wants_questions else {}
        return _listed(_call(function, [text for _, text, _ in samples], **given, **params), len(samples))

    return _at_once(values)


def _listed(result: Any, count: int) -> list[Any]:
    """What a function returned for `count` outputs, as a list. Raises TypeError or ValueError if it is none of them."""
    result = result.tolist() if hasattr(result, "tolist") else result
    if not isinstance(result, Sequence) or isinstance(result, str | bytes):
        raise TypeError(f"returned {type(result).__name__}, not a list of {count} values")
    if len(result) != count:
        raise ValueError(f"returned {len(result)} value(s) for {count} completions")
    return list(result)


def _at_once(values: Callable[[Sequence[Scored], int], list[Any]]) -> Scorer:
    def scorer(samples: Sequence[Scored], step: int) -> Iterator[list[Verdict]]:
        try:
            found = values(samples, step)
            yield [_verdict_or_failure(value, text) for value, (_, text, _) in zip(found, samples, strict=True)]
        except BaseException as error:
            yield [Verdict(failure(error))] * len(samples)

    return scorer


def _no_log(*_: Any) -> None:
    """TRL's log_extra and log_metric: accepted; what a function logs is not kept."""


def _columns(questions: Sequence[Question]) -> dict[str, list[Any]]:
    taken = ("prompt", "prompts", "completion", "completions", "completion_ids")
    names = {name: None for question in questions for name in question.meta if not name.startswith("_")}
    columns = {name: [q.meta.get(name) for q in questions] for name in names if name not in taken}
    return {"answer": [question.answer for question in questions]} | columns


def _prompt(question: Question) -> str | list[dict[str, str]]:
    return question.text if question.meta.get("_plain") is True else [_as_dict(m) for m in question.messages]


def _completion(question: Question, text: str) -> str | list[dict[str, str]]:
    return text if question.meta.get("_plain") is True else [_as_dict(Message("assistant", text))]


def _as_dict(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def _verdict_or_failure(value: Any, text: str) -> Verdict:
    try:
        return verdict_of(value, text)
    except (TypeError, ValueError) as error:
        return Verdict(failure(error))
