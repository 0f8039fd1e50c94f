"""Values that came out of a sandbox, read, compared, and written as Python again. All of it outside.

What is read are plain values of Python's own types, whatever a program made of its classes: there is no `__eq__` of the
program's left in them.
"""

import json
import math
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Other:
    """A value that has no plain form, by the name of its type. It equals nothing that a test expects."""

    kind: str


@dataclass(frozen=True)
class Iterated:
    """What an iterator gave."""

    items: tuple[Any, ...]


@dataclass(frozen=True)
class Instance:
    """An instance of a class that the tests define, and what it holds."""

    kind: str
    holds: tuple[tuple[str, Any], ...]


def loaded(text: str) -> Any:
    """JSON of any kind. Raises ValueError for a key that stands twice, and for numbers that JSON does not have."""
    return json.loads(text, object_pairs_hook=_distinct, parse_constant=_refused)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def value_of(form: Any) -> Any:
    """The value that groupwise.rewards.programs.encoding wrote, parsed. Raises ValueError if it did not write it."""
    if form is None or isinstance(form, bool | int | str):
        return form
    if isinstance(form, list):
        return [value_of(one) for one in form]
    if not isinstance(form, dict) or len(form) != 1:
        raise ValueError(f"no value: {str(form)[:60]}")
    [(tag, inside)] = form.items()
    if tag not in _READ:
        raise ValueError(f"no such form: {tag[:20]!r}")
    try:
        return _READ[tag](inside)
    except (TypeError, ValueError, ArithmeticError, KeyError) as error:
        raise ValueError(f"no value of the form {tag!r}: {error}") from None


def _several(inside: Any) -> list[Any]:
    if not isinstance(inside, list):
        raise ValueError("not a list")
    return [value_of(one) for one in inside]


def _text(inside: Any) -> str:
    if not isinstance(inside, str):
        raise ValueError("not a text")
    return inside


_EXTRA = {"Decimal": Decimal, "Fraction": Fraction, "deque": deque}


def _extra(inside: Any) -> Any:
    kind, holds = _several(inside)
    return _EXTRA[kind](holds)


def _instance(inside: Any) -> Instance:
    kind, holds = _several(inside)
    return Instance(_text(kind), tuple((_text(name), value) for name, value in holds.items()))


_READ = {
    "i": lambda inside: int(_text(inside), 16),
    "f": lambda inside: float(_text(inside)),
    "c": lambda inside: complex(*(float(_text(part)) for part in inside)),
    "b": lambda inside: bytes.fromhex(_text(inside)),
    "t": lambda inside: tuple(_several(inside)),
    "s": lambda inside: set(_several(inside)),
    "z": lambda inside: frozenset(_several(inside)),
    "d": lambda inside: {key: value for key, value in _several(inside)},  # noqa: C416
    "r": lambda inside: range(*_several(inside)),
    "n": lambda inside: Iterated(tuple(_several(inside))),
    "x": _extra,
    "o": _instance,
    "?": lambda inside: Other(_text(inside)),
}


def literal(value: Any) -> str:
    """The value as a Python expression, for a harness; names beginning with `_` are the harness's."""
    match value:
        case bool() | None | str() | bytes():
            return repr(value)
        case int():
            return hex(value)
        case float():
            return repr(value) if math.isfinite(value) else f"float({str(value)!r})"
        case complex():
            return f"complex({literal(value.real)}, {literal(value.imag)})"
        case Other():
            return f"_other({value.kind!r})"
        case Iterated():
            return f"iter({literal(list(value.items))})"
        case Instance():
            return f"_instance({value.kind!r}, {literal(dict(value.holds))})"
        case Decimal() | Fraction():
            return f"_{type(value).__name__.lower()}({str(value)!r})"
        case deque():
            return f"_deque({literal(list(value))})"
        case range():
            return repr(value)
        case list():
            return "[" + ", ".join(map(literal, value)) + "]"
        case tuple():
            return "(" + "".join(f"{literal(one)}, " for one in value) + ")"
        case set() | frozenset():
            return f"{type(value).__name__}([{', '.join(map(literal, value))}])"
        case dict():
            return "{" + ", ".join(f"{literal(key)}: {literal(one)}" for key, one in value.items()) + "}"
    raise TypeError(f"no literal of a {type(value).__name__}")


def same(expected: Any, given: Any, *, tolerance: float) -> bool:
    """Whether a program gave what a test of JSON expects: strict in types, as far as JSON can tell them.

    A bool is no number, and where a whole number is expected a float is wrong. Where a float is expected, a number
    within the tolerance (relative or absolute) is right. A tuple is a list, and a whole number as a key of a dict is
    its digits, since JSON has no other."""
    if isinstance(expected, bool) or isinstance(given, bool) or expected is None or given is None:
        return expected is given
    if isinstance(expected, int):
        return isinstance(given, int) and expected == given
    if isinstance(expected, float):
        if not isinstance(given, int | float):
            return False
        try:
            return float(given) == expected or math.isclose(given, expected, rel_tol=tolerance, abs_tol=tolerance)
        except OverflowError:
            return False
    if isinstance(expected, str):
        return isinstance(given, str) and expected == given
    if isinstance(expected, list | tuple):
        return (
            isinstance(given, list | tuple)
            and len(expected) == len(given)
            and all(same(one, other, tolerance=tolerance) for one, other in zip(expected, given, strict=True))
        )
    if isinstance(expected, dict) and isinstance(given, dict):
        named = {str(key) if type(key) is int else key: value for key, value in given.items()}
        return len(named) == len(given) == len(expected) and all(
            key in named and same(value, named[key], tolerance=tolerance) for key, value in expected.items()
        )
    return False
