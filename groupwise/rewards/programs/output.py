"""When what a program printed is what a test expects: LiveCodeBench's rules, with a tolerance for decimals."""

import re
from decimal import Decimal

_NUMBER = re.compile(r"[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,3})?", re.ASCII)


def printed_right(expected: str, given: str, *, tolerance: float) -> bool:
    """Whether every line of the output is the expected one.

    White space at both ends of the text and of each line does not count. Lines that differ are equal if both consist of
    numbers, each equal to its counterpart: 1.0 is 1. A number that the test writes with a decimal point or an exponent
    is met within the tolerance, relative or absolute; a whole one exactly, however long it is."""
    wanted, lines = _lines(expected), _lines(given)
    return len(wanted) == len(lines) and all(
        right == line or _numbers_right(right, line, tolerance) for right, line in zip(wanted, lines, strict=True)
    )


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _numbers_right(expected: str, given: str, tolerance: float) -> bool:
    wanted, found = expected.split(), given.split()
    return len(wanted) == len(found) and all(
        _NUMBER.fullmatch(right) is not None and _NUMBER.fullmatch(one) is not None and _near(right, one, tolerance)
        for right, one in zip(wanted, found, strict=True)
    )


def _near(expected: str, given: str, tolerance: float) -> bool:
    right, one = Decimal(expected), Decimal(given)
    if right == one:
        return True
    if re.fullmatch(r"[+-]?\d+", expected):
        return False
    return abs(right - one) <= Decimal(tolerance) * max(Decimal(1), abs(right))
