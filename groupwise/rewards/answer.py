"""Rewards for an answer that can be checked: mathematics, text, a number, a procedural task's own scorer.

Each looks at the final answer alone, behind the reasoning. A wrong answer scores 0, however long it would take to
compute; a right answer that cannot be read is the data's mistake and raises, so that the output is marked failed.
"""

import functools
import json
import math as numbers
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

from groupwise.data import Question
from groupwise.rewards.answers import symbolic
from groupwise.rewards.answers.chemistry import formulas
from groupwise.rewards.answers.equal import same
from groupwise.rewards.answers.final import answer_part, boxes, extract, final, tagged, tagged_or_boxed
from groupwise.rewards.answers.formula import Number
from groupwise.rewards.answers.latex import respelled
from groupwise.rewards.answers.quantities import tolerance as decimal_tolerance
from groupwise.rewards.answers.read import LONGEST, Answer, Words, read
from groupwise.rewards.answers.sentences import DENIED, candidates, decisive, is_prose, stated
from groupwise.rewards.answers.spelling import UNSPACED, plain, ungrouped
from groupwise.rewards.opening import opening_of

__all__ = ["boxes", "exact", "extract", "math", "number", "reasoning_gym"]

_NUMBER = re.compile(
    rf"(?<![^\W{UNSPACED}])(?<![.)])(?P<sign>[-+]?)\$?(?P<signed>(?<=\$)-|)"
    r"(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=\.\d))(?P<decimals>\.\d+)?"
    r"(?:/(?P<below>\d+(?!\d*\.\d))|[eE](?P<exponent>[-+]?\d{1,2})(?!\w))?"
)
_BEGUN = re.compile(r"[<\[◁\\]")
"""In what the prompt ended with: a tag or a box is open, and no mere words."""
_PLAIN_NUMBER = re.compile(r"[-+−]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?|-?\\[dt]?frac\s*\{-?\d+\}\s*\{\d+\}")
_CALCULATES = re.compile(r"(?<=[\w)}])(?:[-+−*×·⋅÷^!]|\\(?:times|cdot|div|binom|sqrt))|\\(?:binom|sqrt|sum|prod|int)")
_LOOK_BACK = 24  # characters
_SIMPLE_FRACTION = re.compile(r"\\[dt]?frac\s*\{(-?\d+)\}\s*\{(\d+)\}")


def math(text: str, question: Question) -> float:
    """1 if the final answer equals the question's as mathematics, else 0; 40 + 2 equals 42. Rules: docs/verdicts.md.

    An answer of more than LONGEST characters is none; of a text without a marked one, its end is read. A calculation
    that the question asks for is no answer to it where the right one is a number.
    Raises ValueError if there is no right answer, or nothing in it to compare with."""
    gold = _math_gold(_answer(question))
    part = part_of(text, question)
    given = final(part).strip()
    if len(given) > LONGEST:
        if given != part.strip():
            return 0.0
        given = given[-LONGEST:]
    try:
        return float(bool(given) and _says(given, gold) and not _is_echo(given, gold, question))
    except RecursionError:  # a formula nested deeper than any answer: 3/4/4/4 five hundred times
        return 0.0


def exact(
    text: str,
    question: Question,
    *,
    strip: bool = True,
    ignore_case: bool = False,
    where: Literal["whole", "end"] = "whole",
) -> float:
    """1 if the final answer is the question's, letter for letter, else 0.

    strip: white space around either does not count. ignore_case: nor does the case of letters. where: the final answer
    is nothing else, or it ends with the question's words and does not deny them, whatever marks stand around them.
    Raises ValueError if `where` is another word, or the right answer is empty."""
    if where not in ("whole", "end"):
        raise ValueError(f"where = {where!r}: choose from whole, end")
    given, gold = final(part_of(text, question)), final(_answer(question))
    if where == "end":
        wanted, said = (re.findall(r"\w+(?:['’]t\b)?", text) for text in (gold, given))
        before = said[: -len(wanted)][-1:] if wanted else []
        denied = any(word.casefold() == "not" or word.casefold().endswith(("n't", "n’t")) for word in before)
        gold, given = " ".join(wanted), " ".join(said[-len(wanted) :] if wanted and not denied else [])
    if strip:
        given, gold = given.strip(), gold.strip()
    if ignore_case:
        given, gold = given.casefold(), gold.casefold()
    if not gold:
        raise ValueError(f"the right answer {_start(str(question.answer))} of question {question.id!r} is empty")
    return float(given == gold)


def number(
    text: str,
    question: Question,
    *,
    tolerance: float | None = None,
    where: Literal["last", "first", "tag"] = "last",
) -> float:
    """1 if a number of the final answer is the question's, else 0.

    tolerance: how far apart they may be; None: half a unit of the last place of a right answer with decimals, else 0.
    where: the last or the first number of the final answer, or the last within <answer> tags and nowhere else.
    Understands 1,000  -3  3.50  1/2  $5  50%  1e-3  ４２; a per cent sign is dropped on both sides.
    Raises ValueError if the question's answer holds no number, or `where` is another word."""
    if where not in ("last", "first", "tag"):
        raise ValueError(f"where = {where!r}: choose from first, last, tag")
    right = _a_number(extract(_answer(question)), "last")
    if right is None:
        raise ValueError(f"the right answer {_start(str(question.answer))} of question {question.id!r} holds no number")
    part = part_of(text, question)
    answered = _a_number(final(part), where) if where != "tag" or tagged(part) is not None else None
    if answered is None:
        return 0.0
    within = decimal_tolerance(right) if tolerance is None else Fraction(tolerance)
    return float(abs(answered.value - right.value) <= within)


