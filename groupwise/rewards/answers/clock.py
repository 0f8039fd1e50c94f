"""Times of day as they are written: 8:30, 3 pm, 8点半, 下午3时, 午後3時, 오전 9시. Knows no other answer."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """A time of day in seconds; half: am or pm, if written. span: written so that it may be a duration, 3时30分."""

    seconds: int
    half: str = ""
    span: bool = False


_EARLY = r"(?P<early>上午|早上|早晨|清晨|凌晨|午前|오전|새벽)"
_LATE = r"(?P<late>下午|晚上|傍晚|午后|午後|오후|저녁)"
_HALF = rf"(?:{_EARLY}|{_LATE}|(?P<noon>中午|正午))?\s*"
_COLONS = re.compile(
    _HALF + r"(?P<hours>\d{1,2})\s*:\s*(?P<minutes>\d\d)(?:\s*:\s*(?P<seconds>\d\d))?\s*(?P<part>[ap]\.?\s?m\.?)?",
    re.IGNORECASE,
)
_SIGNS = re.compile(
    _HALF + r"(?P<hours>\d{1,2})\s*(?:点钟?|點鐘?|(?P<span>时|時|시))\s*"
    r"(?:(?P<minutes>\d{1,2})\s*[分분]\s*(?:(?P<seconds>\d{1,2})\s*[秒초])?|(?P<thirty>半|반)|整)?"
)
_O_CLOCK = re.compile(r"(?P<hours>\d{1,2})\s*(?:o'?clock|(?=[ap]\.?m))\s*(?P<part>[ap]\.?m\.?)?", re.IGNORECASE)


def clock(text: str) -> Clock | None:
    """The time of day that a text is; None for any other text."""
    match = next((match for form in (_COLONS, _SIGNS, _O_CLOCK) if (match := form.fullmatch(text))), None)
    if match is None:
        return None
    found = match.groupdict()
    hours, minutes, seconds = (int(found.get(name) or 0) for name in ("hours", "minutes", "seconds"))
    minutes = 30 if found.get("thirty") else minutes
    half = (found.get("part") or "").lower()[:1] or ("a" if found.get("early") else "p" if found.get("late") else "")
    if found.get("noon"):
        half = "a" if 3 < hours < 12 else "p"
    if hours > 24 or minutes > 59 or seconds > 59 or (half == "a" and hours > 12):
        return None
    if half and hours <= 12:
        hours = hours % 12 + (12 if half == "p" else 0)
    return Clock(3600 * hours + 60 * minutes + seconds, half, span=bool(found.get("span")) and not half)
