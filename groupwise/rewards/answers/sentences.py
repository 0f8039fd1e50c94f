"""The answer in a sentence that marks none: behind "the answer is", else the last formula, time, ratio or number."""

import re
from collections.abc import Iterator

from groupwise.rewards.answers.read import LONGEST, Answer, Several, Words, read
from groupwise.rewards.answers.spelling import UNSPACED, plain, ungrouped
from groupwise.rewards.answers.words import choice

_PHRASE = re.compile(
    r"(?:\banswers?\b[^.\n:=]{0,40}?(?:\b(?:is|are|be|equals?)\b|[:=])"
    r"|【答案】|答案(?:应该|应|就|选)?(?:是|为|等于|[:=])|(?:^|\n)\s*答\s*:|选[择项]?(?=\s*\(?[A-J])|答え(?:は|:)|(?:정답|답)(?:은|는|:))"
    r"\s*:?\s*",
    re.IGNORECASE,
)
_CHOSEN = re.compile(
    r"(?:\b(?i:choose|pick|select|choice\s+is|option\s+is|it'?s|it\s+is)|正确的(?:选项)?[是为])(?=\W*[A-J](?![a-zA-Z]))"
)
_IS = re.compile(r"\b(?:is|are|equals?|gives?|becomes?)\b(?!\s+not\b)\s*:?|(?<!\d):|=|(?<!不)(?:等于|是|为)")
_END = re.compile(r"\n|(?<!\b[a-zA-Z])[.!?](?=\s|$)|\.$|(?<=。)")
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]|\*\*([^*\n]+)\*\*", re.DOTALL)
_SPAN = (
    r"\\[dtc]?frac\s*\{[^{}]*\}\s*\{[^{}]*\}|\d{1,2}:\d\d(?::\d\d)?(?:\s*[ap]\.?m\b\.?)?|\d{1,2}\s?[时時点點시]\s?(?:\d{1,2}\s?[分분]|半|반)|\d+\s*:\s*\d+"
    r"|(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?\s*/\s*\d+(?![\d.]*\d)|\d+\s+\d+/\d+"
    r"|(?:\d{1,3}(?:,\d{3})+(?![\d])|\d+)?\.?\d+(?:[eE][-+]?\d+)?"
)
_VALUE = re.compile(
    rf"(?<![^\W{UNSPACED}])(?<![.)\d])(?P<sign>(?<![\d)])[-+])?\s?[$¥€£₹]?(?<!\d)(?P<span>{_SPAN})"
    rf"(?P<unit>\s*(?:\\?%|°(?:[CF]\b)?|\\text\{{[^{{}}]*\}}(?:\^\{{?[23]\}}?)?|[a-zA-Z]+(?:/[a-zA-Z]+)?(?:\^\{{?[23]\}}?)?\b))?"
)


DENIED = re.compile(r"(?:\bnot|n't|不是|不等于|不为|并非)\s*\Z")
"""How a text ends in front of what it says the answer is not."""


def candidates(text: str) -> Iterator[str]:
    """What a text that marks no answer may give as one, the likeliest first: all of it; what stands behind `the answer
    is`, or behind the last `is` of its last sentence; its last formula or value. The first that can be read decides."""
    text = text[-LONGEST:]
    yield text
    respelled = ungrouped(plain(text))
    phrases = list(_PHRASE.finditer(respelled))
    if phrases:
        yield from _of_sentence(respelled[phrases[-1].end() :])
    sentences = [some for some in _END.split(respelled) if some.strip()]
    found = list(_IS.finditer(sentences[-1])) if sentences else []
    if found:
        yield _without_marks(sentences[-1][found[-1].end() :])
    yield from _last(respelled)


def decisive(text: str) -> str | None:
    """The first candidate that is more than words."""
    return next((some for some in candidates(text) if not is_prose(read(some))), None)


def is_prose(answer: Answer) -> bool:
    """Whether it is words, or a list in which some are: a sentence, as far as its commas tell."""
    if isinstance(answer, Several) and not answer.opening:
        return any(map(is_prose, answer.items))
    return isinstance(answer, Words)


def stated(text: str) -> Iterator[str]:
    """All of the text, and what stands behind its last phrase such as `the answer is`: where words may be an answer."""
    yield text[-LONGEST:]
    respelled = ungrouped(plain(text[-LONGEST:]))
    phrases = list(_PHRASE.finditer(respelled)) or list(_CHOSEN.finditer(respelled))
    if phrases:
        rest = respelled[phrases[-1].end() :]
        yield rest
        yield _END.split(rest)[0]
        if (found := choice(rest.lstrip(" *"))) is not None:
            yield found[0]
    elif letters := re.findall(r"\(([A-J])\)", respelled):
        yield letters[-1]


def _of_sentence(rest: str) -> Iterator[str]:
    sentence = _END.split(rest)[0]
    yield sentence
    yield _without_marks(sentence)
    first = min(
        (found for pattern in (_FORMULA, _VALUE) if (found := pattern.search(sentence))),
        key=lambda found: found.start(),
        default=None,
    )
    if first:
        yield _content(first)


def _last(text: str) -> Iterator[str]:
    formulas = list(_FORMULA.finditer(text))
    inside = [range(found.start(), found.end()) for found in formulas]
    values = [found for found in _VALUE.finditer(text) if not any(found.start("span") in some for some in inside)]
    if values and DENIED.search(text, 0, values[-1].start()):
        return
    for found in sorted([*formulas[-3:], *values[-1:]], key=lambda found: found.end(), reverse=True):
        yield _content(found)


def _content(found: "re.Match[str]") -> str:
    if found.re is _FORMULA:
        return next(group for group in found.groups() if group is not None)
    return found.group()


def _without_marks(text: str) -> str:
    return re.sub(r"\*\*|(?<!\\)\$", "", text)
