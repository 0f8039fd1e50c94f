"""Formulas as trees. Knows neither how they are written nor what they are worth.

A tree is a Number, a Symbol, or an operation with its operands.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Number:
    """value, exactly as written; places: digits behind the decimal point, None without one."""

    value: Fraction
    places: int | None = None


@dataclass(frozen=True)
class Symbol:
    """A variable or a constant: x, x_1, pi, e, i, infinity."""

    name: str


@dataclass(frozen=True)
class Operation:
    """name: +, *, /, ^, !, |, %, +-, -+, root, or a function's; of -, its one operand is negated."""

    name: str
    operands: "tuple[Tree, ...]"


Tree = Number | Symbol | Operation


def transformed(tree: Tree, change: Callable[[Tree], Tree | None]) -> Tree:
    """The tree with every part for which `change` returns another one replaced, from the top."""
    changed = change(tree)
    if changed is not None:
        return changed
    if isinstance(tree, Operation):
        return Operation(tree.name, tuple(transformed(part, change) for part in tree.operands))
    return tree
