"""Values of formulas: exact where they are rational, else numbers of many digits. What is too large is not computed.

Two formulas are equal if their exact values are; else if their values are at every point that is tried, to 400 digits,
or 40 with variables.
"""

import math
import zlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import mpmath

from groupwise.rewards.answers.formula import Number, Operation, Symbol, Tree, transformed

LARGEST = 2**16
"""Bits of a number that is still computed, exactly or not: some 20,000 digits."""
_NUMERIC = mpmath.mp.clone()
_POINTS = 6
CONSTANTS = ("pi", "e", "i", "infinity")


class TooLarge(ArithmeticError):
    """A value has more than LARGEST bits, or would on the way to it."""


class Undefined(ArithmeticError):
    """There is no value: a division by zero, a word that is no function."""


class _Irrational(Exception):
    """The value is not rational, or not known to be."""


def exact(tree: Tree) -> Fraction | None:
    """The value of a formula that is rational by its form; None for any other. Raises TooLarge or Undefined."""
    try:
        return _exact(tree)
    except _Irrational:
        return None


def variables(tree: Tree) -> set[str]:
    """The names of a formula's symbols that are no constants."""
    if isinstance(tree, Symbol):
        return set() if tree.name in CONSTANTS else {tree.name}
    return set().union(*map(variables, tree.operands)) if isinstance(tree, Operation) else set()


def equal(one: Tree, other: Tree) -> bool:
    """Whether two formulas have one value; if one is too large to compute, whether they are written alike."""
    if one == other:
        return True
    try:
        first, second = exact(one), exact(other)
        if first is not None and second is not None:
            return first == second
        names = sorted(variables(one) | variables(other))
        if names:
            return all(_close(a, b, 40) for a, b in _at_points((one, other), names))
        return _close(_numeric(one, {}, 450), _numeric(other, {}, 450), 400)
    except ArithmeticError:
        return False


def proportional(one: Tree, other: Tree, *, positive: bool = False) -> bool:
    """Whether one formula is the other times a constant that is not 0, or with `positive` above 0."""
    names = sorted(variables(one) | variables(other))
    try:
        found = _at_points((one, other), names) if names else [(_numeric(one, {}, 60), _numeric(other, {}, 60))]
    except ArithmeticError:
        return False
    ratios = [a / b for a, b in found if b != 0]
    if len(ratios) < len(found) or not ratios or ratios[0] == 0 or not _close(ratios[0], _NUMERIC.re(ratios[0]), 30):
        return False
    return all(_close(ratio, ratios[0], 30) for ratio in ratios) and (not positive or _NUMERIC.re(ratios[0]) > 0)


def approximate(tree: Tree) -> Any:
    """The value as a number of 60 digits. Raises TooLarge, Undefined, or ArithmeticError where it has variables."""
    return _numeric(tree, {}, 60)


def substituted(tree: Tree, sign: int) -> Tree:
    r"""The tree with \pm read as plus (sign 1) or minus (-1), and \mp as the other."""
    signs = {"+-": sign, "-+": -sign}

    def change(part: Tree) -> Tree | None:
        if not isinstance(part, Operation) or part.name not in signs:
            return None
        inner = transformed(part.operands[0], change)
        return inner if signs[part.name] > 0 else Operation("-", (inner,))

    return transformed(tree, change)


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > LARGEST:
        raise TooLarge
    return value


def _exact(tree: Tree) -> Fraction:
    if isinstance(tree, Number):
        return _bounded(tree.value)
    if isinstance(tree, Symbol) or tree.name not in _EXACT:
        raise _Irrational
    return _bounded(_EXACT[tree.name](*map(_exact, tree.operands)))


def _sum(*terms: Fraction) -> Fraction:
    total = Fraction(0)
    for term in terms:
        total = _bounded(total + term)
    return total


def _product_of(*factors: Fraction) -> Fraction:
    product = Fraction(1)
    for factor in factors:
        product = _bounded(product * factor)
    return product


