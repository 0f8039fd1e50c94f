"""Rewards for a final answer compared as text: captured by a pattern, or by how much of it would have to change."""

import re

from groupwise.data import Question
from groupwise.errors import RewardError
from groupwise.rewards.answer import answer_text, part_of
from groupwise.rewards.answers.final import extract, final
from groupwise.rewards.opening import opening_of

LONGEST = 20_000
"""Characters of an answer that are compared; each one past them is one more edit."""


def captured(text: str, question: Question, *, regex: str, group: int | str = 1, ignore_case: bool = False) -> float:
    """1 if a group of the pattern's last match in the whole output equals the right answer, else 0.

    White space around either does not count. Raises re.error if the pattern is none, IndexError if it has no such
    group, ValueError if there is no right answer. A pattern that backtracks for ever ends at the time limit."""
    gold = answer_text(question.answer, where=f"question {question.id!r}").strip()
    if not gold:
        raise ValueError(f"the right answer of question {question.id!r} is empty")
    pattern = re.compile(regex)
    if group not in pattern.groupindex and not (isinstance(group, int) and 0 <= group <= pattern.groups):
        raise IndexError(f"regex has no group {group!r}; write ( ) around what is the answer")
    found = None
    for found in pattern.finditer(opening_of(question) + text):  # noqa: B007
        pass
    given = (found[group] or "").strip() if found else ""
    return float(given.casefold() == gold.casefold() if ignore_case else given == gold)


class EditSimilarity:
    """1 - d(answer, right answer) / max(their lengths), 0 to 1, with d the Levenshtein distance in characters.

    whole: compare the whole output behind the reasoning, and not its final answer alone; ignore_case: of letters.
    """

    def __init__(self, *, whole: bool = False, ignore_case: bool = False) -> None:
        try:
            from rapidfuzz.distance import Levenshtein
        except ImportError:
            raise RewardError(
                "edit_similarity needs the package rapidfuzz", hint="pip install 'groupwise[rules]'"
            ) from None
        self._distance, self._whole, self._ignore_case = Levenshtein.distance, whole, ignore_case

    def __call__(self, text: str, question: Question) -> float:
        gold = extract(answer_text(question.answer, where=f"question {question.id!r}"))
        if not gold:
            raise ValueError(f"the right answer of question {question.id!r} is empty")
        part = part_of(text, question)
        given = (part if self._whole else final(part)).strip()
        if self._ignore_case:
            given, gold = given.casefold(), gold.casefold()
        edits = self._distance(given[:LONGEST], gold) + max(0, len(given) - LONGEST)
        return max(0.0, 1.0 - edits / max(len(given), len(gold)))
