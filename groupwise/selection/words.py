"""Text as words, for what compares texts: repetition, and questions that are found again. Knows no language."""

import re
import unicodedata
from collections.abc import Sequence

_AROUND = ".,;:!?\"'()[]{}…“”„‘’«»—–。，、；：？！「」（）"
_MARKS = "*_#`~"  # Markdown's, unless the word is nothing else: `*` alone is a product
_ONE_BY_ONE = re.compile(r"([\u3040-\u30ff\u3400-\u9fff])")  # scripts that put no space between words


def words(text: str) -> list[str]:
    """The words of a text without case or punctuation around them; numbers and operators are words, and stay.

    `What is 6 + 7?` and `What is 6 - 7?` differ. A character of Chinese or Japanese is a word of its own.
    """
    spaced = _ONE_BY_ONE.sub(r" \1 ", unicodedata.normalize("NFKC", text).casefold())
    bare = (token.strip(_AROUND + _MARKS) or token.strip(_AROUND) for token in spaced.split())
    return [word for word in bare if word]


def ngrams(said: Sequence[str], n: int) -> list[str]:
    """Every n words in a row, in their order; none if there are fewer."""
    return [" ".join(said[start : start + n]) for start in range(len(said) - n + 1)]


def repetition(text: str, n: int = 4) -> float:
    """Share of a text's sequences of n words that it has said before: 1 - distinct / all; 0 for fewer than n words."""
    found = ngrams(words(text), n)
    return 1 - len(set(found)) / len(found) if found else 0.0
