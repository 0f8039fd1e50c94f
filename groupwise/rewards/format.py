"""Rewards for the form of an output: its tags, its box, a pattern. None looks at whether the answer is right.

Where the prompt has begun the answer (<think>), an output is judged as if it began with that.
"""

import re

from groupwise.data import Question
from groupwise.rewards.answers.final import boxes
from groupwise.rewards.opening import opening_of

_THINK_ANSWER = re.compile(r"<think>(.*?)</think>\s*<answer>(.*?)</answer>", re.DOTALL)


def think_answer(text: str, question: Question, *, opened: bool | None = None) -> float:
    """1 if the whole text is <think>..</think> <answer>..</answer>, each tag once and neither empty (R1-Zero), else 0.

    opened: the prompt ends in <think>, so the text begins inside it; None: as the chat template has it."""
    opening = opening_of(question) if opened is None else "<think>" * opened
    whole = (opening + text).strip()
    match = _THINK_ANSWER.fullmatch(whole)
    if not match or not all(part.strip() for part in match.groups()):
        return 0.0
    return float(all(whole.count(tag) == 1 for tag in ("<think>", "</think>", "<answer>", "</answer>")))


def answer_tag(text: str, question: Question) -> float:
    """1 if the text ends in <answer>..</answer>, not empty and the only one, else 0."""
    before, opening, rest = (opening_of(question) + text).partition("<answer>")
    inside, closing, after = rest.partition("</answer>")
    if not opening or not closing or not inside.strip() or after.strip():
        return 0.0
    return float("</answer>" not in before and "<answer>" not in inside)


def boxed(text: str, question: Question) -> float:
    r"""1 if the text holds exactly one \boxed{}, closed and not empty, else 0."""
    found = boxes(text)
    return float(len(found) == 1 and bool(found[0].strip()) and len(re.findall(r"\\boxed\b", text)) == 1)


def pattern(text: str, question: Question, *, regex: str) -> float:
    r"""1 if the regular expression is found anywhere in the text, else 0; \A and \Z tie it to the ends.

    Raises re.error if it is none. A pattern that backtracks for ever ends at the reward's time limit."""
    return float(re.search(regex, opening_of(question) + text) is not None)