def _divided(above: Fraction, below: Fraction) -> Fraction:
    if not below:
        raise Undefined
    return above / below


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        root = _exact_root(base, Fraction(exponent.denominator))
        return _exact_power(root, Fraction(exponent.numerator))
    if base in (0, 1, -1):
        if not base and exponent <= 0:
            raise Undefined
        return base ** (exponent.numerator % 2 or 2) if base else base
    if exponent.numerator.bit_length() > 20:
        raise TooLarge
    if abs(exponent.numerator) * max(base.numerator.bit_length(), base.denominator.bit_length()) > 2 * LARGEST:
        raise TooLarge
    return base**exponent.numerator


def _exact_root(base: Fraction, degree: Fraction) -> Fraction:
    if degree.denominator != 1 or not 0 < degree <= 64 or (base < 0 and degree % 2 == 0):
        raise _Irrational
    parts = [_whole_root(abs(part), int(degree)) for part in (base.numerator, base.denominator)]
    return Fraction(*parts) if base >= 0 else -Fraction(*parts)


def _whole_root(value: int, degree: int) -> int:
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**degree <= value else (low, middle - 1)
    if low**degree != value:
        raise _Irrational
    return low


def _exact_factorial(value: Fraction) -> Fraction:
    if value.denominator != 1 or value < 0:
        raise Undefined
    if value > 7000:  # 7000! has more bits than LARGEST
        raise TooLarge
    return Fraction(_product(1, int(value)))


def _product(low: int, high: int) -> int:
    if low > high:
        return 1
    if low == high:
        return low
    middle = (low + high) // 2
    return _product(low, middle) * _product(middle + 1, high)


def _exact_choose(above: Fraction, below: Fraction) -> Fraction:
    if above.denominator != 1 or below.denominator != 1:
        raise _Irrational
    return _exact_factorial(above) / _exact_factorial(below) / _exact_factorial(above - below)


_EXACT: Mapping[str, Callable[..., Fraction]] = {
    "+": _sum,
    "-": lambda value: -value,
    "*": _product_of,
    "/": _divided,
    "^": _exact_power,
    "%": lambda value: value / 100,
    "!": _exact_factorial,
    "|": abs,
    "abs": abs,
    "sqrt": lambda value: _exact_root(value, Fraction(2)),
    "root": _exact_root,
    "binom": _exact_choose,
    "floor": lambda value: Fraction(value.__floor__()),
    "ceil": lambda value: Fraction(value.__ceil__()),
}


