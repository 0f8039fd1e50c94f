"""Small pictures drawn from numbers alone: figures and digits on a plain ground. Knows no file format.

Letters: H and W are the pixels of the picture's side, SIDE.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

SIDE = 48
"""Pixels of a side."""
COLOURS = {
    "black": (20, 20, 20),
    "blue": (40, 80, 220),
    "green": (30, 150, 60),
    "orange": (245, 140, 20),
    "pink": (245, 110, 190),
    "red": (215, 30, 40),
    "violet": (120, 40, 170),
    "yellow": (235, 215, 30),
}
"""RGB by name."""
_ROWS, _COLUMNS = np.mgrid[:SIDE, :SIDE]  # [H W] each
_GLYPHS = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00010 00100 01000 11111",
    "11111 00010 00100 00010 00001 10001 01110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)
"""Rows of each digit's dots, 5 wide and 7 high."""
GLYPH = (5, 7)
"""Dots of a digit's width and height."""


@dataclass(frozen=True)
class Figure:
    """What is drawn. kind: of KINDS, or a digit; left, top: pixels of its corner; size: of its side, or of a dot."""

    kind: str
    colour: str
    left: int
    top: int
    size: int


def _square(rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    return (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)


def _circle(rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    # In half pixels from the middle, so that all numbers are whole.
    return (2 * rows + 1 - size) ** 2 + (2 * columns + 1 - size) ** 2 <= size**2


def _triangle(rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    return _square(rows, columns, size) & (np.abs(2 * columns + 1 - size) <= rows + 1)


KINDS: Mapping[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "square": _square,
    "circle": _circle,
    "triangle": _triangle,
}
"""By name: [H W] true inside a figure; of rows and columns counted from its corner."""


def drawn(ground: tuple[int, int, int], figures: tuple[Figure, ...]) -> np.ndarray:
    """[H W 3] bytes: the figures over a ground of one RGB colour, the last on top."""
    pixels = np.empty((SIDE, SIDE, 3), np.uint8)
    pixels[:] = ground
    for figure in figures:
        rows, columns = _ROWS - figure.top, _COLUMNS - figure.left
        inside = (
            KINDS[figure.kind](rows, columns, figure.size) if figure.kind in KINDS else _dots(rows, columns, figure)
        )
        pixels[inside] = COLOURS[figure.colour]
    return pixels


def _dots(rows: np.ndarray, columns: np.ndarray, figure: Figure) -> np.ndarray:
    glyph = np.array([[dot == "1" for dot in row] for row in _GLYPHS[int(figure.kind)].split()])
    width, height = GLYPH
    within = (rows >= 0) & (rows < height * figure.size) & (columns >= 0) & (columns < width * figure.size)
    return within & glyph[rows // figure.size % height, columns // figure.size % width]
