"""Reward for keeping to one language: the share of an output's words that are in it. Knows nothing of what they say.

Where a script belongs to one language it decides alone. Latin words, and others whose script several languages share,
are told by py3langid, each with the words around it: alone, a third of them are taken for another language's.
"""

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from groupwise.data import Question

LANGUAGES: Mapping[str, tuple[str, ...]] = {
    "LATIN": ("en", "es", "de", "fr", "it", "pt", "nl", "pl", "tr", "id", "sv", "ro"),
    "CYRILLIC": ("ru", "uk", "bg"),
    "ARABIC": ("ar", "fa", "ur"),
    "DEVANAGARI": ("hi", "mr", "ne"),
    "CJK": ("zh", "ja"),
    "HIRAGANA": ("ja",),
    "KATAKANA": ("ja",),
    "HANGUL": ("ko",),
    "GREEK": ("el",),
    "HEBREW": ("he",),
    "THAI": ("th",),
    "BENGALI": ("bn",),
    "TAMIL": ("ta",),
}
"""The languages that are told apart, ISO 639-1, by their script (the first word of a letter's Unicode name)."""
FAVOUR = 2.0
"""A word counts as the target's unless another language is so many times as likely: short words fit many languages."""
_AROUND = {True: 8, False: 2}  # neighbours on each side that the library sees: characters without spaces, or words

_SPACELESS = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u0652\u0900-\u0dff"  # vowel signs are no letters to \w
_LETTERS = rf"(?:(?![\d_{_SPACELESS}])[\w{_MARKS}])++"
# What hangs on a digit or an underscore is a symbol, as one letter alone is: x2, 5km, max_value, n.
_WORD = re.compile(rf"(?=[^\W\d_])[{_SPACELESS}]|(?<![^\W{_SPACELESS}]){_LETTERS}(?:['’]{_LETTERS})*(?![\d_])")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)|[。！？\n]+")
_FORMULA = re.compile(
    r"`[^`\n]*`|\$\$[^$]*\$\$|\$(?=\S)[^$\n]*(?<=\S)\$(?!\d)"  # $5 and $6 is no formula
    r"|\\[A-Za-z]+\*?(?:\s*\{[^{}]*\})*|</?[A-Za-z][^<>\n]*>"
)


def language(
    text: str, question: Question, *, language: str = "en", within: Literal["think", "output"] = "think"
) -> float | None:
    """Share of the words that are in the target language (R1, arXiv 2501.12948, 2.3.2), 0 to 1; None if there are none.

    language: ISO 639-1, of LANGUAGES. within: the text between <think> and </think>, if it has either; or the output.
    Code, formulas, tags, numbers and letters that stand alone are no words. A character of Chinese, Japanese or Thai
    counts as a word, since no space ends one. Raises ValueError for a language or a place that is not known.
    """
    known = sorted(set(itertools.chain(*LANGUAGES.values())))
    if language not in known:
        raise ValueError(f"language = {language!r}: choose from {', '.join(known)}")
    if within not in ("think", "output"):
        raise ValueError(f"within = {within!r}: choose from think, output")
    judged = [
        found for run in _runs(_prose(_thought(text) if within == "think" else text)) for found in _is(*run, language)
    ]
    return sum(judged) / len(judged) if judged else None


def _thought(text: str) -> str:
    """What stands between the tags, of which the prompt may have opened the first and the limit cut off the last."""
    before, closing, _ = text.partition("</think>")
    outside, opening, inside = before.partition("<think>")
    return inside if opening else outside if closing else text


def _prose(text: str) -> str:
    """The text without code, formulas and tags, each character in its usual form."""
    text = " ".join(unicodedata.normalize("NFKC", text).split("```")[::2])  # a fence that is not closed: to the end
    text = re.sub(r"\\end\{\w+\*?\}", r"\\end", text)
    for opening, closing in ((r"\begin{", r"\end"), (r"\[", r"\]"), (r"\(", r"\)")):
        first, *rest = text.split(opening)  # no pattern: one that looks for the end from each beginning is quadratic
        text = " ".join([first, *(piece.partition(closing)[2] if closing in piece else piece for piece in rest)])
    return _FORMULA.sub(" ", text)


def _runs(text: str) -> Iterator[tuple[list[str], bool]]:
    """Neighbouring words of one sentence that have spaces between them, or that have none."""
    for sentence in _SENTENCE_END.split(text):
        words = _WORD.findall(sentence)
        for spaceless, run in itertools.groupby(words, lambda word: re.match(f"[{_SPACELESS}]", word) is not None):
            found = [word for word in run if spaceless or len(word) > 1]
            if found:
                yield found, spaceless


def _is(words: list[str], spaceless: bool, target: str) -> Iterator[bool]:
    """Whether each word is in the target language, seen among its neighbours."""
    around = _AROUND[spaceless]
    for place, word in enumerate(words):
        rivals = LANGUAGES.get(_script(word), ())
        if target not in rivals or len(rivals) == 1:
            yield target in rivals
            continue
        seen = words[max(0, place - around) : place + around + 1]
        likely = _likely("".join(seen) if spaceless else " ".join(seen))
        yield FAVOUR * likely[target] >= max(likely[rival] for rival in rivals)


def _script(word: str) -> str:
    return unicodedata.name(word[0], "").replace("-", " ").partition(" ")[0]


def _likely(text: str) -> dict[str, float]:
    """The probability of each language, given these words."""
    return dict(_identifier().rank(text))


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    found.set_languages(sorted(set(itertools.chain(*LANGUAGES.values()))))
    return found
