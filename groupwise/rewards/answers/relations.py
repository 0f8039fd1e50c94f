"""Equations, inequalities and both signs: x = 5 beside 5, x > 2 beside (2, infinity), \\pm 2 beside 2, -2."""

from collections.abc import Sequence

from groupwise.rewards.answers import value
from groupwise.rewards.answers.formula import Operation, Symbol, Tree
from groupwise.rewards.answers.read import Answer, Equal, Quantity, Relation, Several, Union, Words, is_symbol

_TURNED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne", "=": "="}


def plus_minus(gold: Answer, given: Answer, equal: Equal) -> bool | None:
    opened = [_both_signs(one) for one in (gold, given)]
    return equal(*opened) if opened != [gold, given] else None


def _both_signs(answer: Answer) -> Answer:
    r"""\pm 2 as the list 2, -2; in x = \pm 2 and in lists too."""
    if isinstance(answer, Several) and answer.opening in ("", "{"):
        items = tuple(item for one in answer.items for item in _items_without_brackets(_both_signs(one)))
        return Several(answer.opening, answer.closing, items) if items != answer.items else answer
    if isinstance(answer, Relation) and answer.signs == ("=",):
        last = _both_signs(answer.sides[-1])
        if last != answer.sides[-1] and is_symbol(answer.sides[0]):
            return last
    if isinstance(answer, Quantity):
        trees = [value.substituted(answer.tree, sign) for sign in (1, -1)]
        if trees[0] != trees[1]:
            return Several("", "", tuple(Quantity(tree, answer.unit, answer.percent) for tree in trees))
    return answer


def _items_without_brackets(answer: Answer) -> Sequence[Answer]:
    return answer.items if isinstance(answer, Several) and not answer.opening else (answer,)


def inequalities(gold: Answer, given: Answer, equal: Equal) -> bool | None:
    """An inequality in one variable is an interval; several are their union; one in several goes up to a factor."""
    ranges = [_range(one) for one in (gold, given)]
    if ranges != [gold, given]:
        return equal(ranges[0], ranges[1])
    if not isinstance(gold, Relation) or not isinstance(given, Relation):
        return None
    right, answered = _difference(gold), _difference(given)
    signs = [one.signs[0] if len(one.signs) == 1 else "" for one in (gold, given)]
    if right is None or answered is None or not set(signs) <= set(_TURNED) or signs == ["=", "="]:
        return None
    if "=" in signs or "\\ne" in signs:
        return signs[0] == signs[1] and value.proportional(right, answered)
    if signs[0] == signs[1]:
        return value.proportional(right, answered, positive=True)
    return signs[0] == _TURNED[signs[1]] and value.proportional(right, Operation("-", (answered,)), positive=True)


def _range(answer: Answer) -> Answer:
    if isinstance(answer, Several) and not answer.opening and answer.items:
        ranges = tuple(map(_range, answer.items))
        return Union(("\\cup",) * (len(ranges) - 1), ranges) if all(map(_is_interval, ranges)) else answer
    if not isinstance(answer, Relation) or not set(answer.signs) <= {"<", ">", "\\le", "\\ge", "\\ne"}:
        return answer
    sides, signs = answer.sides, answer.signs
    if len(sides) == 3 and set(signs) <= {">", "\\ge"}:
        sides, signs = sides[::-1], tuple(_TURNED[sign] for sign in signs[::-1])
    if len(sides) == 3 and set(signs) <= {"<", "\\le"} and is_symbol(sides[1]):
        return Several("(" if signs[0] == "<" else "[", ")" if signs[1] == "<" else "]", (sides[0], sides[2]))
    if len(sides) != 2:
        return answer
    if is_symbol(sides[1]) and not is_symbol(sides[0]):
        sides, signs = sides[::-1], (_TURNED[signs[0]],)
    constant = isinstance(sides[1], Quantity) and not value.variables(sides[1].tree)
    if not is_symbol(sides[0]) or not constant:
        return answer
    infinite = Symbol("infinity")
    if signs[0] == "\\ne":
        below = Several("(", ")", (Quantity(Operation("-", (infinite,))), sides[1]))
        return Union(("\\cup",), (below, Several("(", ")", (sides[1], Quantity(infinite)))))
    if signs[0] in (">", "\\ge"):
        return Several("(" if signs[0] == ">" else "[", ")", (sides[1], Quantity(infinite)))
    return Several("(", ")" if signs[0] == "<" else "]", (Quantity(Operation("-", (infinite,))), sides[1]))


def _is_interval(answer: Answer) -> bool:
    return isinstance(answer, Several) and len(answer.items) == 2 and answer.opening in ("(", "[")


def _difference(relation: Relation) -> Tree | None:
    left, right = relation.sides[0], relation.sides[-1]
    if not isinstance(left, Quantity) or not isinstance(right, Quantity):
        return None
    return Operation("+", (left.tree, Operation("-", (right.tree,))))


def equations(gold: Answer, given: Answer, equal: Equal) -> bool | None:
    """Of x = 5 and 6 * 7 = 42 the last side; equations of both sides the same up to a factor."""
    if isinstance(gold, Relation) and isinstance(given, Relation):
        return _both(gold, given, equal)
    if isinstance(gold, Relation):
        last = _value(gold)
        return last is not None and equal(last, given)
    if isinstance(given, Relation):
        last = given.sides[-1] if _is_sum_of_names(given.sides[0]) and given.signs == ("=",) else _value(given)
        return last is not None and equal(gold, last)
    return None


def _both(gold: Relation, given: Relation, equal: Equal) -> bool:
    if gold.signs == ("=",) and set(given.signs) == {"="}:
        return _both_equations(gold, Relation(("=",), (given.sides[0], given.sides[-1])), equal)
    if gold.signs[-1] == given.signs[-1] == "\\in":
        return equal(gold.sides[-1], given.sides[-1])
    return gold.signs == given.signs and all(map(equal, gold.sides, given.sides))


def _value(relation: Relation) -> Answer | None:
    """What a relation says something is; None for an inequality, and an equation of both sides."""
    sides = relation.sides
    if not set(relation.signs) <= {"=", "\\in"}:
        return None
    if len(sides) > 2 or is_symbol(sides[0]) or (_constant(sides[0]) and not is_symbol(sides[1])):
        return sides[-1]
    return sides[0] if is_symbol(sides[1]) else None  # 5 = x


def _is_sum_of_names(answer: Answer) -> bool:
    """Whether it is m + n + p, whose value is asked for, and no equation that is to be solved."""
    tree = answer.tree if isinstance(answer, Quantity) else None
    return isinstance(tree, Operation) and tree.name == "+" and all(isinstance(part, Symbol) for part in tree.operands)


def _both_equations(gold: Relation, given: Relation, equal: Equal) -> bool:
    solved, other = _solved(gold), _solved(given)
    constant = solved is not None and _constant(solved[1])
    if solved is not None and other is not None:
        alike = solved[0] == other[0] or isinstance(solved[0], Words) or isinstance(other[0], Words)
        if alike and equal(solved[1], other[1]):
            return True
    if constant:  # 2x = 10 is not x = 5 yet
        return False
    right, answered = _difference(gold), _difference(given)
    if right is None or answered is None:
        return all(map(equal, gold.sides, given.sides))
    return value.proportional(right, answered)


def _solved(equation: Relation) -> tuple[Answer, Answer] | None:
    left, right = equation.sides
    if is_symbol(left):
        return left, right
    return (right, left) if is_symbol(right) else None


def _constant(answer: Answer) -> bool:
    return isinstance(answer, Quantity) and not value.variables(answer.tree)
