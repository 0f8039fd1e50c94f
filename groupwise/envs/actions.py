"""What a turn of the policy does in a game: its tag, its last word, or the only word in it that is an action.

Knows texts alone, no game.
"""

import re
from collections.abc import Collection, Mapping

_TAG = re.compile(r"<(/?)(action|answer|guess|move)>", re.IGNORECASE)
_EDGES = "\"'`*_.,:;!?()[]{}<>«»“”‘’\\$"


def spoken(text: str) -> str:
    """The turn without its reasoning: what follows the last </think>; nothing if a <think> is still open."""
    _, closed, after = text.rpartition("</think>")
    said = after if closed else text
    return "" if "<think>" in said else said


def word_of(text: str, known: Collection[str], *, short: Mapping[str, str]) -> str | None:
    """The action that a turn names; None if it names none, or several and none of them last.

    known: words that are read anywhere. short: their abbreviations, read where nothing else is said. The last of the
    tags action, answer, guess and move counts before all other text.
    """
    words = [word for raw in _tagged(spoken(text)).lower().split() if (word := raw.strip(_EDGES))]
    if len(words) == 1 and words[0] in short:
        return short[words[0]]
    if words and words[-1] in known:
        return words[-1]
    named = {word for word in words if word in known}
    return named.pop() if len(named) == 1 else None


def number_of(text: str) -> int | None:
    """The whole number that a turn names; None if it names none, or several and none of them last.

    The last of the tags action, answer, guess and move counts before all other text.
    """
    words = [word for raw in _tagged(spoken(text)).split() if (word := raw.strip(_EDGES))]
    numbers = [found for word in words if (found := _whole(word)) is not None]
    if words and (last := _whole(words[-1])) is not None:
        return last
    return numbers[0] if len(set(numbers)) == 1 else None


def _tagged(said: str) -> str:
    """What stands in the last tag that is closed; all of it if there is none."""
    marks = list(_TAG.finditer(said))
    for begin, end in zip(reversed(marks[:-1]), reversed(marks), strict=False):
        if not begin[1] and end[1] and begin[2].lower() == end[2].lower():
            return said[begin.end() : end.start()]
    return said


def _whole(word: str) -> int | None:
    """The number that a word is; None for any other word, and for one of more than nine digits."""
    return int(word) if re.fullmatch(r"[-+]?[0-9]{1,9}", word) else None
