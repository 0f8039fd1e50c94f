"""Arithmetic worked on paper, in plain sentences: how a person would come to the answer. Knows no tags, no seeds.

A way of working takes the draw of its words and the numbers, and returns sentences of which the last ends with the
result. The phrasings of one way differ in words and in the way, and are right for every number that the environment
`arithmetic` asks about.
"""

import random
import re
from collections.abc import Callable


def added(draw: random.Random, a: int, b: int) -> str:
    """a + b for 0 <= a, b < 1000: the tens and units apart, or one of the numbers in pieces."""
    if a < 10 and b < 10:
        return _added_digits(draw, a, b)
    if 10 <= a < 100 and 10 <= b < 100 and draw.random() < 0.6:
        return draw.choice((_carried, _in_columns))(a, b)
    low, high = sorted((a, b))
    if low < 10:
        return f"I count {low} on from {high}: {high} + {low} = {a + b}."
    tens, units = low - low % 10, low % 10
    if not units:
        return f"{high} and the {low // 10} tens of {low} make {a + b}."
    return f"I add {low} in two steps: {high} + {tens} = {high + tens}, and {high + tens} + {units} = {a + b}."


def _added_digits(draw: random.Random, a: int, b: int) -> str:
    low, high = sorted((a, b))
    if low == 0:
        return f"Adding 0 changes nothing, so {a} + {b} = {a + b}."
    if a == b and draw.random() < 0.5:
        return f"That is {a} twice, so {a} + {b} = {a + b}."
    if a + b > 10 and high < 10 and draw.random() < 0.6:
        step, rest = 10 - high, low - (10 - high)
        return f"From {high} to 10 it takes {step}, which leaves {rest} of the {low}. Then 10 + {rest} = {a + b}."
    if low <= 4:
        counted = ", ".join(str(high + place) for place in range(1, low + 1))
        return f"I start at {high} and count {low} on: {counted}."
    return f"I take {low} as 5 and {low - 5}: {high} + 5 = {high + 5}, and {high + 5} + {low - 5} = {a + b}."


def _in_columns(a: int, b: int) -> str:
    """Two-digit numbers: tens, units, and both together."""
    tens, units = a // 10 * 10 + b // 10 * 10, a % 10 + b % 10
    return (
        f"The tens are {a // 10 * 10} + {b // 10 * 10} = {tens}. The units are {a % 10} + {b % 10} = {units}. "
        f"Together {tens} + {units} = {a + b}."
    )


def _carried(a: int, b: int) -> str:
    """Two-digit numbers: from the right, with what is carried."""
    units, tens = a % 10 + b % 10, a // 10 + b // 10
    first = f"Units first: {a % 10} and {b % 10} make {units}"
    if units < 10:
        return f"{first}. Then the tens: {a // 10} and {b // 10} make {tens}. That reads {a + b}."
    return (
        f"{first}, so I write {units - 10} and carry 1. "
        f"Then the tens: {a // 10} and {b // 10} and 1 make {tens + 1}. That reads {a + b}."
    )


def taken(draw: random.Random, a: int, b: int) -> str:
    """a - b for 0 <= a < 1000, 0 <= b < 100: in pieces, by borrowing, by counting up; below 0 by turning it round."""
    if a < b:
        return f"{b} is larger than {a}, so it goes below zero. {b} - {a} = {b - a}, so {a} - {b} = {a - b}."
    if b == 0:
        return f"Taking 0 away changes nothing, so {a} - {b} = {a}."
    if a == b:
        return f"The two are the same, so nothing is left: {a} - {b} = 0."
    if a - b <= 9 and draw.random() < 0.4:
        return f"I count up from {b} to {a}, which takes {a - b} steps, so {a} - {b} = {a - b}."
    if b < 10:
        check = f" Check: {a - b} + {b} = {a}, so it is {a - b}." if draw.random() < 0.3 else ""
        return f"I go {b} down from {a}: {a} - {b} = {a - b}.{check}"
    if a < 100 and draw.random() < 0.5:
        return _borrowed(a, b)
    tens, units = b - b % 10, b % 10
    if not units:
        return f"I take the {b // 10} tens of {b} away: {a} - {b} = {a - b}."
    return f"I take {b} away in two steps: {a} - {tens} = {a - tens}, and {a - tens} - {units} = {a - b}."


