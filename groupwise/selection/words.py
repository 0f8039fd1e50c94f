"""Text as words, for what compares texts: repetition, and questions that are found again. Knows no language."""

import re
import unicodedata
from collections.abc import Sequence

_AROUND = ".,;:!?\"'()[]{}…“”„‘’«»—–。，、；：？！「」（）"
_MARKS = "*_#`~"  # Markdown's, unless the word is nothing else: `*` alone is a product
_ONE_BY_ONE = re.compile(r"([\u3040-\u30ff\u3400-\u9fff])")  # scripts that put no space between words
_INSIDE = re.compile(r"(?<=[(\[{]) | (?=[)\]}])")  # space within brackets, at either of them
_ALONE = re.compile(
    r"(?<![a-z\d)\]}])[(\[{]([\d.,]*\d)[)\]}](?![a-z\d(\[{])"
)  # brackets around one number change nothing
_MINUS = re.compile(r"−|(?<![^\s\d()\[\]{}])–(?![^\s\d.()\[\]{}])")  # between letters an en dash is a hyphen
_NUMBER, _BRACKET = r"\.?\d", r"[()\[\]{}]"
_OPERATOR = r"(?:==|//|(?<![<>=])=|[-+/^%×÷·⋅])"
_BETWEEN = r"(?:\*\*?|<=|>=|->|=>|[<>])"  # at one number alone these are Markdown's, or of a tag: <answer>5</answer>
_SIGN = re.compile(
    rf"((?<=[\d)\]}}]){_BETWEEN}(?=[-+]?(?:{_NUMBER}|[(\[{{]))"
    rf"|(?<=\d|{_BRACKET}){_OPERATOR}|{_OPERATOR}(?={_NUMBER}|{_BRACKET})"
    rf"|(?<=\d|{_BRACKET}){_BRACKET}|{_BRACKET}(?=[-+]?{_NUMBER}|{_BRACKET}))"
)


def words(text: str) -> list[str]:
    """The words of a text without case or punctuation around them; numbers and operators are words, and stay.

    `What is 6 + 7?` and `What is 6 - 7?` differ. An operator or a bracket that stands at a number or at a bracket is a
    word of its own, so `6+7` is `6 + 7`, and `(3 + 4) * 2` is not `3 + (4 * 2)`; elsewhere, and around one number,
    brackets are punctuation. An en dash with space or digits around it is a minus, and `.5` is not `5`. A character of
    Chinese or Japanese is a word of its own.
    """
    plain = _MINUS.sub("-", " ".join(unicodedata.normalize("NFKC", text).casefold().split()))
    spaced = _ONE_BY_ONE.sub(r" \1 ", _ALONE.sub(r"\1", _INSIDE.sub("", plain)))
    found: list[str] = []
    for index, part in enumerate(_SIGN.split(spaced)):
        found += [part] if index % 2 else [word for word in map(_bare, part.split()) if word]
    return found


def _bare(token: str) -> str:
    """A token without the punctuation around it; the point of a number that begins with one is none."""
    word = token.strip(_AROUND + _MARKS) or token.strip(_AROUND)
    before = token[: token.find(word)]
    return f".{word}" if word[:1].isdecimal() and before.endswith(".") and not before.endswith("..") else word


def ngrams(tokens: Sequence[str], n: int) -> list[str]:
    """Every n words in a row, in their order; none if there are fewer."""
    return [" ".join(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]


def repetition(text: str, n: int = 4) -> float:
    """Share of a text's sequences of n words that it has said before: 1 - distinct / all; 0 for fewer than n words."""
    found = ngrams(words(text), n)
    return 1 - len(set(found)) / len(found) if found else 0.0
