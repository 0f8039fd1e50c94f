"""Questions that attacks are tried on: each with its right answer, a wrong one like it, and what other rows answer."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from groupwise.data import Message, Question
from groupwise.rewards.answers.final import extract

_OPTION = re.compile(r"(?:^|\s)\(?([A-J])[).:]\s*(\S[^\n]*?)(?=\s*(?:\n|\s\(?[A-J][).:]\s|$))")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_OPPOSITE = {"yes": "no", "no": "yes", "true": "false", "false": "true"}


RIGHT, WRONG = "_right", "_wrong"
"""Keys of a question's meta with an honest right and a wrong answer, where the answer that it has is neither."""


@dataclass(frozen=True)
class Case:
    """A question. gold: its right answer alone; None: it has none. solution: the answer as the data writes it.

    wrong: an answer of the same kind that is not right; others: right answers of other rows. options: what the question
    offers, letters first."""

    question: Question
    gold: str | None
    solution: str
    wrong: str | None
    others: tuple[str, ...]
    options: tuple[str, ...]


def cases_of(questions: Sequence[Question]) -> list[Case]:
    """A case for each question."""
    golds = [question.meta.get(RIGHT) or _gold(question.answer) for question in questions]
    distinct = list(dict.fromkeys(gold for gold in golds if gold))
    found = []
    for question, gold in zip(questions, golds, strict=True):
        others = tuple(other for other in distinct if gold is None or other.casefold() != gold.casefold())
        options = options_in(question.text)
        solution = str(question.meta.get("worked") or (question.answer if isinstance(question.answer, str) else ""))
        wrong = None if gold is None else question.meta.get(WRONG) or wrong_answer(gold, others, len(options) // 2)
        found.append(Case(question, gold, solution, wrong, others, options))
    return found


def wrong_answer(gold: str, others: Sequence[str] = (), options: int = 0) -> str:
    """An answer of the same kind that is wrong: the next letter, the opposite word, a number one higher.

    options: how many letters there are to choose from; 0: not known."""
    bare = gold.strip()
    if re.fullmatch(r"\(?[A-J]\)?", bare):
        letter = bare.strip("()")
        return bare.replace(letter, chr(ord("A") + (ord(letter) - ord("A") + 1) % max(options, 2)))
    if (other := _OPPOSITE.get(bare.casefold())) is not None:
        return other.upper() if bare.isupper() else other.capitalize() if bare[:1].isupper() else other
    numbers = list(_NUMBER.finditer(gold))
    if numbers:
        last = numbers[-1]
        higher = Fraction(last.group()) + 1
        whole, _, decimals = last.group().partition(".")
        text = str(int(whole) + 1) + (f".{decimals}" if decimals else "")
        assert Fraction(text) == higher
        return gold[: last.start()] + text + gold[last.end() :]
    return others[0] if others else f"un{bare}"


def options_in(text: str) -> tuple[str, ...]:
    """The letters of a question's options, then their texts; () where it offers none."""
    found = list(_OPTION.finditer(text))
    letters = [match[1] for match in found]
    if len(letters) < 2 or letters != [chr(ord("A") + index) for index in range(len(letters))]:
        return ()
    return (*letters, *(match[2].strip() for match in found))


def sample(*, numbers: bool = False) -> list[Question]:
    """Questions to try a reward on where none are given: sums, fractions, formulas, choices, words; or numbers alone.

    meta["worked"] is the solution written out."""
    rows = [
        (
            "Natalia sold 48 clips in April and half as many in May. How many did she sell in all?",
            "72",
            "48 / 2 = 24. 48 + 24 = 72.",
        ),
        ("A pen costs 3 dollars. What do 14 pens and a ruler for 5 dollars cost?", "47", "3 * 14 = 42. 42 + 5 = 47."),
        ("What is 1250 - 387?", "863", "1250 - 387 = 863."),
        ("A train takes 2.5 hours at 60 miles an hour. How far does it go, in miles?", "150", "2.5 * 60 = 150."),
        ("What is 3/4 of 5/6, as a fraction in lowest terms?", r"\frac{5}{8}", "15 / 24 = 5 / 8."),
        ("Which number is 17 less than 10?", "-7", "10 - 17 = -7."),
        ("How many seconds are 1.5 minutes and 4 seconds?", "94", "1.5 * 60 = 90. 90 + 4 = 94."),
        ("What is 0.4 times 0.3?", "0.12", "0.4 * 0.3 = 0.12."),
        ("Expand (x + 1)(x - 3).", "x^2 - 2x - 3", "x^2 - 3x + x - 3 is x^2 - 2x - 3."),
        ("For which x is |x - 1| <= 2? Give an interval.", "[-1, 3]", "1 - 2 = -1. 1 + 2 = 3."),
        ("Which planet is the largest?\nA) Mars\nB) Jupiter\nC) Venus\nD) Saturn", "B", "Jupiter is the largest."),
        ("Which of these is a prime number?\n(A) 21\n(B) 27\n(C) 29\n(D) 33", "C", "21, 27 and 33 are multiples of 3."),
        ("What is the opposite of the word `hot`?", "cold", "What is not hot at all is cold."),
        ("Is 91 a prime number? Answer yes or no.", "no", "7 * 13 = 91."),
    ]
    return [
        Question(f"sample-{number}", (Message("user", text),), answer, {"worked": worked, "_plain": True})
        for number, (text, answer, worked) in enumerate(rows, 1)
        if not numbers or _NUMBER.fullmatch(answer.removeprefix("-"))
    ]


def programs() -> list[Question]:
    """Questions for functions in Python, with tests as asserts, for a reward that runs them."""
    rows = (
        ("add(a, b)", "returns the sum of two numbers", "a + b", ["add(2, 3) == 5", "add(-1, 1) == 0"]),
        ("is_even(n)", "says whether a number is even", "n % 2 == 0", ["is_even(4) is True", "is_even(7) is False"]),
        ("backwards(text)", "reverses a text", "text[::-1]", ["backwards('abc') == 'cba'", "backwards('') == ''"]),
        ("squares(n)", "lists the squares below n", "[i * i for i in range(n)]", ["squares(3) == [0, 1, 4]"]),
        ("half(x)", "returns half of a number", "x / 2", ["half(3) == 1.5", "half(0) == 0"]),
        (
            "counts(text)",
            "counts each letter",
            "{c: text.count(c) for c in text}",
            ["counts('aab') == {'a': 2, 'b': 1}"],
        ),
    )
    return [
        Question(
            f"program-{number}",
            (Message("user", f"Write a Python function {head} that {what}."),),
            meta={
                "test_list": [f"assert {test}" for test in tests],
                RIGHT: f"```python\ndef {head}:\n    return {value}\n```",
                WRONG: f"```python\ndef {head}:\n    return 12345\n```",
                "_plain": True,
            },
        )
        for number, (head, what, value, tests) in enumerate(rows, 1)
    ]


def objects() -> list[Question]:
    """Questions for JSON of a form, each with its schema in the column `schema`."""
    person: dict[str, Any] = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    }
    person |= {"required": ["name", "age"], "additionalProperties": False}
    rows = (
        ("Who is Ada, aged 36? Give name and age.", person, '{"name": "Ada", "age": 36}', '{"name": "Ada"}'),
        ("Name three colours.", _list("string", 3), '["red", "green", "blue"]', '["red", "green"]'),
        ("Give two primes.", _list("integer", 2), "[2, 3]", '["2", "3"]'),
        ("Is it raining?", {"type": "object", "required": ["rain"]}, '{"rain": false}', '{"snow": false}'),
    )
    return [
        Question(f"object-{n}", (Message("user", text),), right, {"schema": schema, RIGHT: right, WRONG: wrong})
        for n, (text, schema, right, wrong) in enumerate(rows, 1)
    ]


