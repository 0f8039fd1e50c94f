"""Sets of numbered questions by kind, and draws from them: no question twice, the same draw for the same seed."""

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

DEFAULT_SIZE = 2000


@dataclass(frozen=True)
class Space:
    """Every way to fill one phrasing: the product of its axes; `ask` makes the text and the answer of one.

    What `ask` gives behind these two is the question's further meta data.
    """

    axes: tuple[Sequence[Any], ...]
    ask: Callable[..., tuple[Any, ...]]

    @property
    def size(self) -> int:
        return math.prod(len(axis) for axis in self.axes)

    def question(self, number: int) -> tuple[Any, ...]:
        """Text, answer and what else there is of the question with that number, 0 <= number < size."""
        chosen = []
        for axis in self.axes:
            number, place = divmod(number, len(axis))
            chosen.append(axis[place])
        return self.ask(*chosen)


Cells = Mapping[str, tuple[Sequence[Space], Mapping[str, Any]]]
"""By the start of their ids: the phrasings of some questions that get an equal share, and their meta data."""


def mixed(seed: int, size: int | None, cells: Cells, *, kinds: Sequence[str]) -> list[Question]:
    """`size` distinct questions in a mixed order, as many of each cell as there are that many.

    size None: DEFAULT_SIZE, or every question if there are fewer. kinds: what the cells are of, for an error.
    Raises ConfigError if there are fewer than `size` questions.
    """
    room = [sum(space.size for space in spaces) for spaces, _ in cells.values()]
    if size is None:
        size = min(DEFAULT_SIZE, sum(room))
    if size > sum(room):
        raise ConfigError(
            f"questions.size = {size}: the kinds {list(kinds)} make {sum(room)} different ones",
            hint=f"ask for {sum(room)} or fewer, or add kinds or levels",
        )
    questions: list[Question] = []
    for (cell, (spaces, meta)), share in zip(cells.items(), _shares(size, room), strict=True):
        questions += _drawn(seed, share, cell=cell, spaces=spaces, meta=meta)
    random.Random(f"order {seed}").shuffle(questions)
    return questions


Kinds = Sequence[str] | Mapping[str, Sequence[int]]
"""Kinds of questions, or for each kind its levels."""


def levels_by_kind(
    kinds: Kinds, levels: Sequence[int], *, all_kinds: Sequence[str], all_levels: Sequence[int]
) -> Mapping[str, Sequence[int]]:
    """The levels of each kind; `levels` where only kinds are named. Raises ConfigError for unknown ones."""
    check_choices("kinds", list(kinds) if isinstance(kinds, Mapping) else kinds, all_kinds, noun="kind")
    check_choices("levels", levels, all_levels, noun="level")
    if not isinstance(kinds, Mapping):
        return dict.fromkeys(kinds, levels)
    for kind, own in kinds.items():
        check_choices(f"kinds.{kind}", own, all_levels, noun="level")
    return kinds


def check_choices(name: str, given: Any, known: Sequence[Any], *, noun: str) -> None:
    """Raises ConfigError unless `given` is a list of some of those that are known, each once."""
    where = f"questions.params.{name} = {given!r}"
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise ConfigError(f"{where}: not a list of {name}", hint=f"choose from: {', '.join(map(str, known))}")
    for item in given:
        if type(item) is not type(known[0]) or item not in known:  # 1.0 and true equal 1
            raise ConfigError(f"{where}: no {noun} {item!r}", hint=nearest(str(item), map(str, known)))
    if len(set(given)) < len(given):
        raise ConfigError(f"{where}: one of them is there twice", hint="name each once; they are dealt evenly")


def _drawn(seed: int, share: int, *, cell: str, spaces: Sequence[Space], meta: Mapping[str, Any]) -> list[Question]:
    """`share` distinct questions of one cell, spread evenly over its phrasings."""
    # A string is hashed by SHA-512, whatever PYTHONHASHSEED says.
    draw = random.Random(f"{cell.replace('-', ' ')} {seed}")
    starts = [0, *accumulate(space.size for space in spaces)]
    numbers = []
    for space, start, part in zip(spaces, starts, _shares(share, [space.size for space in spaces]), strict=False):
        numbers += [start + number for number in draw.sample(range(space.size), part)]
    questions = []
    for number in numbers:
        place = bisect.bisect_right(starts, number) - 1
        text, answer, *more = spaces[place].question(number - starts[place])
        further = more[0] if more else {}
        own = {**meta, **further, "_plain": True}
        questions.append(
            Question(f"{cell}-{number}", (Message("user", text),), None if answer is None else str(answer), own)
        )
    return questions


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
