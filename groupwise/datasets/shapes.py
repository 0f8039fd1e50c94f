"""Questions about pictures that are drawn on the spot: squares, colours, sizes, digits. Reads no file.

Each kind is a set of numbered questions (`groupwise.datasets.numbered`); a picture follows from its number alone. All
answers of a kind are equally frequent: a model that does not look is right once in 5, 8, 2 and 10 times.
"""

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from groupwise.data import Image, Question, message_of_parts
from groupwise.datasets.drawing import COLOURS, GLYPH, SIDE, Figure, drawn
from groupwise.datasets.drawing import KINDS as FIGURES
from groupwise.datasets.numbered import Kinds, Space, levels_by_kind, mixed
from groupwise.errors import ConfigError
from groupwise.pictures import digest_of, png_of_pixels

LEVELS = (1, 2, 3)
_COUNTS = range(1, 6)
_NAMES = tuple(COLOURS)
_DIGITS = range(10)
_PICTURES = range(100_000)
_SHADES = range(220, 256)  # of a ground on which every colour stands out


def questions(
    seed: int,
    size: int | None = None,
    *,
    kinds: Kinds | None = None,
    levels: Sequence[int] = (1, 2),
    blank: bool = False,
) -> list[Question]:
    """`size` questions, each with a picture of 48 by 48 pixels before its text, evenly over kinds and levels.

    kinds: of KINDS, or for each kind its own levels; None: all of them. levels: 1, what is asked about alone and large;
    2, other figures beside it, anywhere; 3, more of them, smaller or nearer in size. blank: a control, every picture
    without its figures, which leaves the shade of its ground; it says nothing. meta["wrong"]: answers that are wrong.
    Raises ConfigError for an unknown kind or level, or without Pillow.
    """
    kinds = list(KINDS) if kinds is None else kinds
    chosen = levels_by_kind(kinds, levels, all_kinds=list(KINDS), all_levels=LEVELS)
    if not isinstance(blank, bool):
        raise ConfigError(f"questions.params.blank = {blank!r}: not true or false")
    cells = {
        f"{kind}-{level}": ([_space(kind, level)], {"kind": kind, "level": level})
        for kind, own in chosen.items()
        for level in own
    }
    return [_pictured(question, blank) for question in mixed(seed, size, cells, kinds=list(kinds))]


Asked = tuple[str, str, list[Figure], list[str]]
"""Text, answer, what the picture shows, and answers that are wrong."""


def _space(kind: str, level: int) -> Space:
    answers, ask = KINDS[kind]

    def numbered(answer: Any, number: int) -> tuple[str, str, dict[str, Any]]:
        draw = random.Random(f"{kind} {level} {answer} {number}")
        text, right, figures, wrong = ask(draw, answer, level)
        ground = tuple(draw.choice(_SHADES) for _ in range(3))
        return text, right, {"wrong": wrong, _SHOWN: (ground, tuple(figures))}

    return Space((answers, _PICTURES), numbered)


_SHOWN = "shown"


def _pictured(question: Question, blank: bool) -> Question:
    meta = {name: value for name, value in question.meta.items() if name not in (_SHOWN, "_plain")}
    ground, figures = question.meta[_SHOWN]
    data = png_of_pixels(drawn(ground, () if blank else figures))
    image = Image("", digest_of(data), data=data, size=(SIDE, SIDE))
    return dataclasses.replace(question, messages=(message_of_parts("user", [image, question.text]),), meta=meta)


def _in_cells(draw: random.Random, kinds: Sequence[str], colours: Sequence[str], level: int) -> list[Figure]:
    """Figures apart from each other, each somewhere in a cell of its own."""
    side = 12 if level == 3 else 16
    along = SIDE // side
    figures = []
    for kind, colour, cell in zip(kinds, colours, draw.sample(range(along**2), len(kinds)), strict=True):
        size = draw.randint(side * 5 // 8, side - 2)
        row, column = divmod(cell, along)
        left, top = (place * side + draw.randrange(side - size) for place in (column, row))
        figures.append(Figure(kind, colour, left, top, size))
    return figures


def _count(draw: random.Random, squares: int, level: int) -> Asked:
    others = draw.randint(0, {1: 0, 2: 4, 3: 8}[level])
    kinds = ["square"] * squares + draw.choices(["circle", "triangle"], k=others)
    colours = ["black"] if level == 1 else _NAMES
    figures = _in_cells(draw, kinds, draw.choices(colours, k=len(kinds)), level)
    return "How many squares?", str(squares), figures, [str(n) for n in _COUNTS if n != squares]


def _colour(draw: random.Random, colour: str, level: int) -> Asked:
    asked, *rest = draw.sample(list(FIGURES), len(FIGURES))
    wrong = [name for name in _NAMES if name != colour]
    text = f"What colour is the {asked}?"
    if level == 1:
        size = draw.randint(20, 32)
        left, top = draw.randrange(SIDE - size), draw.randrange(SIDE - size)
        return text, colour, [Figure(asked, colour, left, top, size)], wrong
    kinds = rest if level == 2 else draw.choices(rest, k=draw.randint(3, 6))
    return text, colour, _in_cells(draw, [asked, *kinds], [colour, *draw.sample(wrong, len(kinds))], level), wrong


def _larger(draw: random.Random, larger: int, level: int) -> Asked:
    colours = draw.sample(_NAMES, 2)
    kind = "square" if level == 1 else draw.choice(list(FIGURES))
    small, more = {1: ((6, 10), (8, 12)), 2: ((7, 14), (5, 8)), 3: ((7, 17), (2, 4))}[level]
    smaller_size = draw.randint(*small)
    sizes = [smaller_size, smaller_size + draw.randint(*more)]
    if larger == 0:
        sizes.reverse()
    half, figures = SIDE // 2, []
    sides = draw.sample(range(2), 2)
    for colour, size, place in zip(colours, sizes, sides, strict=True):
        left, top = place * half + draw.randrange(half - size), draw.randrange(SIDE - size)
        figures.append(Figure(kind, colour, left, top, size))
    text = f"Which is larger: {colours[0]} or {colours[1]}?"
    return text, colours[larger], figures, [colours[1 - larger]]


def _digit(draw: random.Random, digit: int, level: int) -> Asked:
    wrong = [str(other) for other in _DIGITS if other != digit]
    dot = 6 if level == 1 else draw.randint(3, 5)
    rooms = [SIDE - dots * dot for dots in GLYPH]
    if level == 1:
        left, top = (room // 2 + draw.randint(-2, 2) for room in rooms)
        return "Which digit?", str(digit), [Figure(str(digit), "black", left, top, dot)], wrong
    left, top = (draw.randint(0, room) for room in rooms)
    colours = draw.sample(_NAMES, 2)
    specks = [
        Figure("square", colours[1], draw.randrange(SIDE - 2), draw.randrange(SIDE - 2), 2)
        for _ in range(12 if level == 3 else 0)
    ]
    return "Which digit?", str(digit), [Figure(str(digit), colours[0], left, top, dot), *specks], wrong


KINDS: Mapping[str, tuple[Sequence[Any], Callable[[random.Random, Any, int], Asked]]] = {
    "count": (_COUNTS, _count),
    "colour": (_NAMES, _colour),
    "larger": (range(2), _larger),
    "digit": (_DIGITS, _digit),
}
"""By name: what the answer is drawn from, and how a question is asked of it."""