def _at_points(trees: tuple[Tree, Tree], names: list[str]) -> list[tuple[Any, Any]]:
    """Values of both at points where both have one. At points with negative coordinates only real ones count, since
    ln x^2 is 2 ln x where the second is defined."""
    found = []
    for trial in range(_POINTS):
        signs = (1, -1) if trial % 2 else (1, 1)
        point = {
            name: Number(Fraction(_draw(name, trial), 997) * signs[(index + trial // 2) % 2])
            for index, name in enumerate(names)
        }
        try:
            pair = tuple(_numeric(tree, point, 60) for tree in trees)
        except Undefined:
            continue
        if -1 in signs and any(abs(_NUMERIC.im(value)) > abs(value) * _NUMERIC.mpf(10) ** -40 for value in pair):
            continue
        found.append(pair)
    if not found:
        raise Undefined
    return found


def _draw(name: str, trial: int) -> int:
    return 300 + zlib.crc32(f"{name} {trial}".encode()) % 2500


def _numeric(tree: Tree, point: Mapping[str, Number], digits: int) -> Any:
    _NUMERIC.dps = digits
    return _evaluated(tree, point)


def _evaluated(tree: Tree, point: Mapping[str, Number]) -> Any:
    if isinstance(tree, Symbol):
        if tree.name in point:
            return _evaluated(point[tree.name], point)
        if tree.name not in _VALUES:
            raise Undefined
        return _VALUES[tree.name]()
    if isinstance(tree, Number):
        value = _bounded(tree.value)
        return _NUMERIC.mpf(value.numerator) / value.denominator
    if tree.name not in _FUNCTIONS:
        raise Undefined
    try:
        value = _FUNCTIONS[tree.name](*[_evaluated(part, point) for part in tree.operands])
        size = 0 if value == 0 or not _NUMERIC.isfinite(value) else abs(_NUMERIC.mag(value))
    except (ValueError, OverflowError, ZeroDivisionError, mpmath.libmp.ComplexResult, _NUMERIC.NoConvergence):
        raise Undefined from None
    if size > LARGEST:
        raise TooLarge
    return value


def _close(one: Any, other: Any, digits: int) -> bool:
    if not (_NUMERIC.isfinite(one) and _NUMERIC.isfinite(other)):
        return bool(one == other)
    return bool(abs(one - other) <= _NUMERIC.mpf(10) ** -digits * max(1, abs(one), abs(other)))


def _power(base: Any, exponent: Any) -> Any:
    if base != 0 and _NUMERIC.isfinite(base) and _NUMERIC.isfinite(exponent):
        if _NUMERIC.mag(exponent) > 40 or abs(exponent * _NUMERIC.log(abs(base), 2)) > LARGEST:
            raise TooLarge
        real = _NUMERIC.im(base) == 0 and _NUMERIC.im(exponent) == 0 and _NUMERIC.re(base) < 0
        degree = _odd_root(exponent) if real else 0
        if degree:
            return -(_NUMERIC.mpf(-_NUMERIC.re(base)) ** exponent)
    return base**exponent


def _odd_root(exponent: Any) -> int:
    """n where the exponent is 1/n with an odd n above 1, as in cube roots of negative numbers; else 0."""
    inverse = 1 / _NUMERIC.re(exponent) if exponent else 0
    nearest = int(_NUMERIC.nint(inverse)) if abs(inverse) < 100 else 0
    return nearest if nearest > 1 and nearest % 2 and abs(inverse - nearest) < _NUMERIC.mpf(10) ** -30 else 0


def _small(function: Callable[..., Any], bits: int) -> Callable[..., Any]:
    """The function, for arguments of so many bits at most: beyond it would need more digits than are kept."""

    def bounded(*values: Any) -> Any:
        if any(value != 0 and _NUMERIC.isfinite(value) and _NUMERIC.mag(value) > bits for value in values):
            raise TooLarge
        return function(*values)

    return bounded


def _root(value: Any, degree: Any) -> Any:
    return _power(value, 1 / degree)


def _over(above: Any, below: Any) -> Any:
    if below == 0:
        raise Undefined
    return above / below


_VALUES: Mapping[str, Callable[[], Any]] = {
    "pi": lambda: +_NUMERIC.pi,
    "e": lambda: +_NUMERIC.e,
    "i": lambda: _NUMERIC.mpc(0, 1),
    "infinity": lambda: _NUMERIC.inf,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "+": lambda *terms: sum(terms[1:], terms[0]),
    "-": lambda value: -value,
    "*": lambda *factors: math.prod(factors[1:], start=factors[0]),
    "/": _over,
    "^": _power,
    "%": lambda value: value / 100,
    "degree": lambda value: value * _NUMERIC.pi / 180,
    "!": _small(_NUMERIC.factorial, 14),
    "|": abs,
    "abs": abs,
    "sqrt": lambda value: _NUMERIC.sqrt(value),
    "root": _root,
    "binom": _small(_NUMERIC.binomial, 14),
    "floor": _small(_NUMERIC.floor, 200),
    "ceil": _small(_NUMERIC.ceil, 200),
    "exp": _small(_NUMERIC.exp, 15),
    "ln": _NUMERIC.log,
    "log": lambda value, base=None: _NUMERIC.log(value) if base is None else _NUMERIC.log(value) / _NUMERIC.log(base),
    "lg": lambda value: _NUMERIC.log(value) / _NUMERIC.log(10),
    **{
        name: _small(getattr(_NUMERIC, name), 15)
        for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "asin", "acos", "atan")
    },
    **{f"arc{name}": _small(getattr(_NUMERIC, f"a{name}"), 15) for name in ("sin", "cos", "tan")},
}
