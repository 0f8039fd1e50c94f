"""Answers that are words: the spelling in which they are compared, letters of choices, English numerals."""

import re
from collections.abc import Sequence
from fractions import Fraction

_MARKS = re.compile(r"[\"'`*_.,;:!?()\[\]{}\\]|(?<=\s)-|-(?=\s)")
_ARTICLE = re.compile(r"^(?:the|an?)\s+(?=\w)")
_COMMAND = re.compile(r"\\[a-zA-Z]+")

_SAME = (
    ("no solution", "no solutions", "no real solution", "no real solutions", "none", "无解", "無解", "无实数解"),
    ("undefined", "not defined", "does not exist", "dne", "limit does not exist", "不存在", "无意义", "未定义"),
    ("all real numbers", "all reals", "全体实数", "任意实数", "一切实数"),
    ("infinitely many solutions", "infinitely many", "无数解", "无穷多解"),
)
_FIRST = {phrase: group[0] for group in _SAME for phrase in group[1:]}
ANSWERED = frozenset({"yes", "no", "true", "false", "是", "否", "对", "错", "正确", "错误"})
"""Answers of one word that a reason may follow: Yes, because .."""

_CHOICE = re.compile(
    r"\s*(?:(?i:(?:the\s+)?(?:correct\s+)?(?:answer|option|choice)\s*(?:is)?\s*:?)\s*|[我故]?选[择项]?\s*:?\s*)?"
    r"(?:(?P<bracket>[(\[]\s*(?P<a>[A-J])\s*[)\]])|(?P<b>[A-J])(?P<dot>\s*[.:、)](?=\s|$|\S)|\s*(?:选?项)?\s*$))\s*(?P<rest>.*)",
    re.DOTALL,
)

# fmt: off
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on
_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4} | {
    word: value for value, word in enumerate(("fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"), 4)
}
_GROUPS = {"thousand": 1000, "million": 10**6}
_NUMERALS = {word: value for value, word in enumerate(_ONES)} | {word: 20 + 10 * at for at, word in enumerate(_TENS)}


def normal(text: str) -> str:
    """Words without case, marks, LaTeX's commands and an article in front; phrases of one meaning as the first."""
    text = _COMMAND.sub(" ", text) if re.search(r"[^\W\d_]", _COMMAND.sub(" ", text)) else text
    text = " ".join(_MARKS.sub(" ", text).replace("-", " ").casefold().split())
    text = _ARTICLE.sub("", text)
    return _FIRST.get(text, text)


def choice(text: str) -> tuple[str, str] | None:
    """The letter of a choice and what stands behind it: (A), A., A) 12, Option A, 选A; None if it begins with none."""
    found = _CHOICE.match(text)
    if not found:
        return None
    return found["a"] or found["b"], found["rest"].strip()


def choices(text: str) -> frozenset[str] | None:
    """The letters of several choices: ACD, `A, C`, `A and C`; None for any other text."""
    if not re.fullmatch(r"\s*\(?[A-J]\)?(?:\s*(?:(?:,|;|and|和|&)\s*)?\(?[A-J]\)?)+\s*\.?", text):
        return None
    letters = re.findall("[A-J]", re.sub("and", "", text))
    return frozenset(letters) if len(letters) == len(set(letters)) else None


def english_numeral(text: str) -> Fraction | None:
    """The value of words such as seven, forty-two, one hundred and five, two thirds, two and a half; else None."""
    words = ["one" if word in ("a", "an") else word for word in text.casefold().replace("-", " ").split()]
    if not 1 <= len(words) <= 12 or text.casefold() in ("a", "an"):
        return None
    part = _PARTS.get(words[-1].removesuffix("s"))
    if part is None:
        whole = _whole(words)
        return None if whole is None else Fraction(whole)
    before = words[:-1] or ["one"]
    above = _whole(before[-1:])
    ones = _whole(before[:-2]) if len(before) > 2 and before[-2] == "and" else 0 if len(before) == 1 else None
    return None if above is None or ones is None else ones + Fraction(above, part)


def _whole(words: Sequence[str]) -> int | None:
    """The value of a whole number in words."""
    total = section = 0
    before = 1000  # what the last word was worth: fifty may be followed by two, not by twelve
    for at, word in enumerate(words):
        value = _NUMERALS.get(word)
        if word == "and" and at and words[at - 1] in ("hundred", *_GROUPS):
            continue
        if value and (before >= 100 or (before >= 20 and value < 10)):
            section, before = section + value, value
        elif word == "hundred" and 0 < section < 10:
            section, before = section * 100, 100
        elif word in _GROUPS and section:
            total, section, before = total + section * _GROUPS[word], 0, 1000
        elif word == "zero" and len(words) == 1:
            return 0
        else:
            return None
    return total + section if words else None
