"""Ways of writing that are answers by themselves: a division with a remainder, a date, a weekday, a tick or a cross."""

import re
from collections.abc import Callable

from groupwise.rewards.answers.latex import respelled

# fmt: off
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)
# fmt: on
_NAME = rf"(?P<name>{'|'.join(f'{name[:3]}(?:{name[3:]})?' for name in _MONTHS)}|sept)\.?"
_DAY, _YEAR = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?", r"(?P<year>\d{4})"
_DATES = (
    re.compile(rf"{_NAME}\s+(?:the\s+)?{_DAY}(?:\s*,?\s*{_YEAR})?", re.IGNORECASE),
    re.compile(rf"(?:the\s+)?{_DAY}(?:\s+of)?\s+{_NAME}(?:\s*,?\s*{_YEAR})?", re.IGNORECASE),
    re.compile(rf"(?:{_YEAR}\s*[年년]\s*)?(?P<month>\d{{1,2}})\s*[月월]\s*(?P<day>\d{{1,2}})\s*[日号號일]"),
    re.compile(rf"{_YEAR}[-/](?P<month>\d{{1,2}})[-/](?P<day>\d{{1,2}})"),
)
_WEEKDAYS = (("mon", "一"), ("tue", "二"), ("wed", "三"), ("thu", "四"), ("fri", "五"), ("sat", "六"), ("sun", "日天"))
_WEEKDAY = re.compile(
    r"(?P<name>mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?|(?:星期|周|礼拜)(?P<sign>[一二三四五六日天])",
    re.IGNORECASE,
)
_REMAINDER = re.compile(
    r"(?:.*=)?\s*商?(?:是|为)?\s*(\d+)\s*,?\s*(?:\.{3,}|余数?(?:是|为)?|餘|あまり|余り|(?:with\s+(?:a\s+)?)?remainder(?:\s+of)?|[rR](?=\s*\d))\s*(\d+)"
)
_RIGHT, _WRONG = ("√", "✓", "✔", "☑", "对", "對", "正确", "正確"), ("×", "✗", "✘", "✕", "✖", "错", "錯", "错误", "錯誤")


def remainder(text: str) -> tuple[int, ...] | None:
    """Quotient and remainder: 7余2, 7……2, 7 R 2; None for any other text."""
    found = _REMAINDER.fullmatch(re.sub(r"(?:\.{3}|…)+", "...", respelled(text)))
    return (int(found[1]), int(found[2])) if found else None


def date(text: str) -> tuple[int, ...] | None:
    """Month and day, and the year if it is there: June 20, 20 June 2024, 3月5号; None for any other text."""
    plain = respelled(text)
    found = next((found for form in _DATES if (found := form.fullmatch(plain))), None)
    if found is None:
        return None
    parts = found.groupdict()
    name = (parts.get("name") or "").lower()[:3]
    month = next(at for at, one in enumerate(_MONTHS, 1) if one.startswith(name)) if name else int(parts["month"])
    if not 1 <= month <= 12 or not 1 <= int(parts["day"]) <= 31:
        return None
    return (month, int(parts["day"]), *([int(parts["year"])] if parts["year"] else []))


def weekday(text: str) -> tuple[int, ...] | None:
    """0 for a Monday to 6 for a Sunday: Wednesday, Wed., 星期三, 周三; None for any other text."""
    found = _WEEKDAY.fullmatch(respelled(text))
    if found is None:
        return None
    name, sign = (found["name"] or "").lower()[:3], found["sign"]
    return (next(at for at, names in enumerate(_WEEKDAYS) if name == names[0] or (sign and sign in names[1])),)


def mark(text: str) -> tuple[int, ...] | None:
    """1 for a tick, 0 for a cross, and for the words that they stand for; None for any other text."""
    sign = text.strip().strip('$。.()（）"').strip()
    return (1,) if sign in _RIGHT else (0,) if sign in _WRONG else None


NOTATIONS: tuple[Callable[[str], tuple[int, ...] | None], ...] = (remainder, date, weekday, mark)


def same_notation(gold: str, given: str) -> bool:
    """Whether both texts are written in one of the notations and mean the same; a date may have a year more."""
    for notation in NOTATIONS:
        right = notation(gold)
        if right is not None:
            answered = notation(given)
            return answered is not None and answered[: len(right)] == right
    return False
