"""Rewards for an answer that can be checked: mathematics, text, a number, a procedural task's own scorer.

Each looks at the final answer alone. A wrong answer scores 0; a right answer that cannot be read is the data's
mistake and raises, so that the output is marked failed and not wrong.
"""

import functools
import json
import logging
import re
from fractions import Fraction
from typing import Any, Literal

from groupwise.data import Question

LONGEST_ANSWER = 1000
"""Characters of an answer handed to the parser of mathematics, whose patterns are slow on long texts."""

_TAG = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_BRACE = re.compile(r"\\boxed\s*\{|\\[\\{}]|[{}]")
_NUMBER = re.compile(
    r"(?<![\w.)])(?P<sign>[-+]?)\$?(?P<signed>(?<=\$)-|)"
    r"(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=\.\d))(?P<decimals>\.\d+)?"
    r"(?:/(?P<below>\d+(?!\d*\.\d))|[eE](?P<exponent>[-+]?\d{1,2})(?!\w))?"
)
_SIMPLE_FRACTION = re.compile(r"\\[dt]?frac\s*\{(-?\d+)\}\s*\{(\d+)\}")


def extract(text: str) -> str:
    """The final answer in a text: the last <answer>..</answer>, in it the last \\boxed{}, else a last line `#### ..`.

    Where there is none of them it is the whole text. Surrounding white space is dropped."""
    return _final(text).strip()


def boxes(text: str) -> list[str]:
    r"""The contents of every closed \boxed{}, in the order in which they open; braces are matched, \{ is no brace."""
    opened: list[tuple[int, bool]] = []
    closed: list[tuple[int, str]] = []
    for match in _BRACE.finditer(text):
        token = match.group()
        if token == "}":
            if opened:
                start, boxed = opened.pop()
                if boxed:
                    closed.append((start, text[start : match.start()]))
        elif token[-1] == "{" and token != r"\{":
            opened.append((match.end(), token != "{"))
    return [content for _, content in sorted(closed)]


def math(text: str, question: Question) -> float:
    """1 if the final answer equals the question's as mathematics (math-verify), else 0; 40 + 2 equals 42.

    An answer of more than LONGEST_ANSWER characters is no answer; of a text without a marked one, its end is read.
    Raises ValueError if the right answer cannot be parsed."""
    from math_verify import verify

    gold = _gold(question)
    right = _right_expressions(gold)
    answer = extract(text)
    if answer == gold:
        return 1.0
    if answer == text.strip():
        found = _read(answer[-LONGEST_ANSWER:])
    elif len(answer) > LONGEST_ANSWER:
        return 0.0
    else:
        found = _expressions(answer)
    # No time limit of its own (it works by signals): the process that runs this has one.
    return float(verify(right, found, timeout_seconds=None, raise_on_error=True)) if found else 0.0


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
    is nothing else, or it ends with the question's words, whatever marks stand behind and between them.
    Raises ValueError if `where` is another word."""
    if where not in ("whole", "end"):
        raise ValueError(f"where = {where!r}: choose from whole, end")
    given, gold = _final(text), _final(_answer(question))
    if where == "end":
        wanted = re.findall(r"\w+", gold)
        gold, given = " ".join(wanted), " ".join(re.findall(r"\w+", given)[-len(wanted) :] if wanted else [])
    if strip:
        given, gold = given.strip(), gold.strip()
    if ignore_case:
        given, gold = given.casefold(), gold.casefold()
    return float(given == gold)


def number(
    text: str, question: Question, *, tolerance: float = 1e-6, where: Literal["last", "first", "tag"] = "last"
) -> float:
    """1 if a number of the final answer is within `tolerance` (absolute) of the question's, else 0.

    where: the last or the first number of the final answer, or the last within <answer> tags and nowhere else.
    Understands 1,000  -3  3.50  1/2  $5  50%  1e-3; a per cent sign is dropped on both sides.
    Raises ValueError if the question's answer holds no number, or `where` is another word."""
    if where not in ("last", "first", "tag"):
        raise ValueError(f"where = {where!r}: choose from first, last, tag")
    golds = _numbers(_gold(question))
    if not golds:
        raise ValueError(f"the right answer {_start(_gold(question))} of question {question.id!r} holds no number")
    given = _numbers(extract(text)) if where != "tag" or _TAG.search(text) else []
    if not given:
        return 0.0
    return float(abs((given[0] if where == "first" else given[-1]) - golds[-1]) <= Fraction(tolerance))


