"""A reward for the arithmetic written in an output: each equation of plain numbers is a step, right or wrong.

What cannot be read for certain (variables, brackets, powers, per cent, units between the numbers) is no step: an
equation that is passed over costs nothing, a right one called wrong teaches what is false.
"""

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

from groupwise.data import Question

LONGEST_SIDE = 200
"""Characters of one side of an equation; a longer one is not read."""

_GAP = r"[^\S\n]{0,4}"
_DIGITS = r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
_SIGNED = rf"(?<![\w.,])(?:\\?\$[-+−]?|[-+−](?:\\?\$)?)?{_DIGITS}(?!\w|[.,][0-9]|\\?%)"
_NUMBER = rf"(?:{_SIGNED}|\({_GAP}{_SIGNED}{_GAP}\)(?![\w(]))"
_OPERATOR = r"(?:[-+−*×·⋅/÷]|\\times|\\cdot|\\div|(?<=\s)[xX](?=\s))"
_SIDE = re.compile(rf"{_NUMBER}(?:{_GAP}{_OPERATOR}{_GAP}{_NUMBER})*")
_TERM = re.compile(rf"(?P<operator>{_OPERATOR}?){_GAP}(?P<number>{_NUMBER})")
_EQUALS = re.compile(rf"(?:\*\*|\$)?{_GAP}&?==?&?{_GAP}(?:\*\*)?\$?(?:\\boxed\{{)?{_GAP}")
# What may stand before an equation: the start of a line or a list's mark there, punctuation, a word that does not
# calculate. After a letter, a bracket or an operator its numbers are the end of something that is not read here.
_OPENS = re.compile(
    r"(?:^|\n)[^\S\n]{0,12}(?:(?:[-*•>]|\(?\w{1,3}[.)])[^\S\n])?(?:\*\*)?\Z"
    rf"|[=:;,.?([{{$\"'`<>&→⇒\\]{_GAP}\Z"
    r"|\s\*\*\Z"
    r"|(?<![\\\w])(?!(?:of|mod|by|over|plus|minus|times|than|choose|half|twice|double|triple|root|sqrt|log|ln|sin|cos|tan"
    r")\b)[^\W\d_]{2,}[^\S\n]{1,4}\Z"
)
_LOOK_BACK = 24  # characters
# What may not follow one: it would be part of the number or go on calculating. Bold type may end there.
_GOES_ON = re.compile(
    rf"[(\[{{]|\*\*[\w(\\$]|\s\*\*|{_GAP}(?:[-+−×·⋅/÷^%!]|\*(?!\*)|\.\.|…|\(?mod\b"
    r"|\\(?:times|cdot|div|frac|sqrt|[bp]?mod|[dl]|%)|(?:percent|dozen|hundred|thousand|million|billion)\b"
    r"|:[0-9]|[0-9]|and[^\S\n]{1,4}[0-9]+/[0-9]|with\b|(?i:r(?:em(?:ainder)?)?\.?[^\S\n]{0,4}(?:of[^\S\n]{1,4})?[0-9]))"
)


def equations(text: str, question: Question, *, wrong: float = 0.0) -> dict[str, Any]:
    """Each equation of numbers in the text is a step, ending where it ends: 1 if it holds, else `wrong` (below 1).

    Score: the share that holds. A text without any scores 0, like one of wrong ones: were it not judged, writing none
    would be a way out. Understands 3 + 4 - 1 = 6, 2.5 * 4 = 10, 6 × 7, 6 x 7, 8 ÷ 2, \\times, \\div, (-3), $5, 1,000;
    2 * 3 = 6 = 1 + 5 is two equations; one without an operator (x = 5) is none. Exact: 10 / 3 = 3.33 does not hold.
    Raises ValueError if `wrong` is not finite and below 1."""
    if not (math.isfinite(wrong) and wrong < 1):
        raise ValueError(f"wrong = {wrong}: give a number below 1, which is what a right equation earns")
    found = list(verified(text))
    share = sum(holds for _, holds in found) / len(found) if found else 0.0
    return {"score": share, "steps": [[end, 1.0 if holds else wrong] for end, holds in found]}


def verified(text: str) -> Iterator[tuple[int, bool]]:
    """Where each equation of the text ends, and whether it holds; in the order of the text."""
    for left, right in pairwise(_SIDE.finditer(text)):
        if _is_equation(text, left, right):
            value = _value(left.group())
            yield right.end(), value is not None and value == _value(right.group())


def _is_equation(text: str, left: re.Match[str], right: re.Match[str]) -> bool:
    """Whether two runs of numbers are the sides of an equation, the whole of it, and one of them calculates."""
    numbers = [len(_TERM.findall(side.group())) for side in (left, right) if len(side.group()) <= LONGEST_SIDE]
    return bool(
        len(numbers) == 2
        and sum(numbers) > 2
        and _EQUALS.fullmatch(text, left.end(), right.start())
        and _OPENS.search(text, max(0, left.start() - _LOOK_BACK), left.start())
        and not _GOES_ON.match(text, right.end())
    )


def _value(side: str) -> Fraction | None:
    """Products before sums, each from the left; None if something is divided by 0."""
    sums = [Fraction(0)]
    for term in _TERM.finditer(side):
        operator, number = term["operator"], _number(term["number"])
        if operator in ("", "+"):
            sums.append(number)
        elif operator in ("-", "−"):
            sums.append(-number)
        elif operator not in ("/", "÷", r"\div"):
            sums[-1] *= number
        elif number:
            sums[-1] /= number
        else:
            return None
    return sum(sums, Fraction(0))


def _number(text: str) -> Fraction:
    return Fraction(re.sub(r"[^-0-9.]", "", text.replace("−", "-")))
