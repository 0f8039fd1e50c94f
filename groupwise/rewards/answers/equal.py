"""When a given answer equals the right one. The rules, with examples: docs/verdicts.md.

`equal` asks the rules of RULES one after another; each says yes, no, or nothing of two answers of its kind.
"""

import re
from collections.abc import Callable, Iterator

from groupwise.rewards.answers.chemistry import same_formulas
from groupwise.rewards.answers.forms import bases, ratios, times
from groupwise.rewards.answers.formula import Operation
from groupwise.rewards.answers.latex import respelled
from groupwise.rewards.answers.notations import same_notation
from groupwise.rewards.answers.quantities import quantities
from groupwise.rewards.answers.read import LONGEST, Answer, Equal, Matrix, Quantity, Several, Union, Words, read
from groupwise.rewards.answers.relations import equations, inequalities, plus_minus
from groupwise.rewards.answers.several import MOST_ITEMS, empty_sets, matrices, several, unions
from groupwise.rewards.answers.spelling import without_indian_commas
from groupwise.rewards.answers.words import ANSWERED, choice, choices, normal

_LATER = re.compile(r"(?i:\b(?:answer|option|choice)\s*(?:is|:)\s*|答案[是为]\s*)[(\[]?\s*([A-J])(?![a-zA-Z])")
Rule = Callable[[Answer, Answer, Equal], bool | None]


def same(gold: str, given: str) -> bool:
    """Whether the text of an answer says what the right answer says."""
    if max(len(gold), len(given)) > LONGEST:
        return gold == given
    spelled = respelled(gold)
    letters = choices(spelled) or (frozenset(found[0]) if (found := choice(spelled)) and not found[1] else None)
    if letters:
        return _chosen(given) == letters
    right = read(gold)
    if any(equal(right, answer) for answer in _readings(given, right)):
        return True
    if same_formulas(gold, given) or same_notation(gold, given):
        return True
    if normal(gold) in ANSWERED:
        first = re.match(r"\W*([^\W\d_]+)\s*[,.;:!。，]", respelled(given))
        return first is not None and normal(first[1]) == normal(gold) and not _wavers(respelled(given), normal(gold))
    begins, asked = choice(respelled(given)), choice(respelled(gold))
    if asked and begins:  # (A) 12 beside A, beside (A) 12
        return asked[0] == begins[0] and bool(asked[1])
    if asked:
        return bool(asked[1]) and same(asked[1], given)
    return bool(begins and begins[1]) and equal(right, read(begins[1] if begins else ""))


def equal(gold: Answer, given: Answer) -> bool:
    """Whether two answers are equal; numbers as exactly as the right one is written."""
    if gold == given:
        return True
    if isinstance(gold, Several | Union | Matrix) and _count(gold) + _count(given) > MOST_ITEMS * 2:
        return False
    for rule in RULES:
        verdict = rule(gold, given, equal)
        if verdict is not None:
            return verdict
    return False


def _readings(given: str, right: Answer) -> Iterator[Answer]:
    """What an answer may say, the likeliest first, where the right one tells what is meant."""
    first = read(given)
    yield first
    text = respelled(given)
    if isinstance(right, Quantity):
        if without_indian_commas(text) != text:
            yield read(without_indian_commas(text))
        if re.fullmatch(r"-?\d+,\d+", text):  # a decimal comma
            yield read(text.replace(",", "."))
        if "\\approx" in text:  # P = 3/56 \approx 0.0536
            yield read(text.rpartition("\\approx")[0])
        if found := re.fullmatch(r"(.*[\d)}])\s*([mgLhs])", text):
            yield read(f"{found[1]} {found[2]}")
    if isinstance(right, Several) and re.fullmatch(r"[-\d,]+", text):
        yield read(text.replace(",", ", "))


def _chosen(given: str) -> frozenset[str] | None:
    text = respelled(given)
    several = choices(text)
    if several:
        return several
    found = choice(text)
    if found:  # The answer is B. No, the answer is C.
        later = _LATER.findall(found[1])
        return frozenset(later[-1] if later else found[0])
    return frozenset(text.upper()) if re.fullmatch(r"[a-j]", text := text.strip("()")) else None


def _wavers(text: str, gold: str) -> bool:
    """Whether a text is nothing but such words, and another than the right one is among them: No, yes."""
    words = normal(text).split()
    return any(word != gold for word in words) and set(words) <= ANSWERED | {"or", "and", "maybe"}


def _count(answer: Answer) -> int:
    if isinstance(answer, Several | Union):
        return sum(map(_count, answer.items))
    return sum(len(row) for row in answer.rows) if isinstance(answer, Matrix) else 1


def _words(gold: Answer, given: Answer, equal: Equal) -> bool | None:
    if isinstance(gold, Words) and isinstance(given, Words):
        return gold.text == given.text
    product, other = (gold, given) if isinstance(gold, Words) else (given, gold)
    if not isinstance(product, Words) or not isinstance(other, Quantity) or not isinstance(other.tree, Operation):
        return None
    if other.tree.name != "*" or not re.fullmatch("[a-zA-Z]{2,3}", product.raw):
        return None
    return equal(other, read("*".join(product.raw)))  # xy beside x \cdot y


RULES: tuple[Rule, ...] = (
    empty_sets,
    _words,
    plus_minus,
    inequalities,
    equations,
    matrices,
    unions,
    several,
    times,
    bases,
    ratios,
    quantities,
)