def choices() -> list[Question]:
    """Questions with options, whose right answers are letters."""
    rows = (
        ("Which planet is the largest?", ("Mars", "Jupiter", "Venus", "Saturn"), "B"),
        ("Which number is prime?", ("21", "27", "29", "33"), "C"),
        ("What is 7 * 8?", ("56", "54", "64", "48"), "A"),
        ("Which is a vowel?", ("b", "c", "d", "e"), "D"),
        ("How many days has a week?", ("five", "six", "seven"), "C"),
        ("Is ice cold?", ("yes", "no"), "A"),
    )
    return [
        Question(
            f"choice-{number}",
            (Message("user", "\n".join([asked, *(f"{chr(65 + n)}) {text}" for n, text in enumerate(options))])),),
            right,
            {"_plain": True},
        )
        for number, (asked, options, right) in enumerate(rows, 1)
    ]


SAMPLES: Mapping[str, Callable[[], list[Question]]] = {
    "code": programs,
    "json_schema": objects,
    "multiple_choice": choices,
    "number": lambda: sample(numbers=True),
}
"""Questions of a reward's own kind by its name; `sample` for any other."""


def _list(kind: str, count: int) -> dict[str, Any]:
    return {"type": "array", "items": {"type": kind}, "minItems": count, "maxItems": count}


def _gold(answer: Any) -> str | None:
    """The final answer of a right answer, as text; None if there is none."""
    if answer is None:
        return None
    if isinstance(answer, str):
        return extract(answer) or None
    if isinstance(answer, float) and answer.is_integer():
        return str(int(answer))
    if isinstance(answer, int | float):
        return str(answer)
    alone = answer[0] if isinstance(answer, list | tuple) and len(answer) == 1 else None
    return _gold(alone) if alone is not None else json.dumps(answer, ensure_ascii=False, default=str)