def reasoning_gym(text: str, question: Question) -> float:
    """The score in [0, 1] that the question's own reasoning-gym data set gives to the final answer.

    Reads question.meta["reasoning_gym"]: {"name", "params", "entry"}. Raises ValueError if it is not there."""
    made = question.meta.get("reasoning_gym")
    if made is None:
        raise ValueError(f"question {question.id!r} has no 'reasoning_gym' entry: it was not made by that environment")
    scorer = _scorer(made["name"], json.dumps(made.get("params") or {}, sort_keys=True))
    return float(scorer.score_answer(answer=_tagged_or_boxed(text).strip(), entry=made["entry"]))


def _final(text: str) -> str:
    found = _tagged_or_boxed(text)
    last_line = found.rstrip().rpartition("\n")[2].lstrip()
    # GSM8K's convention; only on the last line, since #### also begins a Markdown heading.
    return last_line[4:] if re.match("####(?!#)", last_line) else found


def _tagged_or_boxed(text: str) -> str:
    tagged = _TAG.findall(text)
    found = tagged[-1] if tagged else text
    boxed = boxes(found)
    return boxed[-1] if boxed else found


def _answer(question: Question) -> str:
    if question.answer is None:
        raise ValueError(f"question {question.id!r} has no answer to compare with")
    return str(question.answer)


def _gold(question: Question) -> str:
    return extract(_answer(question))


def _start(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


@functools.lru_cache(maxsize=4096)
def _right_expressions(gold: str) -> list[Any]:
    """The right answer parsed, once for all outputs of its group."""
    found = _expressions(gold) if len(gold) <= LONGEST_ANSWER else []
    if not found:
        raise ValueError(f"the right answer {_start(gold)} cannot be read as mathematics")
    return found


def _expressions(answer: str) -> list[Any]:
    """What math-verify reads in an answer that stands alone, which need not carry LaTeX's dollar signs."""
    answer = re.sub(r"(?<=\d) (?=\d{3}(?!\d))", "", answer.replace("\\$", "$"))
    if answer.count("$") == 1:
        answer = answer.replace("$", "")  # a currency, not a formula
    if re.fullmatch(r"[^\W\d_][^\W\d_' -]{2,}", answer.replace(" ", "")) and answer.isprintable():
        return _read(rf"$\text{{{answer}}}$")  # a word, or LaTeX would multiply its letters and accept an anagram
    marked = any(mark in answer for mark in ("$", r"\(", r"\["))
    sentence = "\\" not in answer and len(re.findall(r"[^\W\d_]{2,}", answer)) > 1
    found = [] if marked or sentence else _read(f"${answer}$")
    return found or _read(answer)


def _read(text: str) -> list[Any]:
    from math_verify import parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time limit is off
    return parse(text, fallback_mode="no_fallback", parsing_timeout=None)


def _numbers(text: str) -> list[Fraction]:
    text = _SIMPLE_FRACTION.sub(r"\1/\2", text.replace("\N{MINUS SIGN}", "-").replace("\\$", "$"))
    return [value for value in map(_value, _NUMBER.finditer(text)) if value is not None]


def _value(match: re.Match[str]) -> Fraction | None:
    """The number in a match; None if it is divided by 0 or has more digits than any answer."""
    whole, decimals, below = match["whole"].replace(",", ""), match["decimals"] or "", match["below"]
    if len(whole) + len(decimals) + len(below or "") > 300 or (below and not int(below)):
        return None
    value = Fraction(f"{whole or 0}{decimals}") * Fraction(10) ** int(match["exponent"] or 0)
    return (-1 if "-" in (match["sign"], match["signed"]) else 1) * value / int(below or 1)


@functools.lru_cache(maxsize=64)
def _scorer(name: str, params: str) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(name, **json.loads(params))
