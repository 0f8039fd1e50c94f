"""Values that came out of a sandbox, read, compared, and written as Python again. All of it outside.

What is read are plain values of Python's own types, whatever a program made of its classes: there is no `__eq__` of the
program's left in them.
"""

import json
import math
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from groupwise.rewards.programs.encoding import DEEPEST


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
    return _value(form, 0)


def _value(form: Any, depth: int) -> Any:
    if depth > DEEPEST:
        raise ValueError("too deep")
    if form is None or isinstance(form, bool | int | str):
        return form
    if isinstance(form, list):
        return [_value(one, depth + 1) for one in form]
    if not isinstance(form, dict) or len(form) != 1:
        raise ValueError("no value")
    [(tag, inside)] = form.items()
    try:
        return _SEVERAL[tag](_several(inside, depth)) if tag in _SEVERAL else _PLAIN[tag](inside)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise ValueError(f"no value of the form {tag[:20]!r}: {error}") from None


def _several(inside: Any, depth: int) -> list[Any]:
    if not isinstance(inside, list):
        raise ValueError("not a list")
    return [_value(one, depth + 1) for one in inside]


def _text(inside: Any) -> str:
    if not isinstance(inside, str):
        raise ValueError("not a text")
    return inside


def _extra(parts: list[Any]) -> Any:
    kind, holds = parts
    if kind == "deque":
        return deque(holds)
    if not re.fullmatch(r"[-+]?\w{1,4000}(?:[./]\d{1,4000})?(?:E[-+]?\d{1,6})?", _text(holds), re.ASCII):
        raise ValueError("no number")
    # a fraction with an exponent would be written out in full
    return Decimal(holds) if kind == "Decimal" else Fraction(*map(int, holds.split("/")))


def _instance(parts: list[Any]) -> Instance:
    kind, holds = parts
    return Instance(_text(kind), tuple((_text(name), value) for name, value in holds.items()))


_SEVERAL: dict[str, Callable[[list[Any]], Any]] = {
    "t": tuple,
    "s": set,
    "z": frozenset,
    "d": lambda parts: {key: value for key, value in parts},  # noqa: C416
    "r": lambda parts: range(*parts),
    "n": lambda parts: Iterated(tuple(parts)),
    "x": _extra,
    "o": _instance,
}
_PLAIN: dict[str, Callable[[Any], Any]] = {
    "i": lambda inside: int(_text(inside), 16),
    "f": lambda inside: float(_text(inside)),
    "c": lambda inside: complex(*(float(_text(part)) for part in inside)),
    "b": lambda inside: bytes.fromhex(_text(inside)),
    "?": lambda inside: Other(_text(inside)),
}


def shown(value: Any) -> str:
    """The value for people; never an error, whatever it is."""
    try:
        return repr(value)
    except (ValueError, RecursionError):  # a number of more digits than Python writes
        return f"a {type(value).__name__} too long to write"


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
        if any(type(key) is int and abs(key) > 10**30 for key in given):
            return False
        named = {str(key) if type(key) is int else key: value for key, value in given.items()}
        return len(named) == len(given) == len(expected) and all(
            key in named and same(value, named[key], tolerance=tolerance) for key, value in expected.items()
        )
    return False
