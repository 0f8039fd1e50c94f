"""An answer's text as what it is: a quantity, a time, a ratio, a number in a base, a list, an interval, a matrix, an
equation, words. Knows no equality."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from groupwise.rewards.answers.clock import Clock, clock
from groupwise.rewards.answers.formula import Number, Operation, Symbol, Tree
from groupwise.rewards.answers.latex import CLOSING, OPENING, bare, closed_at, respelled, split
from groupwise.rewards.answers.parsing import NotAFormula, parsed
from groupwise.rewards.answers.spelling import UNSPACED, chinese_numeral, without_commas
from groupwise.rewards.answers.units import UNITS, Unit, unit, without_currency
from groupwise.rewards.answers.value import variables
from groupwise.rewards.answers.words import english_numeral, normal

LONGEST = 1000
"""Characters of an answer; a longer one is none."""


@dataclass(frozen=True)
class Quantity:
    """A formula with its unit, if one that is known stands beside it. percent: so is its value written."""

    tree: Tree
    unit: Unit | None = None
    percent: bool = False


@dataclass(frozen=True)
class Ratio:
    """a : b : c, not reduced."""

    terms: tuple[Tree, ...]


@dataclass(frozen=True)
class Based:
    """Digits in a base, 1010_2."""

    digits: str
    base: int


@dataclass(frozen=True)
class Several:
    """Answers in brackets, or without any (opening ""): a tuple, an interval, a set, a list."""

    opening: str
    closing: str
    items: "tuple[Answer, ...]"


@dataclass(frozen=True)
class Union:
    """Intervals and sets joined by a sign of set theory."""

    signs: tuple[str, ...]
    items: "tuple[Answer, ...]"


@dataclass(frozen=True)
class Matrix:
    """Rows of entries; a determinant's bars make no difference here."""

    rows: "tuple[tuple[Answer, ...], ...]"


@dataclass(frozen=True)
class Relation:
    """Sides and the signs between them: x = 5, 1 < x <= 3."""

    signs: tuple[str, ...]
    sides: "tuple[Answer, ...]"


@dataclass(frozen=True)
class Words:
    """Anything else, in the spelling in which words are compared; raw: as LaTeX, for what can read more of it."""

    text: str
    raw: str = ""


Answer = Quantity | Clock | Ratio | Based | Several | Union | Matrix | Relation | Words
Equal = Callable[[Answer, Answer], bool]
"""Whether two answers are equal: given to the rules, which ask it of their parts."""

_MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix|array)\}(?:\{[^{}]*\})?(.*)\\end\{\1\}", re.DOTALL)
_LIST = re.compile(
    rf"[,;]|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])|(?<=[\d{UNSPACED})}}\s])(?:以及|或者|和|或|及|与)(?=[\d{UNSPACED}(\s\\a-z-])"
)
_SIGN = re.compile(r"=+|<|>|\\(?:le|ge|ne|in|approx|equiv)(?![a-zA-Z])")
_SET_SIGN = re.compile(r"\\(?:cup|cap|setminus)(?![a-zA-Z])|(?<=[)\]}])\s*U\s*(?=[(\[{\\])")
_BASE = re.compile(
    r"\(?([0-9A-Za-z]+)\)?\s*(?:_\s*\{?\s*\(?(\d+|[a-z]+)\)?\s*\}?|,?\s*\(?(?:in\s+)?base[\s-]+(\d+|[a-z]+)\)?)",
    re.IGNORECASE,
)
_PERCENT = re.compile(r"\s*(?:\\?%|(?<![a-zA-Z])(?:percent|per cent|pct|percentage points?))\s*$", re.IGNORECASE)
_POWER_TAIL = r"(?:\^?\s*\{?[23]\}?)?"
_TAIL = re.compile(
    r"(?:(?<=[\s.})])|(?<=\d))(?P<words>"
    rf"[a-zA-Z°¢€£$¥][a-zA-Z°. /'-]*{_POWER_TAIL}|[{UNSPACED}°][{UNSPACED}\s/a-zA-Z°]*{_POWER_TAIL})$"
)
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12, "万": 4, "亿": 8}
_SCALE = re.compile(r"([-+$¥]*\d[\d,.]*)\s*(thousand|million|billion|trillion|万|亿)(?![a-z])(.*)", re.IGNORECASE)
_NUMBER_END = tuple("0123456789)}!")
_NOUN = re.compile(r"[^\W\d_]{2,}\.?(?:[\s'/-]+[^\W\d_]+\.?)*")
_LEAD = re.compile(rf"[{UNSPACED},:\s]*[{UNSPACED}:]\s*(?=[-+]?[\d.\\$¥])")
_COMPOUND = re.compile(rf"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+|[{UNSPACED}]+)\.?\s*(?:,|and)?")
_PER = re.compile(rf"每(小时|时|分钟|分|秒)\s*(?:行驶?|走|跑|飞行)?\s*([\d.,]+)\s*([{UNSPACED}]+|[a-z]+)")
_IN_BRACKETS = re.compile(rf"\s*\(\s*([{UNSPACED}]+|[a-zA-Z°]+(?:\^?\{{?[23]\}}?)?)\s*\)$")
_NUMERAL_SIGNS = "半零〇一二两兩三四五六七八九十百千万萬亿億点又分之"
_IN_WORDS = re.compile(rf"([{_NUMERAL_SIGNS}]+?)个?(半)?((?![半一二两兩三四五六七八九十百万萬亿億又之]).*)")
_DENIED = re.compile("不|非|没|無|无")


