"""Arithmetic made on the spot, graded by kind and level: questions that a small model half knows. Reads no file.

Each kind and level is a set of numbered questions. A draw picks numbers: no question comes twice, and its id says
which one it is, whatever the seed.
"""

import bisect
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from groupwise.data import Message, Question
from groupwise.errors import ConfigError
from groupwise.registry import nearest

DEFAULT_KINDS = ("sum", "difference", "product", "comparison", "sequence", "word")
DEFAULT_SIZE = 2000


@dataclass(frozen=True)
class Space:
    """Every way to fill one phrasing: the product of its axes; `ask` makes the text and the answer of one."""

    axes: tuple[Sequence[Any], ...]
    ask: Callable[..., tuple[str, int]]

    @property
    def size(self) -> int:
        return math.prod(len(axis) for axis in self.axes)

    def question(self, number: int) -> tuple[str, int]:
        """Text and answer of the question with that number, 0 <= number < size."""
        chosen = []
        for axis in self.axes:
            number, place = divmod(number, len(axis))
            chosen.append(axis[place])
        return self.ask(*chosen)


def questions(
    seed: int,
    size: int | None = None,
    *,
    kinds: Sequence[str] | Mapping[str, Sequence[int]] = DEFAULT_KINDS,
    levels: Sequence[int] = (1, 2),
    negatives: bool = False,
) -> list[Question]:
    """`size` distinct questions in a mixed order, as many of each kind and level as there are that many.

    kinds: of KINDS, or for each kind its own levels. levels: 1, one-digit numbers; 2, two-digit ones (a product's
    second factor keeps one digit). negatives: differences may be below 0. size None: 2000, or every question if there
    are fewer. Answers are integers as strings. Raises ConfigError for an unknown kind or level, or if there are fewer
    than `size` questions.
    """
    _check_choices("kinds", list(kinds) if isinstance(kinds, Mapping) else kinds, list(KINDS))
    _check_choices("levels", levels, [1, 2])
    if isinstance(kinds, Mapping):
        for kind, own in kinds.items():
            _check_choices(f"kinds.{kind}", own, [1, 2])
    else:
        kinds = dict.fromkeys(kinds, levels)
    if not isinstance(negatives, bool):
        raise ConfigError(f"questions.params.negatives = {negatives!r}: not true or false")
    cells = {(kind, level): KINDS[kind](level, negatives) for kind, own in kinds.items() for level in own}
    room = [sum(space.size for space in spaces) for spaces in cells.values()]
    if size is None:
        size = min(DEFAULT_SIZE, sum(room))
    if size > sum(room):
        raise ConfigError(
            f"questions.size = {size}: the kinds {list(kinds)} at their levels make {sum(room)} different ones",
            hint=f"ask for {sum(room)} or fewer, or add kinds or levels",
        )
    made = []
    for (key, spaces), share in zip(cells.items(), _shares(size, room), strict=True):
        made += _drawn(seed, share, kind=key[0], level=key[1], spaces=spaces)
    random.Random(f"order {seed}").shuffle(made)
    return made


def _drawn(seed: int, share: int, *, kind: str, level: int, spaces: list[Space]) -> list[Question]:
    """`share` distinct questions of one kind and level, spread evenly over its phrasings."""
    draw = random.Random(f"{kind} {level} {seed}")  # a string is hashed by SHA-512, whatever PYTHONHASHSEED says
    starts = [0, *accumulate(space.size for space in spaces)]
    numbers = []
    for space, start, part in zip(spaces, starts, _shares(share, [space.size for space in spaces]), strict=False):
        numbers += [start + number for number in draw.sample(range(space.size), part)]
    made = []
    for number in numbers:
        place = bisect.bisect_right(starts, number) - 1
        text, answer = spaces[place].question(number - starts[place])
        meta = {"kind": kind, "level": level, "_plain": True}
        made.append(Question(f"{kind}-{level}-{number}", (Message("user", text),), str(answer), meta))
    return made


def _shares(total: int, room: Sequence[int]) -> list[int]:
    """`total` dealt out as evenly as the room in each place allows; the first places take what does not divide."""
    shares = [0] * len(room)
    open_places = list(range(len(room)))
    while total and open_places:
        each, extra = divmod(total, len(open_places))
        for rank, place in enumerate(open_places):
            more = min(each + (rank < extra), room[place] - shares[place])
            shares[place] += more
            total -= more
        open_places = [place for place in open_places if shares[place] < room[place]]
    return shares


def _check_choices(name: str, given: Any, known: list[Any]) -> None:
    where = f"questions.params.{name} = {given!r}"
    noun = "kind" if name == "kinds" else "level"
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise ConfigError(f"{where}: not a list of {name}", hint=f"choose from: {', '.join(map(str, known))}")
    for item in given:
        if type(item) is not type(known[0]) or item not in known:  # 1.0 and true equal 1
            raise ConfigError(f"{where}: no {noun} {item!r}", hint=nearest(str(item), map(str, known)))
    if len(set(given)) < len(given):
        raise ConfigError(f"{where}: one of them is there twice", hint="name each once; they are dealt evenly")


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
