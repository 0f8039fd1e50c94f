"""Questions for the games of `groupwise.envs.games`: numbers to guess and mazes, numbered by level. Plays nothing.

A question says what the game is. What the policy must find out stands in its answer and its meta data, which only the
environment and the rewards read.
"""

import random
from collections.abc import Sequence
from functools import lru_cache

from groupwise.data import Question
from groupwise.datasets.numbered import Space, check_choices, mixed

NUMBERS = {1: 10, 2: 30, 3: 100}
"""By level: how many numbers there are to choose from."""
ROOMS = {1: 4, 2: 6, 3: 9}
"""By level: rooms along each side of a maze."""
_LOWEST = range(100)
_FEW = 4_000  # numbers of level 1, so small that the same maze is drawn twice; looked through once
_MANY = 1_000_000


def guess_number(seed: int, size: int | None = None, *, levels: Sequence[int] = (1, 2)) -> list[Question]:
    """`size` numbers to guess, evenly over levels; two questions may ask for different numbers in the same words.

    levels: 1, of 10 numbers; 2, of 30; 3, of 100. answer: the number; meta low and high: the smallest and the largest
    that it can be. Raises ConfigError for an unknown level, or if there are fewer than `size` questions.
    """
    check_choices("levels", levels, list(NUMBERS), noun="level")
    cells = {f"guess_number-{level}": ([_numbers(level)], {"level": level}) for level in levels}
    return mixed(seed, size, cells, kinds=["guess_number"])


def maze(seed: int, size: int | None = None, *, levels: Sequence[int] = (1, 2)) -> list[Question]:
    """`size` distinct mazes, evenly over levels.

    levels: 1, of 4 by 4 rooms with one way to each; 2, of 6 by 6 with some loops; 3, of 9 by 9. meta["maze"]: rows of
    the plan, `#` a wall, `.` floor, `@` the start, `E` the exit. Raises ConfigError for an unknown level, or if there
    are fewer than `size` questions.
    """
    check_choices("levels", levels, list(ROOMS), noun="level")
    cells = {f"maze-{level}": ([_mazes(level)], {"level": level}) for level in levels}
    return mixed(seed, size, cells, kinds=["maze"])


def plan(level: int, number: int) -> list[str]:
    """Rows of a maze: rooms at odd rows and columns, and between them a wall or a way."""
    draw = random.Random(f"maze {level} {number}")
    side = ROOMS[level]
    rows = [["#"] * (2 * side + 1) for _ in range(2 * side + 1)]
    rooms = [(row, column) for row in range(1, 2 * side, 2) for column in range(1, 2 * side, 2)]
    way = [draw.choice(rooms)]
    rows[way[0][0]][way[0][1]] = "."
    while way:
        row, column = way[-1]
        shut = [(r, c) for r, c in _beside(row, column, 2, side) if rows[r][c] == "#"]
        if not shut:
            way.pop()
            continue
        r, c = draw.choice(shut)
        rows[(row + r) // 2][(column + c) // 2] = rows[r][c] = "."
        way.append((r, c))
    for _ in range(0 if level == 1 else side // 2):  # loops, so that a way out need not be the shortest
        row, column = draw.choice(rooms)
        r, c = draw.choice(_beside(row, column, 2, side))
        rows[(row + r) // 2][(column + c) // 2] = "."
    (row, column), (r, c) = draw.sample(rooms, 2)
    rows[row][column], rows[r][c] = "@", "E"
    return ["".join(cells) for cells in rows]


def _beside(row: int, column: int, far: int, side: int) -> list[tuple[int, int]]:
    """Rooms to the north, south, west and east that are inside the maze."""
    around = [(row - far, column), (row + far, column), (row, column - far), (row, column + far)]
    return [(r, c) for r, c in around if 0 < r < 2 * side and 0 < c < 2 * side]


def _numbers(level: int) -> Space:
    count = NUMBERS[level]

    def ask(low: int, above: int) -> tuple[str, int, dict[str, int]]:
        high = low + count - 1
        text = f"I have chosen a whole number from {low} to {high}. Which one is it?"
        return text, low + above, {"low": low, "high": high}

    return Space((_LOWEST, range(count)), ask)


def _mazes(level: int) -> Space:
    side = ROOMS[level]

    def ask(number: int) -> tuple[str, None, dict[str, list[str]]]:
        text = f"You are in maze {number} of {side} by {side} rooms. Find the way to the exit."
        return text, None, {"maze": plan(level, number)}

    return Space((_distinct() if level == 1 else range(_MANY),), ask)


@lru_cache(maxsize=1)
def _distinct() -> tuple[int, ...]:
    """Numbers of level 1, each of a maze that no smaller number has."""
    first: dict[tuple[str, ...], int] = {}
    for number in range(_FEW):
        first.setdefault(tuple(plan(1, number)), number)
    return tuple(first.values())
