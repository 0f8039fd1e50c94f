"""A judge's reply as grades. What cannot be read without a doubt is refused, and never a 0."""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from groupwise.rewards.judging.rubric import Rubric

LONGEST = 100_000
"""Characters of a reply that are read."""
_TRIES = 200
_NUMBER = re.compile(r"[-+]?\d{1,15}(?:\.\d{1,15})?")
_LAST = re.compile(r"(?:[\w *#]{0,40}[:=])?[ *]*([-+]?\d{1,15}(?:\.\d{1,15})?)[ *]*(?:/ *(\d{1,9}))?[ *.]*")
Grades = Mapping[str, float]
"""By criterion, on the rubric's scale."""


class Unreadable(Exception):
    """A reply that holds no grade, or more than one; the text says which."""


def grades(rubric: Rubric, reply: str) -> Grades:
    """The grades in a reply. Raises Unreadable if one is missing, said twice, no number or out of range."""
    text = spoken(reply)
    found = _READ[rubric.reply.read](text, tuple(rubric.criteria))
    low, high = rubric.reply.range
    for name, value in found.items():
        if not low <= value <= high:
            raise Unreadable(f"{name} is {value:g}, outside {low:g} to {high:g}")
    last = _LAST.fullmatch(_last_line(text)) if rubric.reply.read == "number" else None
    if last is not None and last[2] and float(last[2]) != high:
        raise Unreadable(f"the grade is out of {last[2]}, not of {high:g}")
    return found


def score(rubric: Rubric, found: Grades) -> float:
    """sum_c w_c (g_c - low) / (high - low) / sum_c w_c, 0 to 1; g_c: the grade of criterion c, w_c its weight."""
    weights = {name: criterion.weight for name, criterion in rubric.criteria.items()}
    return math.fsum(weights[name] * share(rubric, found[name]) for name in weights) / math.fsum(weights.values())


def share(rubric: Rubric, grade: float) -> float:
    """A grade from 0 to 1."""
    low, high = rubric.reply.range
    return (grade - low) / (high - low)


def choice(reply: str) -> float:
    """1 if a reply chooses the first of two, 0 the second, 0.5 neither. Raises Unreadable if it does not choose."""
    found = {match.strip().upper() for match in re.findall(r"<choice>([^<>]{0,20})</choice>", spoken(reply), re.I)}
    if len(found) != 1:
        raise Unreadable("it holds no choice" if not found else "it holds different choices")
    [one] = found
    if one not in CHOICES:
        raise Unreadable(f"its choice is {one!r}, not A, B or C")
    return CHOICES[one]


CHOICES = {"A": 1.0, "B": 0.0, "C": 0.5}


def spoken(reply: str) -> str:
    """A reply behind its reasoning. Raises Unreadable if there is nothing."""
    if len(reply) > LONGEST:
        raise Unreadable(f"it has {len(reply):,} characters")
    before, mark, after = reply.rpartition("</think>")
    text = after if mark else before + after
    if "<think>" in text:
        raise Unreadable("it was cut in its reasoning")
    if not text.strip():
        raise Unreadable("it is empty")
    return text


def _json(text: str, names: tuple[str, ...]) -> Grades:
    decoder = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)
    found: list[dict[str, Any]] = []
    at = text.find("{")
    for _ in range(_TRIES):
        if at < 0:
            break
        try:
            value, at = decoder.raw_decode(text, at)
            found += [value] if isinstance(value, dict) and set(names) <= set(value) else []
        except _Twice:
            raise Unreadable("an object names a key twice") from None
        except (ValueError, RecursionError):
            at += 1
        at = text.find("{", at)
    return _the_one([{name: _number(one[name], name) for name in names} for one in found], names)


def _tag(text: str, names: tuple[str, ...]) -> Grades:
    columns = {name: re.findall(rf"<{re.escape(name)}>([^<>]{{0,40}})</{re.escape(name)}>", text) for name in names}
    for name, values in columns.items():
        if len(set(values)) > 1:
            raise Unreadable(f"it says {name} twice, and not the same")
    rows = [{name: values[0] for name, values in columns.items()}] if all(columns.values()) else []
    return _the_one([{name: _number(value.strip(), name) for name, value in row.items()} for row in rows], names)


def _alone(text: str, names: tuple[str, ...]) -> Grades:
    match = _LAST.fullmatch(_last_line(text))
    if match is None:
        raise Unreadable("its last line is no number alone")
    return {names[0]: float(match[1])}


_READ: dict[str, Callable[[str, tuple[str, ...]], Grades]] = {"json": _json, "tag": _tag, "number": _alone}


def _last_line(text: str) -> str:
    return text.rstrip().rpartition("\n")[2].strip()


def _the_one(found: list[Grades], names: tuple[str, ...]) -> Grades:
    """The grades, said once or several times alike: what quotes the output may hold other ones."""
    distinct = {tuple(one[name] for name in names) for one in found}
    if not distinct:
        raise Unreadable(f"it holds no {' and '.join(names)}")
    if len(distinct) > 1:
        raise Unreadable("it holds different grades")
    return found[0]


def _number(value: Any, name: str) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e15:
        raise Unreadable(f"{name} is {str(value)[:40]!r}, not a number")
    return float(value)


class _Twice(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise _Twice
    return dict(pairs)


def _no_number(name: str) -> float:
    raise ValueError(name)
