"""Numbers and formulas with their units: as exact as the right answer is written, units converted."""

from fractions import Fraction

from groupwise.rewards.answers import value
from groupwise.rewards.answers.formula import Number, Operation, Tree
from groupwise.rewards.answers.read import Answer, Equal, Quantity
from groupwise.rewards.answers.units import UNITS, Unit

_INTERCHANGEABLE = {"angle", "celsius", "fahrenheit"}
"""Dimensions whose units are all called degrees."""
_TEN = Number(Fraction(10))


def quantities(gold: Answer, given: Answer, equal: Equal) -> bool | None:
    """A unit may be left out or added; units of one dimension convert; degrees are radians where one has no unit."""
    if not isinstance(gold, Quantity) or not isinstance(given, Quantity):
        return None
    within = tolerance(gold.tree)
    if gold.unit and given.unit and gold.unit != given.unit:
        unit, other = _beside(gold.unit, given.unit), _beside(given.unit, gold.unit)
        if unit.dimension == other.dimension:
            return _within(gold.tree, Operation("*", (given.tree, Number(other.size / unit.size))), within)
        alike = {unit.dimension, other.dimension} <= _INTERCHANGEABLE
        return alike and _within(gold.tree, given.tree, within)
    if _within(gold.tree, given.tree, within):
        return _percent_left_out(gold, given)
    if bool(gold.unit) != bool(given.unit):
        right, answered = _radians(gold), _radians(given)
        if (right, answered) != (gold.tree, given.tree):
            return value.equal(right, answered)
    if gold.percent != given.percent:
        if gold.percent:
            return _within(Operation("%", (gold.tree,)), given.tree, within / 100)
        return _within(gold.tree, Operation("%", (given.tree,)), within)
    return False


def _beside(unit: Unit, other: Unit) -> Unit:
    """A unit as it is meant beside another: 分 is a hundredth of a yuan, and a minute beside a time."""
    return UNITS["分钟"] if unit == UNITS["分"] and other.dimension == "time" else unit


def _percent_left_out(gold: Quantity, given: Quantity) -> bool:
    """50 and 50% are one answer; 0.5 and 0.5% are not, since 0.5 is a share where no per cent sign stands."""
    if gold.percent or not given.percent:
        return True
    exact = _exact(gold.tree)
    return exact is None or abs(exact) >= 1


def _radians(angle: Quantity) -> Tree:
    degrees = angle.unit is not None and angle.unit.dimension == "angle"
    return Operation("degree", (angle.tree,)) if degrees else angle.tree


def tolerance(gold: Tree) -> Fraction:
    """Half a unit of the last place of a decimal such as 3.14, -0.50, 6.02 x 10^23; 0 for any other answer."""
    if isinstance(gold, Number):
        return Fraction(0) if gold.places is None else Fraction(10) ** -gold.places / 2
    if isinstance(gold, Operation) and gold.name == "-":
        return tolerance(gold.operands[0])
    if isinstance(gold, Operation) and gold.name == "*" and len(gold.operands) == 2:
        mantissa, power = gold.operands
        if isinstance(power, Operation) and power.name == "^" and power.operands[0] == _TEN:
            size = _exact(power)
            return Fraction(0) if size is None else tolerance(mantissa) * size
    return Fraction(0)


def _exact(tree: Tree) -> Fraction | None:
    try:
        return value.exact(tree)
    except ArithmeticError:
        return None


def _within(gold: Tree, given: Tree, distance: Fraction) -> bool:
    if not distance:
        return value.equal(gold, given)
    right, answered = _exact(gold), _exact(given)
    if right is not None and answered is not None:
        return abs(right - answered) <= distance
    try:
        apart = abs(value.approximate(gold) - value.approximate(given))
        return bool(apart * distance.denominator <= distance.numerator)
    except ArithmeticError:
        return False