def _borrowed(a: int, b: int) -> str:
    """Two-digit numbers, a > b: from the right, with what is borrowed."""
    if a % 10 >= b % 10:
        units = f"Units first: {a % 10} - {b % 10} = {a % 10 - b % 10}. "
        return units + f"Then the tens: {a // 10} - {b // 10} = {a // 10 - b // 10}. That reads {a - b}."
    units = f"{a % 10} is less than {b % 10}, so I borrow a ten: {a % 10 + 10} - {b % 10} = {a % 10 + 10 - b % 10}. "
    return units + (f"Then the tens: {a // 10} - 1 - {b // 10} = {a // 10 - 1 - b // 10}. That reads {a - b}.")


def multiplied(draw: random.Random, a: int, b: int) -> str:
    """a * b for 0 <= a < 100, 0 <= b < 10: counted in steps, doubled, or the tens and the units apart."""
    if 0 in (a, b):
        return f"Anything times 0 is nothing, so {a} * {b} = 0."
    if 1 in (a, b):
        return f"Once {max(a, b)} is {max(a, b)} itself, so {a} * {b} = {a * b}."
    if a < 10:
        high, low = max(a, b), min(a, b)
        if low > 5 and draw.random() < 0.6:
            return f"{high} * 5 = {high * 5} and {high} * {low - 5} = {high * (low - 5)}. Together they make {a * b}."
        return f"I count {low} times {high}: {', '.join(str(high * place) for place in range(1, low + 1))}."
    tens, units = a - a % 10, a % 10
    if not units:
        return f"{a // 10} * {b} = {a // 10 * b}, and with the zero behind it that is {a * b}."
    if b == 2 and draw.random() < 0.5:
        return f"Twice {a} is {a} + {a} = {2 * a}."
    ways = (
        "{tens} * {b} = {t} and {units} * {b} = {u}. Together {t} + {u} = {ab}.",
        "I take {a} as {tens} and {units}. {b} times {tens} is {t}, {b} times {units} is {u}, and {t} + {u} = {ab}.",
    )
    return draw.choice(ways).format(a=a, b=b, tens=tens, units=units, t=tens * b, u=units * b, ab=a * b)


def sum_(draw: random.Random, text: str) -> str:
    a, b = _numbers(text)
    opening = draw.choice((f"I add {a} and {b}. ", f"I need the sum of {a} and {b}. ", ""))
    return opening + added(draw, a, b)


def difference(draw: random.Random, text: str) -> str:
    a, b = _numbers(text)
    opening = draw.choice((f"I take {b} away from {a}. ", f"I look for what is left of {a} without {b}. ", ""))
    return opening + taken(draw, a, b)


def product(draw: random.Random, text: str) -> str:
    a, b = _numbers(text)
    opening = draw.choice((f"I need {a} times {b}. ", f"I multiply {a} by {b}. ", ""))
    return opening + multiplied(draw, a, b)


def comparison(draw: random.Random, text: str) -> str:
    a, b = _numbers(text)
    high, low = max(a, b), min(a, b)
    if low < 10:
        story = (
            f"On the number line {low} comes before {high}. So {high} is the larger number: {high}.",
            f"I count up from {low} and come to {high} later. So the larger one is {high}.",
        )
    elif high // 10 == low // 10:
        story = (
            f"Both have {high // 10} tens, so the units decide. {high % 10} is more than {low % 10}. "
            f"So the larger one is {high}.",
            f"The tens are the same, {high // 10}. The units are {a % 10} and {b % 10}, and {high % 10} is more. "
            f"That belongs to {high}.",
        )
    else:
        story = (
            f"I compare the tens. {a} has {a // 10} and {b} has {b // 10}. {high // 10} is more, so I take {high}.",
            f"{low} has only {low // 10} tens and {high} has {high // 10}. So the larger one is {high}.",
        )
    return draw.choice(story)


def sequence(draw: random.Random, text: str) -> str:
    first, second, third, last = _numbers(text)
    step = second - first
    story = (
        f"From {first} to {second} it is {step}, and from {second} to {third} it is {step} again. "
        f"So I add {step} to {last}. ",
        f"Each number is {step} more than the one before, since {second} - {first} = {step}. The last one is {last}. ",
    )
    return draw.choice(story) + added(draw, last, step)


