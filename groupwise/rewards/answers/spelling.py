"""One spelling for what is written in many ways: full-width signs, other scripts' digits, signs that LaTeX names,
grouped thousands, Chinese numerals. Knows characters, not values."""

import re
import unicodedata
from fractions import Fraction

UNSPACED = (
    "\u0e00-\u0e7f\u0e80-\u0eff\u1780-\u17ff"  # Thai, Lao, Khmer
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"  # kana, Chinese characters, Hangul
)
"""Letters that need no space between them and a number, as ranges of a character class."""

_SIGNS = {
    "\N{MINUS SIGN}": "-",
    "\N{SMALL HYPHEN-MINUS}": "-",
    "\N{NON-BREAKING HYPHEN}": "-",
    "\N{EN DASH}": "-",
    "、": ",",
    "。": ".",
    "｡": ".",
    "∶": ":",
    "×": r"\times ",
    "✕": r"\times ",
    "÷": r"\div ",
    "·": r"\cdot ",
    "⋅": r"\cdot ",
    "∙": r"\cdot ",
    "√": r"\sqrt ",
    "π": r"\pi ",
    "θ": r"\theta ",
    "∞": r"\infty ",
    "≤": r"\le ",
    "⩽": r"\le ",
    "≦": r"\le ",
    "≥": r"\ge ",
    "⩾": r"\ge ",
    "≧": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "±": r"\pm ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∅": r"\emptyset ",
    "∈": r"\in ",
    "℃": "°C",
    "℉": "°F",
    "º": "°",
    "‰": r"\permil ",
    "⁄": "/",
    "∕": "/",
    "￥": "¥",
    "“": '"',
    "”": '"',
    "「": '"',
    "」": '"',
    "『": '"',
    "』": '"',
    "‘": "'",
    "’": "'",
    **dict.fromkeys("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
}
_TABLE = str.maketrans(_SIGNS | {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)})
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ", "0123456789+-()n")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_RAISED_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ]+")
_LOWERED_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_VULGAR = re.compile("[¼-¾⅐-⅞↉]")
_NEGATIVE = re.compile(r"(?:零下|负|負|マイナス|영하\s?)(?=[\d.])")
_MIXED = re.compile(r"(?<=\d)\s*又\s*(?=\d|\\[dtc]?frac)")
_OF_PARTS = re.compile(r"(?<!\d)(\d{1,9}) ?分之 ?(\d{1,9})")
_OTHER_DIGIT = re.compile(r"[^\D0-9]")

_GAP = r"(?:,\\!\s*|\{,\}|\\[,;: ]|[~ '])"
_GROUPED = re.compile(rf"(?<![\d.])(\d{{1,3}})(?P<gap>{_GAP})(\d{{3}}(?:(?P=gap)\d{{3}})*)(?!\d|[~ ']\d|/\d)")
_COMMAS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d|,\d)")
_INDIAN = re.compile(r"(?<![\d.,])\d{1,2}(?:,\d\d)+,\d{3}(?!\d|,\d)")


def plain(text: str) -> str:
    """The text with every sign of the tables above in its plain spelling, digits of any script as 0 to 9, and what is
    said around digits in Chinese as signs: 零下3 is -3, 2又1/2 is 2 1/2, 4分之3 is 3/4."""
    text = text.translate(_TABLE)
    text = _RAISED_RUN.sub(lambda run: f"^{{{run.group().translate(_RAISED)}}}", text)
    text = _LOWERED_RUN.sub(lambda run: f"_{{{run.group().translate(_LOWERED)}}}", text)
    text = _VULGAR.sub(lambda one: _vulgar(one.group()), text)
    text = _OTHER_DIGIT.sub(lambda digit: _decimal(digit.group()), text)
    text = text.replace("正负", r"\pm ").replace("正負", r"\pm ")
    text = _OF_PARTS.sub(r"\2/\1", text)
    return _MIXED.sub(" ", _NEGATIVE.sub("-", text))


def ungrouped(text: str) -> str:
    r"""Thousands joined where no list is meant: 10\,000  10{,}000  10 000  10'000 become 10000. Commas stay."""
    return _GROUPED.sub(lambda found: found[1] + re.sub(r"\D", "", found[3]), text)


def without_commas(text: str) -> str:
    """1,234,567 as 1234567. Within brackets a comma separates, so this is for text outside of them."""
    return _COMMAS.sub(lambda found: found.group().replace(",", ""), text)


def without_indian_commas(text: str) -> str:
    """12,34,567 as 1234567, the grouping of India. It looks like a list, so this is for where a number is wanted."""
    return _INDIAN.sub(lambda found: found.group().replace(",", ""), text)


_DIGITS = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_TENS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_WHOLE = re.compile("[零〇一二两兩三四五六七八九十百千万萬亿億]+")
_NUMERAL = re.compile(
    f"(?P<minus>负|負|零下)?(?:(?P<ones>{_WHOLE.pattern})又(?=.*分之))?(?:(?P<below>{_WHOLE.pattern})分之)?(?P<whole>{_WHOLE.pattern})(?:点(?P<decimals>[零〇一二三四五六七八九]+))?"
)


def chinese_numeral(text: str) -> Fraction | None:
    """The value of a Chinese numeral: 四十二, 一百零五, 三点五, 四分之三, 负二; None for any other text."""
    found = _NUMERAL.fullmatch(text)
    if not found or len(text) > 40 or (found["below"] and found["decimals"]):
        return None
    value, below = _chinese_whole(found["whole"]), _chinese_whole(found["below"]) if found["below"] else 1
    if value is None or not below:
        return None
    decimals = "".join(str(_DIGITS[sign]) for sign in found["decimals"] or "")
    total = (value + (Fraction(int(decimals), 10 ** len(decimals)) if decimals else 0)) / Fraction(below)
    total += (_chinese_whole(found["ones"]) or 0) if found["ones"] else 0
    return -total if found["minus"] else total


def _chinese_whole(text: str) -> int | None:
    if all(sign in _DIGITS for sign in text):  # digit by digit: 二〇二五
        return int("".join(str(_DIGITS[sign]) for sign in text))
    total = section = digit = 0
    for sign in text:
        if sign in _DIGITS:
            digit = _DIGITS[sign]
        elif sign in _TENS:
            section, digit = section + (digit or 1) * _TENS[sign], 0
        else:
            total, section, digit = (total + section + digit) * _MYRIADS[sign], 0, 0
    return total + section + digit


def _vulgar(sign: str) -> str:
    value = Fraction(unicodedata.numeric(sign)).limit_denominator(20)
    return f" {value.numerator}/{value.denominator}"


def _decimal(digit: str) -> str:
    return str(unicodedata.decimal(digit))
