"""Answers of several items: lists and sets in any order, tuples and vectors in theirs, intervals, matrices."""

from collections.abc import Sequence

from groupwise.rewards.answers.read import Answer, Equal, Matrix, Relation, Several, Union, Words, items_of

MOST_ITEMS = 40
"""Items that are compared; each is held against each."""


def empty_sets(gold: Answer, given: Answer, equal: Equal) -> bool | None:
    """The empty set is a set without items, and no solution."""
    empty = [
        (isinstance(one, Several) and one.opening == "{" and not one.items)
        or (isinstance(one, Words) and (one.text == "no solution" or one.raw.strip() == "\\emptyset"))
        for one in (gold, given)
    ]
    return all(empty) if any(empty) else None


def matrices(gold: Answer, given: Answer, equal: Equal) -> bool | None:
    if isinstance(gold, Matrix) and isinstance(given, Matrix):
        same_shape = [len(row) for row in gold.rows] == [len(row) for row in given.rows]
        return same_shape and all(
            equal(one, other)
            for rows in zip(gold.rows, given.rows, strict=True)
            for one, other in zip(*rows, strict=True)
        )
    matrix, other = (gold, given) if isinstance(gold, Matrix) else (given, gold)
    if not isinstance(matrix, Matrix):
        return None
    vector = _vector(matrix)
    if isinstance(other, Several) and all(isinstance(item, Several) for item in other.items):  # [[1, 2], [3, 4]]
        rows = tuple(tuple(items_of(item)) for item in other.items)
        return equal(gold, Matrix(rows)) if matrix is gold else equal(Matrix(rows), given)
    if vector is None or not isinstance(other, Several) or other.opening not in ("(", "["):
        return False
    pair = (vector, other.items) if matrix is gold else (other.items, vector)
    return _in_order(*pair, equal)


def _vector(matrix: Matrix) -> tuple[Answer, ...] | None:
    if len(matrix.rows) == 1:
        return matrix.rows[0]
    return tuple(row[0] for row in matrix.rows) if all(len(row) == 1 for row in matrix.rows) else None


def several(gold: Answer, given: Answer, equal: Equal) -> bool | None:
    if not isinstance(gold, Several) and not isinstance(given, Several):
        return None
    kinds = [one.opening if isinstance(one, Several) else "one" for one in (gold, given)]
    items = [items_of(one) for one in (gold, given)]
    if "one" in kinds:  # {5} is 5, and a list of one
        several = gold if isinstance(gold, Several) else given
        bare = isinstance(several, Several) and several.opening in ("{", "[", "")
        return bare and len(items[0]) == len(items[1]) == 1 and equal(items[0][0], items[1][0])
    if kinds[0] == "{":
        return kinds[1] in ("{", "") and _any_order(_distinct(items[0], equal), _distinct(items[1], equal), equal)
    if kinds[0] == "":
        if kinds[1] in ("(", "[") and all(isinstance(item, Relation) for item in items[0]):  # x = 1, y = 2
            return _in_order(items[0], items[1], equal)
        return (
            _any_order(items[0], items[1], equal)
            if kinds[1] != "{"
            else _any_order(_distinct(items[0], equal), _distinct(items[1], equal), equal)
        )
    if kinds[1] == "{":
        return False
    if kinds[1] and len(items[0]) == 2 and [kinds[0], _closing(gold)] != [kinds[1], _closing(given)]:
        return False  # an interval is open or closed
    return _in_order(items[0], items[1], equal)


def unions(gold: Answer, given: Answer, equal: Equal) -> bool | None:
    if not isinstance(gold, Union) or not isinstance(given, Union):
        return False if isinstance(gold, Union) or isinstance(given, Union) else None
    if set(gold.signs) | set(given.signs) == {"\\cup"} or (gold.signs == given.signs == ("\\cap",)):
        return _any_order(gold.items, given.items, equal)
    return gold.signs == given.signs and _in_order(gold.items, given.items, equal)


def _closing(answer: Answer) -> str:
    return answer.closing if isinstance(answer, Several) else ""


def _in_order(gold: Sequence[Answer], given: Sequence[Answer], equal: Equal) -> bool:
    return len(gold) == len(given) and all(map(equal, gold, given))


def _any_order(gold: Sequence[Answer], given: Sequence[Answer], equal: Equal) -> bool:
    if len(gold) != len(given) or len(gold) > MOST_ITEMS:
        return False
    left = list(given)
    for item in gold:
        found = next((index for index, other in enumerate(left) if equal(item, other)), None)
        if found is None:
            return False
        left.pop(found)
    return True


def _distinct(items: Sequence[Answer], equal: Equal) -> list[Answer]:
    kept: list[Answer] = []
    for item in items[:MOST_ITEMS]:
        if not any(equal(other, item) for other in kept):
            kept.append(item)
    return kept
