"""Arithmetic made on the spot, graded by kind and level: questions that a small model half knows. Reads no file.

Each kind and level is a set of numbered questions (`groupwise.datasets.numbered`): no question comes twice, and its id
says which one it is, whatever the seed.
"""

from collections.abc import Callable, Sequence

from groupwise.data import Question
from groupwise.datasets.numbered import Kinds, Space, levels_by_kind, mixed
from groupwise.errors import ConfigError

DEFAULT_KINDS = ("sum", "difference", "product", "comparison", "sequence", "word")
LEVELS = (1, 2)


def questions(
    seed: int,
    size: int | None = None,
    *,
    kinds: Kinds = DEFAULT_KINDS,
    levels: Sequence[int] = (1, 2),
    negatives: bool = False,
) -> list[Question]:
    """`size` distinct arithmetic questions in random order, evenly over kinds and levels.

    kinds: of KINDS, or for each kind its own levels. levels: 1, one-digit numbers; 2, two-digit ones (a product's
    second factor keeps one digit). negatives: differences may be below 0. size None: 2000, or every question if there
    are fewer. Answers are integers as strings. Raises ConfigError for an unknown kind or level, or if there are fewer
    than `size` questions.
    """
    chosen = levels_by_kind(kinds, levels, all_kinds=list(KINDS), all_levels=LEVELS)
    if not isinstance(negatives, bool):
        raise ConfigError(f"questions.params.negatives = {negatives!r}: not true or false")
    cells = {
        f"{kind}-{level}": (KINDS[kind](level, negatives), {"kind": kind, "level": level})
        for kind, own in chosen.items()
        for level in own
    }
    return mixed(seed, size, cells, kinds=list(kinds))


def _numbers(level: int) -> range:
    return range(10) if level == 1 else range(10, 100)


def _several(level: int) -> range:
    """Numbers of things that take a plural."""
    return range(2, 10) if level == 1 else range(10, 100)


def _falling(numbers: range) -> list[tuple[int, int]]:
    """Pairs with a larger first number."""
    return [(a, b) for a in numbers for b in numbers if a > b]


def _sums(level: int, negatives: bool) -> list[Space]:
    return [Space((_numbers(level), _numbers(level)), lambda a, b: (f"What is {a} + {b}?", a + b))]


def _differences(level: int, negatives: bool) -> list[Space]:
    pairs = [(a, b) for a in _numbers(level) for b in _numbers(level) if negatives or a >= b]
    return [Space((pairs,), lambda pair: (f"What is {pair[0]} - {pair[1]}?", pair[0] - pair[1]))]


def _products(level: int, negatives: bool) -> list[Space]:
    return [Space((_numbers(level), range(10)), lambda a, b: (f"What is {a} * {b}?", a * b))]


def _comparisons(level: int, negatives: bool) -> list[Space]:
    pairs = [(a, b) for a in _numbers(level) for b in _numbers(level) if a != b]
    return [Space((pairs,), lambda pair: (f"Which is larger, {pair[0]} or {pair[1]}?", max(pair)))]


def _sequences(level: int, negatives: bool) -> list[Space]:
    def ask(start: int, step: int) -> tuple[str, int]:
        shown = ", ".join(str(start + step * place) for place in range(4))
        return f"What comes next: {shown}?", start + step * 4

    steps = range(1, 10) if level == 1 else range(10, 100)
    return [Space((_numbers(level), steps), ask)]


def _successors(level: int, negatives: bool) -> list[Space]:
    """For a model of a few thousand parameters: `7>` or `47>`, and the digit after the last one, 0 after 9."""
    return [Space((range(10**level),), lambda number: (f"{number:0{level}d}>", (number + 1) % 10))]


_NAMES = ("Ana", "Ben", "Carla", "David", "Emma", "Farid", "Grace", "Hugo", "Ines", "Jack", "Kofi", "Lena")
_THINGS = ("apples", "books", "buttons", "cards", "coins", "eggs", "marbles", "pencils", "shells", "stamps")
_FRIENDS = [(one, other) for one in _NAMES for other in _NAMES if one != other]


def _words(level: int, negatives: bool) -> list[Space]:
    """Four stories of one step, then three of two."""
    some, few = _several(level), range(2, 10)
    falling = _falling(some)

    def buys(who: str, what: str, a: int, b: int) -> tuple[str, int]:
        return f"{who} has {a} {what} and buys {b} more. How many {what} does {who} have now?", a + b

    def gives(who: str, what: str, pair: tuple[int, int]) -> tuple[str, int]:
        a, b = pair
        return f"{who} has {a} {what} and gives {b} of them away. How many {what} are left?", a - b

    def more(friends: tuple[str, str], what: str, pair: tuple[int, int]) -> tuple[str, int]:
        (who, friend), (a, b) = friends, pair
        return f"{who} has {a} {what}. {friend} has {b}. How many more {what} does {who} have?", a - b

    def packs(who: str, what: str, a: int, b: int) -> tuple[str, int]:
        return f"{who} packs {b} boxes with {a} {what} in each. How many {what} is that in all?", a * b

    def gives_and_finds(friends: tuple[str, str], what: str, pair: tuple[int, int], c: int) -> tuple[str, int]:
        (who, friend), (a, b) = friends, pair
        story = f"{who} has {a} {what}, gives {b} of them to {friend} and then finds {c} more."
        return f"{story} How many {what} does {who} have now?", a - b + c

    def together(friends: tuple[str, str], what: str, a: int, b: int, c: int) -> tuple[str, int]:
        who, friend = friends
        story = f"{who} finds {a} {what} in the morning and {b} in the evening. {friend} finds {c}."
        return f"{story} How many {what} do they find together?", a + b + c

    def bags(who: str, what: str, a: int, b: int, c: int) -> tuple[str, int]:
        story = f"{who} buys {b} bags with {a} {what} in each and already has {c} {what}."
        return f"{story} How many {what} does {who} have now?", a * b + c

    return [
        Space((_NAMES, _THINGS, some, some), buys),
        Space((_NAMES, _THINGS, falling), gives),
        Space((_FRIENDS, _THINGS, falling), more),
        Space((_NAMES, _THINGS, some, few), packs),
        Space((_FRIENDS, _THINGS, falling, some), gives_and_finds),
        Space((_FRIENDS, _THINGS, some, some, some), together),
        Space((_NAMES, _THINGS, some, few, some), bags),
    ]


KINDS: dict[str, Callable[[int, bool], list[Space]]] = {
    "sum": _sums,
    "difference": _differences,
    "product": _products,
    "comparison": _comparisons,
    "sequence": _sequences,
    "successor": _successors,
    "word": _words,
}