def successor(draw: random.Random, text: str) -> str:
    last = int(text[-2])
    if last == 9:
        return "The last digit is 9. After it the digits begin again with 0."
    return (
        draw.choice((f"The last digit is {last}. ", f"I look at the last digit, {last}. ")) + f"Next comes {last + 1}."
    )


def word(draw: random.Random, text: str) -> str:
    for pattern, story in _STORIES:
        match = pattern.match(text)
        if match:
            named = {key: int(value) if value.isdigit() else value for key, value in match.groupdict().items()}
            return story(draw, **named)
    raise ValueError(f"no such story: {text}")


def _buys(draw: random.Random, *, who: str, what: str, a: int, b: int) -> str:
    return f"{who} has {a} {what} and then {b} more, so I add. {added(draw, a, b)}"


def _gives(draw: random.Random, *, who: str, what: str, a: int, b: int) -> str:
    return f"{who} had {a} {what} and {b} are gone, so I subtract. {taken(draw, a, b)}"


def _more(draw: random.Random, *, who: str, what: str, a: int, friend: str, b: int) -> str:
    return f"I compare the {what}: {who} has {a}, {friend} has {b}, so I subtract. {taken(draw, a, b)}"


def _packs(draw: random.Random, *, who: str, what: str, a: int, b: int) -> str:
    return f"There are {b} boxes and each holds {a} {what}, so I multiply. {multiplied(draw, a, b)}"


def _gives_and_finds(draw: random.Random, *, who: str, what: str, a: int, b: int, c: int) -> str:
    first = f"First {who} gives {b} of the {a} {what} away. {taken(draw, a, b)}"
    return f"{first} Then {who} finds {c}. {added(draw, a - b, c)}"


def _together(draw: random.Random, *, who: str, what: str, a: int, b: int, friend: str, c: int) -> str:
    first = f"{who} finds {what} twice. {added(draw, a, b)}"
    return f"{first} {friend} finds {c} more. {added(draw, a + b, c)}"


def _bags(draw: random.Random, *, who: str, what: str, a: int, b: int, c: int) -> str:
    first = f"The {b} bags hold {a} {what} each. {multiplied(draw, a, b)}"
    return f"{first} {who} already has {c}. {added(draw, a * b, c)}"


_STORIES: tuple[tuple[re.Pattern[str], Callable[..., str]], ...] = tuple(
    (re.compile(pattern), story)
    for pattern, story in (
        (r"(?P<who>\w+) has (?P<a>\d+) (?P<what>\w+) and buys (?P<b>\d+) more\.", _buys),
        (r"(?P<who>\w+) has (?P<a>\d+) (?P<what>\w+) and gives (?P<b>\d+) of them away\.", _gives),
        (r"(?P<who>\w+) has (?P<a>\d+) (?P<what>\w+)\. (?P<friend>\w+) has (?P<b>\d+)\.", _more),
        (r"(?P<who>\w+) packs (?P<b>\d+) boxes with (?P<a>\d+) (?P<what>\w+) in each\.", _packs),
        (
            r"(?P<who>\w+) has (?P<a>\d+) (?P<what>\w+), gives (?P<b>\d+) of them to \w+ and then finds (?P<c>\d+)",
            _gives_and_finds,
        ),
        (
            r"(?P<who>\w+) finds (?P<a>\d+) (?P<what>\w+) in the morning and (?P<b>\d+) in the evening\. "
            r"(?P<friend>\w+) finds (?P<c>\d+)\.",
            _together,
        ),
        (r"(?P<who>\w+) buys (?P<b>\d+) bags with (?P<a>\d+) (?P<what>\w+) in each and already has (?P<c>\d+)", _bags),
    )
)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


REASONING: dict[str, Callable[[random.Random, str], str]] = {
    "sum": sum_,
    "difference": difference,
    "product": product,
    "comparison": comparison,
    "sequence": sequence,
    "successor": successor,
    "word": word,
}
"""A kind of the environment `arithmetic` to what works it out: (draw, the question's own words) -> sentences."""
