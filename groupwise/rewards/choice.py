"""A reward for questions with lettered options. Reads the letter where any final answer is read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from groupwise.data import Question
from groupwise.rewards.answer import answer_text, part_of
from groupwise.rewards.answers.final import extract, final
from groupwise.rewards.answers.sentences import stated
from groupwise.rewards.answers.words import choice, choices, normal

LETTERS = "ABCDEFGHIJ"


def multiple_choice(text: str, question: Question, *, options: str | None = None) -> float:
    """1 if the final answer names the right option and no other, else 0.

    The right answer is a letter (B, (B), B. Paris). options: column with the options, a list or `{label, text}` as in
    ARC; then the right answer may also be an option's text or its index from 0, and an output may give the text.
    Raises ValueError if the right answer is none of these."""
    known = _options(question, options)
    gold = _gold(question, known)
    found = next(_letters(final(part_of(text, question)).strip(), known), None)
    return float(found == gold)


def _letters(given: str, known: Mapping[str, str]) -> Iterator[str]:
    """What the answer names, the likeliest reading first; "" for several options."""
    for some in (*list(stated(given))[1:], given):
        if choices(some) is not None:
            yield ""
        elif (found := choice(some)) is not None:
            letter, rest = found
            other = choice(rest)
            yield "" if other is not None and other[0] != letter else letter
        elif len(matching := [letter for letter, option in known.items() if _same(option, some)]) == 1:
            yield matching[0]


def _gold(question: Question, known: Mapping[str, str]) -> str:
    answer = question.answer
    if isinstance(answer, int) and not isinstance(answer, bool) and known:
        letters = list(known)
        if 0 <= answer < len(letters):
            return letters[answer]
        raise ValueError(f"the right answer {answer} of question {question.id!r}: there are {len(letters)} options")
    text = extract(answer_text(answer, where=f"question {question.id!r}"))
    named = choice(text)
    if named is not None and (not known or named[0] in known):
        return named[0]
    matching = [letter for letter, option in known.items() if _same(option, text)]
    if len(matching) != 1:
        what = "no letter" + (" and none of its options" if known else "; name their column: params.options")
        raise ValueError(f"the right answer {text[:60]!r} of question {question.id!r} is {what}")
    return matching[0]


def _options(question: Question, column: str | None) -> dict[str, str]:
    """The options by letter; {}: not known. Raises ValueError for a column without any."""
    if column is None:
        return {}
    cell: Any = question.meta.get(column)
    cell = cell.tolist() if hasattr(cell, "tolist") else cell
    texts = cell.get("text") if isinstance(cell, Mapping) else cell
    labels = cell.get("label") if isinstance(cell, Mapping) else None
    texts = texts if isinstance(texts, Sequence) and not isinstance(texts, str) else ()
    if not 1 < len(texts) <= len(LETTERS) or (labels is not None and len(labels) != len(texts)):
        raise ValueError(f"column {column!r} of question {question.id!r} holds no options: {str(cell)[:60]!r}")
    letters = [str(label) for label in labels] if labels and set(map(str, labels)) <= set(LETTERS) else LETTERS
    return dict(zip(letters, map(str, texts), strict=False))


def _same(option: str, text: str) -> bool:
    return bool(normal(text)) and normal(option) == normal(text)