def read(text: str) -> Answer:
    """What an answer says. Never raises: what is nothing else is Words, and so is what is longer than LONGEST."""
    if len(text) > LONGEST:
        return Words(text)
    return _read(respelled(text), 0)


def _read(text: str, depth: int) -> Answer:
    text = bare(text)
    if not text or depth > 12:
        return Words(normal(text), text)
    for rule in (_matrix, _number_in_base, _clock, _choices, _compound, _list, _relation, _union, _bracketed, _ratio):
        found = rule(text, depth)
        if found is not None:
            return found
    quantity = _quantity(text)
    if quantity is None and normal(text) == "all real numbers":
        return _read(r"(-\infty,\infty)", depth)
    return quantity or Words(normal(text), text)


def _matrix(text: str, depth: int) -> Answer | None:
    found = _MATRIX.fullmatch(text)
    if not found:
        return None
    rows = [row for row in re.split(r"\\\\|\\cr", re.sub(r"\\hline", "", found[2])) if row.strip()]
    return Matrix(tuple(tuple(_read(cell, depth + 1) for cell in row.split("&")) for row in rows))


def _number_in_base(text: str, depth: int) -> Answer | None:
    found = _BASE.fullmatch(text)
    if not found:
        return None
    named = found[2] or found[3]
    base = Fraction(int(named)) if named.isdigit() and len(named) < 4 else english_numeral(named)
    digits = found[1].upper()
    if base is None or not 2 <= base <= 36:
        return None
    if not re.search(r"\d", digits) and (found[1].islower() or max(int(digit, 36) for digit in digits) >= base):
        return None  # a variable with an index
    return Based(digits.lstrip("0") or "0", int(base))


def _clock(text: str, depth: int) -> Answer | None:
    return clock(text)


def _choices(text: str, depth: int) -> Answer | None:
    """Letters of several choices, ACD: words, or they would be a product."""
    return Words(normal(text), text) if re.fullmatch("[A-J]{2,6}", text) else None


def _compound(text: str, depth: int) -> Answer | None:
    """2 hours 30 minutes, 5 feet 6 inches, 3元5角: parts of one dimension, added."""
    parts = list(_COMPOUND.finditer(text))
    if len(parts) < 2 or "".join(part.group() for part in parts) != text:
        return None
    units = [unit("分钟" if part[2] == "分" and re.search("[时時秒]", text) else part[2]) for part in parts]
    first = units[0]
    if first is None or any(one is None or one.dimension != first.dimension for one in units):
        return None
    total = sum((Fraction(part[1]) * one.size for part, one in zip(parts, units, strict=True) if one), Fraction(0))
    return Quantity(Number(total / first.size), first)


def _list(text: str, depth: int) -> Answer | None:
    if english_numeral(text) is not None:  # one hundred and five
        return None
    outside = _outside_brackets(text)
    text = text if outside is None else without_commas(text)
    pieces = [piece for piece in split(text, _LIST)[0] if piece.strip()]
    if len(pieces) < 2:
        return None
    return Several("", "", tuple(_read(piece, depth + 1) for piece in pieces))


def _outside_brackets(text: str) -> str | None:
    """The text where no comma of it stands within brackets; else None."""
    pieces, _ = split(text, re.compile(","))
    return text if len(pieces) == text.count(",") + 1 else None


def _relation(text: str, depth: int) -> Answer | None:
    pieces, signs = split(text, _SIGN)
    if len(pieces) < 2 or not pieces[-1].strip():
        return None
    sides = tuple(_read(piece, depth + 1) for piece in pieces)
    names = tuple({"==": "=", "\\equiv": "=", "\\approx": "="}.get(sign, sign) for sign in signs)
    return Relation(names, sides)


def _union(text: str, depth: int) -> Answer | None:
    pieces, signs = split(text, _SET_SIGN)
    if len(pieces) < 2:
        return None
    names = tuple("\\cup" if sign.strip() == "U" else sign for sign in signs)
    return Union(names, tuple(_read(piece, depth + 1) for piece in pieces))


def _bracketed(text: str, depth: int) -> Answer | None:
    braces = text.startswith("\\{") and text.endswith("\\}")
    start = 1 if braces else 0
    if (
        not text
        or text[start] not in OPENING
        or text[-1] not in CLOSING
        or closed_at(text[start:]) != len(text) - 1 - start
    ):
        return None
    inside = text[start + 1 : -2 if braces else -1]
    named = split(inside, re.compile(r"\\mid(?![a-z])|\||(?<!\d):"))[0] if braces else []
    if len(named) == 2 and len(split(named[1], _SIGN)[0]) > 1:  # \{x \mid x > 2\}
        return _read(named[1], depth + 1)
    pieces, _ = split(inside, re.compile("[,;]"))
    if len(pieces) < 2 and not braces and text[start] != "[":
        return _read(inside, depth + 1) if _nested(inside) else None
    items = tuple(_read(piece, depth + 1) for piece in pieces if piece.strip())
    return Several("{" if braces else text[start], "}" if braces else text[-1], items)


