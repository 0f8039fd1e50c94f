"""TextArena's games as they are: single-player ones, and those of two against an opponent. The one file that knows it.

Its games draw from Python's and NumPy's global generators. Each episode has states of its own for these, which stand in
while its game moves, one game at a time: so a game depends on its seed and its moves alone.
"""

import contextlib
import hashlib
import random
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np

from groupwise.data import Message, Question
from groupwise.envs.actions import spoken
from groupwise.errors import ConfigError
from groupwise.functions import find, last_line
from groupwise.registry import nearest

_GAME = -1  # the sender of what the game says
_MOST_TRIES = 100
"""Moves of an opponent in a row: one that the game refuses is tried again."""
_LISTS = re.compile(r"\b(?:available|valid|legal)\b", re.IGNORECASE)
_MOVE = re.compile(r"\[[^\[\]]+\]")
_moving = threading.Lock()


class TextArena:
    """One game of TextArena: a turn of the policy, without its reasoning, is its move, and it sees what follows.

    id: of the game; None: each question's meta["textarena"]["id"] has it. opponent: of a game for two, `random` (one of
    the moves that the game lists) or a function of your own, path/to/file.py:function, called with all that the
    opponent has seen. player: the policy's place in a game for two, 0 moves first. unfinished: reward of a cut game.
    question: meta["textarena"]["seed"] or meta["seed"] is the game's seed, else a hash of the question's id.
    """

    def __init__(
        self, *, id: str | None = None, opponent: str | None = None, player: int = 0, unfinished: float = 0.0
    ) -> None:
        if player not in (0, 1) or isinstance(player, bool):
            raise ConfigError(f"environment_params.player = {player!r}", hint="0 moves first, 1 second")
        where = f"environment_params.opponent = {opponent!r}"
        self._answer = (
            None if opponent is None else find({"random": f"{__name__}:listed_move"}, opponent, where, ConfigError)
        )
        self._id, self._player, self._unfinished = id, player, float(unfinished)
        if id is not None:
            self._checked(id)

    def reset(self, question: Question) -> list[Message]:
        given = question.meta.get("textarena")
        given = given if isinstance(given, Mapping) else {}
        name = self._id or given.get("id")
        if not isinstance(name, str):
            raise ValueError("no game is named; set environment_params.id, or use the source textarena")
        seed = _seed(given.get("seed", question.meta.get("seed")), question.id)
        players = self._checked(name)
        self._states = _seeded(seed)
        self._seen: list[str] = []
        self._turns, self._done = 0, False
        with self._moving():
            self._game = _make(name)
            self._base = _innermost(self._game)
            self._game.reset(num_players=players, seed=seed)
            shown = self._until_ours()
        return _shown(question, shown)

    def reply(self, messages: Sequence[Message]) -> list[Message] | None:
        self._turns += 1
        with self._moving():
            self._done, _ = self._game.step(action=spoken(messages[-1].content).strip())
            shown = self._until_ours()
        return None if self._done else [Message("user", shown or "It is your turn.")]

    def outcome(self) -> dict[str, Any]:
        rewards, told = self._base.close()
        own = dict((told or {}).get(self._player) or {})
        finished = self._done and rewards is not None
        return {
            "reward": float(rewards.get(self._player, 0.0)) if finished else self._unfinished,
            "finished": float(finished),
            "turns": self._turns,
            "invalid_move": float(bool(own.get("invalid_move"))),
            "reason": str(own.get("reason") or ""),
        }

    def _checked(self, name: str) -> int:
        """How many play, 1 or 2. Raises ConfigError if it cannot be played here."""
        players = _players(name)
        what = f"TextArena's {name}"
        if players not in (1, 2):
            raise ConfigError(f"{what} is for three or more", hint="games for one or two can be played here")
        if players == 2 and self._answer is None:
            raise ConfigError(
                f"{what} is for two", hint="set environment_params.opponent: random, or your own function"
            )
        if players == 1 and self._answer is not None:
            raise ConfigError(f"{what} is for one player and has no opponent", hint="leave opponent out")
        return players

    def _until_ours(self) -> str:
        """What the policy is to be shown, after the opponent has moved if it is its turn."""
        shown: list[str] = []
        state = self._base.state
        tries = 0
        while not self._done and state.current_player_id != self._player:
            assert self._answer is not None
            if (tries := tries + 1) > _MOST_TRIES:
                raise ValueError(f"the opponent moved {_MOST_TRIES} times, and it is still its turn")
            seen = self._base.get_observation()[1] or ()
            # What the policy wrote is no list of moves, whatever it says.
            told = [one for one in seen if one[0] == _GAME] if self._answer is listed_move else seen
            self._seen += _texts(told, state, own=None)
            move = self._answer("\n".join(self._seen))
            if not isinstance(move, str):
                raise TypeError(f"the opponent gave {type(move).__name__}, not a text")
            self._done, _ = self._game.step(action=move)
        if not self._done:
            shown = _texts(self._base.get_observation()[1], state, own=self._player)
        return "\n".join(shown).strip()

    @contextlib.contextmanager
    def _moving(self) -> Iterator[None]:
        """The global generators are this game's; what it prints goes to stderr."""
        with _moving, contextlib.redirect_stdout(sys.stderr):
            outer = random.getstate(), np.random.get_state()
            random.setstate(self._states[0])
            np.random.set_state(self._states[1])
            try:
                yield
            finally:
                self._states = random.getstate(), np.random.get_state()
                random.setstate(outer[0])
                np.random.set_state(outer[1])


