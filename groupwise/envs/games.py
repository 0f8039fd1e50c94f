"""Two games in words: a number to guess, and a maze. What is hidden comes from the question; nothing is drawn.

The questions of the same names (`groupwise.datasets.games`) have what these read, and so may rows of a user's file.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groupwise.data import Message, Question
from groupwise.envs.actions import number_of, word_of
from groupwise.errors import ConfigError


class GuessNumber:
    """The policy names a number and hears `higher` or `lower`, until it is right or has no guess left.

    guesses: most turns; None: one more than halving the numbers needs. early_share: share of the reward that each
    further guess eats into: a right first guess earns 1, a right last one 1 - early_share.
    question: its answer is the number, its meta low and high are the smallest and the largest that it can be.
    """

    def __init__(self, *, guesses: int | None = None, early_share: float = 0.0) -> None:
        self._guesses = None if guesses is None else _count("guesses", guesses)
        self._early_share = _share("early_share", early_share)

    def reset(self, question: Question) -> list[Message]:
        self._low, self._high = _whole(question, "low"), _whole(question, "high")
        self._number = _whole_answer(question)
        if not self._low <= self._number <= self._high:
            raise ValueError(f"the answer {self._number} is not from {self._low} to {self._high}")
        self._most = self._guesses or (self._high - self._low + 1).bit_length() + 1
        self._used = self._invalid = 0
        self._right = False
        return _asked(
            question,
            f"You have {self._most} guesses. End each turn with one number; I say whether mine is higher or lower.",
        )

    def reply(self, messages: Sequence[Message]) -> list[Message] | None:
        self._used += 1
        guess = number_of(messages[-1].content)
        if guess == self._number:
            self._right = True
            return None
        if guess is None:
            self._invalid += 1
            said = "I read no guess. End your turn with one whole number."
        elif not self._low <= guess <= self._high:
            self._invalid += 1
            said = f"{guess} is not from {self._low} to {self._high}."
        else:
            said = "higher" if guess < self._number else "lower"
        left = self._most - self._used
        if not left:
            return None
        return [Message("user", f"{said} ({left} left)" if said in ("higher", "lower") else f"{said} {left} left.")]

    def outcome(self) -> Mapping[str, Any]:
        saved = (self._most - self._used) / (self._most - 1) if self._most > 1 else 1.0
        reward = 1 - self._early_share * (1 - saved) if self._right else 0.0
        return {"reward": reward, "right": float(self._right), "guesses": self._used, "invalid": self._invalid}


SIDES = {"north": (-1, 0), "south": (1, 0), "west": (0, -1), "east": (0, 1)}
_SHORT = {side[0]: side for side in SIDES}


class Maze:
    """The policy names a side of the compass, goes to the next room and is shown what it sees there.

    view: words, how far it sees to each side and where the exit lies; grid, the plan with `@` for where it is. steps:
    most turns; None: twice the shortest way, and 4. short_share: share of the reward for a short way: the exit earns
    1 on the shortest one, and 1 - short_share on a very long one.
    question: meta["maze"] has the rows of the plan, `#` a wall, `@` the start, `E` the exit, any other character floor.
    A step crosses as many characters as there are between two rooms: two, where all rooms have odd rows and columns.
    """

    def __init__(self, *, view: str = "words", steps: int | None = None, short_share: float = 0.0) -> None:
        if view not in ("words", "grid"):
            raise ConfigError(f"environment_params.view = {view!r}", hint="choose from: words, grid")
        self._view = view
        self._steps = None if steps is None else _count("steps", steps)
        self._short_share = _share("short_share", short_share)

    def reset(self, question: Question) -> list[Message]:
        self._plan = _plan_of(question)
        self._here = self._plan.start
        self._shortest = self._plan.shortest()
        self._most = self._steps or 2 * self._shortest + 4
        self._turns = self._moves = self._walls = self._invalid = 0
        rules = f"You have {self._most} turns. End each turn with one word: north, south, west or east."
        return _asked(question, f"{rules}\n{self._seen()}")

    def reply(self, messages: Sequence[Message]) -> list[Message] | None:
        self._turns += 1
        side = word_of(messages[-1].content, SIDES, short=_SHORT)
        if side is None:
            self._invalid += 1
            said = "I read no move. End your turn with one word: north, south, west or east."
        elif (there := self._plan.step(self._here, side)) is None:
            self._walls += 1
            said = f"There is a wall to the {side}. {self._seen()}"
        else:
            self._moves += 1
            self._here = there
            said = self._seen()
        if self._here == self._plan.exit or self._turns == self._most:
            return None
        return [Message("user", said)]

    def outcome(self) -> Mapping[str, Any]:
        reached = self._here == self._plan.exit
        way = self._shortest / self._turns if self._turns else 1.0
        return {
            "reward": 1 - self._short_share * (1 - way) if reached else 0.0,
            "reached": float(reached),
            "moves": self._moves,
            "shortest": self._shortest,
            "walls": self._walls,
            "invalid": self._invalid,
        }

    def _seen(self) -> str:
        return self._plan.picture(self._here) if self._view == "grid" else self._plan.words(self._here)


Place = tuple[int, int]


@dataclass(frozen=True)
class _Plan:
    """A maze. rows: of characters; stride: characters from one room to the next."""

    rows: tuple[str, ...]
    start: Place
    exit: Place
    stride: int

    def step(self, place: Place, side: str) -> Place | None:
        """The room on that side; None: there is a wall."""
        row, column = SIDES[side]
        crossed = [(place[0] + n * row, place[1] + n * column) for n in range(1, self.stride + 1)]
        return crossed[-1] if all(self._open(*there) for there in crossed) else None

    def shortest(self) -> int:
        """Steps from the start to the exit. Raises ValueError if no way leads there."""
        far = {self.start: 0}
        waiting = deque([self.start])
        while waiting:
            here = waiting.popleft()
            if here == self.exit:
                return far[here]
            for side in SIDES:
                there = self.step(here, side)
                if there is not None and there not in far:
                    far[there] = far[here] + 1
                    waiting.append(there)
        raise ValueError("no way leads from @ to E")

    def words(self, place: Place) -> str:
        """How many rooms are open on each side, and where the exit lies."""
        open_sides = [f"{_rooms(count)} {side}" for side in SIDES if (count := self._sight(place, side))]
        down, right = ((self.exit[axis] - place[axis]) // self.stride for axis in (0, 1))
        lies = [f"{abs(down)} {'south' if down > 0 else 'north'}"] if down else []
        lies += [f"{abs(right)} {'east' if right > 0 else 'west'}"] if right else []
        return f"You can go {', '.join(open_sides) or 'nowhere'}. The exit lies {' and '.join(lies)}."

    def picture(self, place: Place) -> str:
        rows = [row.replace("@", ".") for row in self.rows]
        rows[place[0]] = f"{rows[place[0]][: place[1]]}@{rows[place[0]][place[1] + 1 :]}"
        return "\n".join(rows)

    def _sight(self, place: Place, side: str) -> int:
        count, there = 0, self.step(place, side)
        while there is not None:
            count, there = count + 1, self.step(there, side)
        return count

    def _open(self, row: int, column: int) -> bool:
        return 0 <= row < len(self.rows) and 0 <= column < len(self.rows[row]) and self.rows[row][column] != "#"


def _rooms(count: int) -> str:
    return "1 room" if count == 1 else f"{count} rooms"


def _plan_of(question: Question) -> _Plan:
    """Raises ValueError for a question without a maze, or with one that has not one start and one exit."""
    given = question.meta.get("maze")
    rows = tuple(given.splitlines()) if isinstance(given, str) else tuple(given or ())
    if not rows or not all(isinstance(row, str) for row in rows):
        raise ValueError("the question has no maze: meta['maze'], rows of text (the source `maze` has them)")
    found = {
        mark: [(r, c) for r, row in enumerate(rows) for c, character in enumerate(row) if character == mark]
        for mark in "@E"
    }
    for mark, places in found.items():
        if len(places) != 1:
            raise ValueError(f"the maze has {len(places)} {mark!r}, not one")
    start, way_out = found["@"][0], found["E"][0]
    odd = all(place[axis] % 2 for place in (start, way_out) for axis in (0, 1))
    walled = all(
        character == "#" for r, row in enumerate(rows) for c, character in enumerate(row) if r % 2 == 0 and c % 2 == 0
    )
    return _Plan(rows, start, way_out, stride=2 if odd and walled else 1)


def _asked(question: Question, rules: str) -> list[Message]:
    """The question's messages, with the rules behind what the user says last."""
    messages = list(question.messages)
    last = max((place for place, message in enumerate(messages) if message.role == "user"), default=None)
    if last is None:
        return [*messages, Message("user", rules)]
    messages[last] = Message("user", f"{messages[last].content}\n{rules}")
    return messages


def _whole(question: Question, name: str) -> int:
    return _read(question.meta.get(name), f"meta[{name!r}]")


def _whole_answer(question: Question) -> int:
    return _read(question.answer, "answer")


def _read(given: Any, what: str) -> int:
    try:
        if isinstance(given, bool) or (isinstance(given, float) and not given.is_integer()):
            raise ValueError
        return int(given)
    except (TypeError, ValueError):
        raise ValueError(
            f"the question's {what} = {given!r}: no whole number (the source `guess_number` has one)"
        ) from None


def _count(name: str, given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ConfigError(f"environment_params.{name} = {given!r}", hint="give a whole number of 1 or more")
    return given


def _share(name: str, given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
        raise ConfigError(f"environment_params.{name} = {given!r}", hint="give a share from 0 to 1")
    return float(given)