def reasoning_gym(text: str, question: Question) -> float:
    """The score in [0, 1] that the question's own reasoning-gym data set gives to the final answer.

    Reads question.meta["reasoning_gym"]: {"name", "params", "entry"}. Raises ValueError if it is not there."""
    original = question.meta.get("reasoning_gym")
    if original is None:
        raise ValueError(f"question {question.id!r} has no 'reasoning_gym' entry: it was not made by that environment")
    scorer = _scorer(original["name"], json.dumps(original.get("params") or {}, sort_keys=True))
    given = tagged_or_boxed(part_of(text, question)).strip()
    return float(scorer.score_answer(answer=given, entry=original["entry"]))


def part_of(text: str, question: Question) -> str:
    """The output without its reasoning, which the prompt may have begun."""
    opening = opening_of(question)
    return answer_part(opening + text if _BEGUN.search(opening) else text)


def _says(given: str, gold: str) -> bool:
    """Whether an answer, or the sentence that gives it, says what the right one says."""
    if given == gold or same(gold, given):
        return True
    right = _read_gold(gold)
    by_words = isinstance(right, Words) or re.fullmatch(r"\W*[A-J]\W*", gold)
    if by_words and any(same(gold, some) for some in stated(given)):
        return True
    if isinstance(right, Words):
        return "\\" in right.raw and symbolic.same(right.raw, respelled(given))
    if not is_prose(read(given)):
        return False
    found = next(filter(formulas, candidates(given)), None) if formulas(gold) else None
    found = found or decisive(given)
    if found is not None:
        return same(gold, found)
    return "\\" in given and symbolic.same(respelled(gold), respelled(given))


def _is_echo(given: str, gold: str, question: Question) -> bool:
    """Whether an answer is the calculation that the question asks to be done, and the right one is its result."""
    if not _PLAIN_NUMBER.fullmatch(gold):
        return False
    said = decisive(given) if is_prose(read(given)) else given
    bare = _without_space(said or "")
    return bool(_CALCULATES.search(bare)) and bare in _without_space(question.text)


def _without_space(text: str) -> str:
    return re.sub(r"\s|\\[,;! ()\[\]]|\$|[.?]$", "", plain(text))


def _answer(question: Question) -> str:
    """The right answer as text. Raises ValueError for what is none: nothing, a list of several, a table, nan."""
    return answer_text(question.answer, where=f"question {question.id!r}")


def answer_text(answer: Any, *, where: str) -> str:
    """A right answer as text: 2.0 is 2, a list of one is its item. Raises ValueError for what has no one text."""
    if answer is None:
        raise ValueError(f"{where} has no answer to compare with")
    answer = answer.item() if hasattr(answer, "item") and getattr(answer, "ndim", None) == 0 else answer
    answer = answer.tolist() if hasattr(answer, "tolist") else answer
    if isinstance(answer, Sequence) and not isinstance(answer, str) and len(answer) == 1:
        return answer_text(answer[0], where=where)
    if isinstance(answer, float) and not numbers.isfinite(answer):
        raise ValueError(f"the right answer {answer!r} of {where} is no finite number")
    if isinstance(answer, float) and answer.is_integer():
        return str(int(answer))
    if not isinstance(answer, str | bool | int | float):
        raise ValueError(
            f"the right answer {_start(str(answer))} of {where} is a {type(answer).__name__}, not one text or number"
        )
    return str(answer)


@functools.lru_cache(maxsize=4096)
def _math_gold(answer: str) -> str:
    """What a right answer comes to, once for all outputs of its group: `decisive` of a sentence."""
    gold = extract(answer)
    if not re.search(r"\w|\\[a-zA-Z{]|[∅∞<>=√×✓✔✗✘≤≥≠]", plain(gold)) or len(gold) > LONGEST:
        raise ValueError(f"the right answer {_start(gold)} cannot be read as mathematics or as words")
    if isinstance(read(gold), Words) and re.search(r"[.!?。]\s|\n|^(?:the )?answer", gold, re.IGNORECASE):
        return decisive(gold) or gold
    return gold


@functools.lru_cache(maxsize=4096)
def _read_gold(gold: str) -> Answer:
    return read(gold)


def _start(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _a_number(text: str, where: str) -> Number | None:
    """The last number of a text, or its first; None without one. One that it says it is not is none."""
    text = _SIMPLE_FRACTION.sub(r"\1/\2", ungrouped(plain(text)).replace("\\$", "$"))
    found = list(_NUMBER.finditer(text))
    for match in found if where == "first" else reversed(found):
        value = _value(match)
        if value is not None and not DENIED.search(text, max(0, match.start() - _LOOK_BACK), match.start()):
            return value
    return None


def _value(match: "re.Match[str]") -> Number | None:
    """The number in a match; None if it is divided by 0 or has more digits than any answer."""
    whole, decimals, below = match["whole"].replace(",", ""), match["decimals"] or "", match["below"]
    if len(whole) + len(decimals) + len(below or "") > 300 or (below and not int(below)):
        return None
    exponent = int(match["exponent"] or 0)
    value = Fraction(f"{whole or 0}{decimals}") * Fraction(10) ** exponent / int(below or 1)
    places = len(decimals) - 1 - exponent if decimals and not below else None
    return Number(-value if "-" in (match["sign"], match["signed"]) else value, places)


@functools.lru_cache(maxsize=64)
def _scorer(name: str, params: str) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(name, **json.loads(params))