def listed_move(seen: str) -> str:
    """One of the moves in brackets that the game has listed last, drawn. Raises ValueError if it lists none."""
    lines = seen.splitlines()
    for place in range(len(lines) - 1, -1, -1):
        word = _LISTS.search(lines[place])
        colon = lines[place].find(":", word.end()) if word else -1
        if colon >= 0:
            below = takewhile(lambda line: "[" in line, lines[place + 1 :])
            moves = _MOVE.findall(lines[place], colon) or _MOVE.findall("\n".join(below))
            if moves:
                return random.choice(moves)
    raise ValueError("opponent: random needs a game that lists the moves, as TicTacToe-v0 does; write a function")


_known: dict[str, int] = {}


def _players(name: str) -> int:
    """How many play a game, 3 for more than two; found by starting one. Raises ConfigError if none can be started."""
    if name in _known:
        return _known[name]
    try:
        from textarena import SinglePlayerState
        from textarena.envs.registration import ENV_REGISTRY
    except ImportError as error:
        what = f"the package textarena cannot be imported: {error}"
        raise ConfigError(what, hint='pip install "groupwise[textarena]"') from None
    if name not in ENV_REGISTRY:
        raise ConfigError(f"TextArena has no game {name!r}", hint=nearest_game(name, ENV_REGISTRY))
    failure: Exception | None = None
    outer = random.getstate(), np.random.get_state()
    with _moving, contextlib.redirect_stdout(sys.stderr):
        try:
            for players in (1, 2):
                try:
                    game = _make(name)
                    game.reset(num_players=players, seed=0)
                    if players == 2 or isinstance(_innermost(game).state, SinglePlayerState):
                        return _known.setdefault(name, players)
                except AssertionError:  # how its games refuse a number of players
                    continue
                except Exception as error:  # data that is not there, a key of a service, a syntax error
                    failure = error
        finally:
            random.setstate(outer[0])
            np.random.set_state(outer[1])
    if failure is not None:
        missing = re.search(r"nltk\.download\('([^']+)'\)", str(failure))
        hint = f"python -m nltk.downloader {missing[1]}" if missing else "TextArena's own error; choose another game"
        first = f"it needs data of nltk, {missing[1]}" if missing else last_line(failure, [])
        raise ConfigError(f"TextArena's {name} cannot be started: {first}", hint=hint)
    return _known.setdefault(name, 3)


def nearest_game(name: str, games: Mapping[str, Any]) -> str:
    close = nearest(name, games)
    return (
        close if close.startswith("did") else f"{len(games)} games, such as GuessTheNumber-v0, FrozenLake-v0, Sudoku-v0"
    )


def _make(name: str) -> Any:
    import textarena

    return textarena.make(name)


def _innermost(game: Any) -> Any:
    """The game itself: wrappers of its observations repeat at each turn what a conversation holds already."""
    from textarena import Wrapper

    while isinstance(game, Wrapper):
        game = game.env
    return game


def _texts(observation: Any, state: Any, *, own: int | None) -> list[str]:
    """What a player is told, without its own moves; another's begins with its name."""
    found = []
    for sender, text, *_ in observation or ():
        if sender == _GAME:
            found.append(str(text))
        elif sender != own:
            found.append(f"[{state.role_mapping.get(sender, f'Player {sender}')}] {text}")
    return found


def _shown(question: Question, shown: str) -> list[Message]:
    """The question's messages, with what the game shows in place of the question's own text."""
    named = question.meta.get("textarena")
    text = f"{named.get('id')}, game {named.get('seed')}" if isinstance(named, Mapping) else ""
    messages = list(question.messages)
    for place in range(len(messages) - 1, -1, -1):
        content = messages[place].content
        if messages[place].role == "user":
            whole = content.replace(text, shown) if text and text in content else f"{content}\n{shown}".strip()
            messages[place] = Message("user", whole)
            return messages
    return [*messages, Message("user", shown)]


def _seed(given: Any, name: str) -> int:
    if given is None:
        return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "little")
    if isinstance(given, bool) or not isinstance(given, int):
        raise ValueError(f"the question's seed = {given!r}: no whole number")
    return given


def _seeded(seed: int) -> tuple[Any, Any]:
    """States of both generators for a seed."""
    return random.Random(seed).getstate(), np.random.RandomState(seed % 2**32).get_state()
