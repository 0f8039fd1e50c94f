"""Numbers in forms of their own: times of day, ratios, digits in a base."""

from fractions import Fraction
from math import gcd

from groupwise.rewards.answers import value
from groupwise.rewards.answers.clock import Clock
from groupwise.rewards.answers.formula import Number, Operation
from groupwise.rewards.answers.read import Answer, Based, Equal, Quantity, Ratio, Words
from groupwise.rewards.answers.units import UNITS


def times(gold: Answer, given: Answer, equal: Equal) -> bool | None:
    """Times are equal to the second, on the 12-hour clock where one does not say which half of the day. What may be a
    duration is one where the other is."""
    if not isinstance(gold, Clock) and not isinstance(given, Clock):
        return None
    if isinstance(gold, Clock) and isinstance(given, Clock):
        if gold.seconds == given.seconds:
            return True
        return (
            not gold.half
            and bool(given.half)
            and gold.seconds < 12 * 3600 + 3600
            and ((gold.seconds - given.seconds) % (12 * 3600) == 0)
        )
    spans = [_as_duration(gold, beside=given), _as_duration(given, beside=gold)]
    if spans != [gold, given]:
        return equal(spans[0], spans[1])
    one, other = _as_ratio(gold), _as_ratio(given)
    return one is not None and other is not None and equal(one, other)


def _as_duration(answer: Answer, *, beside: Answer) -> Answer:
    """3时30分 as 3.5 hours beside a number or a duration."""
    if not isinstance(answer, Clock) or not answer.span or not isinstance(beside, Quantity):
        return answer
    return Quantity(Number(Fraction(answer.seconds, 3600)), UNITS["h"])


def _as_ratio(answer: Answer) -> Answer | None:
    """12:30 may be a ratio, where the right answer is one."""
    if not isinstance(answer, Clock):
        return answer if isinstance(answer, Ratio | Quantity) else None
    hours, minutes = divmod(answer.seconds // 60, 60)
    reduced = gcd(hours, minutes) == 1  # 8:20 is a time, or it would be 2:5
    return Ratio((_whole(hours), _whole(minutes))) if minutes > 9 and reduced and not answer.half else None


def _whole(number: int) -> Number:
    return Number(Fraction(number))


def ratios(gold: Answer, given: Answer, equal: Equal) -> bool | None:
    """Ratios are equal if their terms are proportional; one of two terms is their quotient too."""
    if isinstance(gold, Ratio) and isinstance(given, Ratio):
        if len(gold.terms) != len(given.terms):
            return False
        first = [ratio.terms[0] for ratio in (gold, given)]
        return all(
            value.equal(Operation("*", (one, first[1])), Operation("*", (other, first[0])))
            for one, other in zip(gold.terms[1:], given.terms[1:], strict=True)
        )
    quotients = [
        Quantity(Operation("/", one.terms)) if isinstance(one, Ratio) and len(one.terms) == 2 else one
        for one in (gold, given)
    ]
    return equal(*quotients) if quotients != [gold, given] else None


def bases(gold: Answer, given: Answer, equal: Equal) -> bool | None:
    """Digits and base must agree; an answer or a right answer that names no base is taken to be in the other's."""
    if isinstance(gold, Based) and isinstance(given, Based):
        return (gold.digits, gold.base) == (given.digits, given.base)
    based, other = (gold, given) if isinstance(gold, Based) else (given, gold)
    if not isinstance(based, Based):
        return None
    text = other.text.upper() if isinstance(other, Words) else _digits(other)
    return text == based.digits


def _digits(answer: Answer) -> str:
    tree = answer.tree if isinstance(answer, Quantity) else None
    return str(tree.value) if isinstance(tree, Number) else ""