def _nested(inside: str) -> bool:
    """Whether brackets are around something that is no formula, so that they can be left out."""
    return len(split(inside, _SIGN)[0]) > 1 or bool(_quantity(inside) is None)


def _ratio(text: str, depth: int) -> Answer | None:
    pieces, _ = split(text, re.compile(r":|(?<=\d)\s+to\s+(?=\d)|(?<=\d)比(?=\d)"))
    if not 2 <= len(pieces) <= 6:
        return None
    try:
        return Ratio(tuple(parsed(piece) for piece in pieces))
    except NotAFormula:
        return None


def _quantity(text: str) -> Quantity | None:
    """A formula with what may stand around it: a currency, a per cent sign, a unit, a noun, words in Chinese."""
    if found := _PER.fullmatch(text):  # 每小时80千米
        text = f"{found[2]}{found[3]}/{found[1]}"
    if (found := _IN_BRACKETS.search(text)) and (unit(found[1]) or not found[1].isascii()):  # 36(平方厘米)
        text = f"{text[: found.start()]} {found[1]}"
    if (counted := _counted(text)) is not None:
        return counted
    found = _LEAD.match(text)
    if found and not _DENIED.search(found.group()):
        text = text[found.end() :]
    if found := _SCALE.fullmatch(text):  # 2.5 million, 3万
        text = f"{found[1]}e{_SCALES[found[2].lower()]}{found[3]}"
    percent = bool(_PERCENT.search(text))
    text, measured = without_currency(_PERCENT.sub("", text))
    tail = _TAIL.search(text)
    words, head = (tail["words"].strip(), text[: tail.start()].strip()) if tail else ("", "")
    first = re.split(r"\s|(?<=元)", words)[0]
    named = unit(words) or (unit(first) if first != "in" else None)  # 5 in all are no inches
    if (
        tail
        and len(words) == 1
        and words.isalpha()
        and words.isascii()
        and text[tail.start() - 1 : tail.start()].isdigit()
    ):
        named = None  # 5m is a product, 5 m a length
    if words == "°":
        named = None  # of \sin 30° the sine is no angle
    tree = _tree(re.sub(r"^\(([^()]*)\)$", r"\1", head)) if named else None
    if tree is not None:
        return Quantity(tree, measured or named, percent)
    tree = _tree(text)
    if tree is None and tail and head[-1:] in _NUMBER_END and _is_noun(words):
        tree = _tree(head)
        tree = None if tree is None or variables(tree) else tree
    if tree is not None and (angle := _angle(tree)) is not None:
        return Quantity(angle, UNITS["°"], percent)
    return None if tree is None else Quantity(tree, measured, percent)


def _counted(text: str) -> Quantity | None:
    """A Chinese numeral with a unit: 两小时, 三千米, 半小时, 两个半小时."""
    found = _IN_WORDS.fullmatch(text)
    measured = unit(found[3]) if found else None
    if not found or measured is None or found[3] == "角":  # 三角 is mostly no money
        return None
    value = Fraction(1, 2) if found[1] == "半" else chinese_numeral(found[1])
    return None if value is None else Quantity(Number(value + Fraction(1, 2) * bool(found[2])), measured)


def _is_noun(words: str) -> bool:
    return bool(_NOUN.fullmatch(words)) if words.isascii() else not re.search(r"\d", words)


def _angle(tree: Tree) -> Tree | None:
    """The number of degrees; None for what is no angle."""
    if isinstance(tree, Operation) and tree.name == "-" and (inner := _angle(tree.operands[0])) is not None:
        return Operation("-", (inner,))
    return tree.operands[0] if isinstance(tree, Operation) and tree.name == "degree" else None


def _tree(text: str) -> Tree | None:
    text = without_commas(text)
    try:
        return parsed(text)
    except NotAFormula:
        pass
    bare = re.sub(rf"(?<=[{UNSPACED}])(?:个|個|元|只|本|人|米|岁|天|次|张|块|条|名|件|支|棵|倍|度)$", "", text)
    value = chinese_numeral(bare) if bare else None
    value = english_numeral(text) if value is None else value
    return None if value is None else Number(value)


def items_of(answer: Answer) -> Sequence[Answer]:
    """The items of a list, set or tuple; of anything else the one that it is."""
    return answer.items if isinstance(answer, Several) else (answer,)


def is_symbol(answer: Answer) -> bool:
    r"""Whether it is what an equation names: x, y_1, f(x), \angle ABC, words."""
    if isinstance(answer, Words):
        return True
    if not isinstance(answer, Quantity) or answer.unit or answer.percent:
        return False
    tree = answer.tree
    if isinstance(tree, Operation) and tree.name == "*" and all(isinstance(part, Symbol) for part in tree.operands):
        return True  # f(x)
    return isinstance(tree, Symbol)
