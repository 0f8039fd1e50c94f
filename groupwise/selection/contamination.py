"""Questions that are held out found again in what would be learned, by their words. Knows texts, no files.

As in GPT-3's paper (arXiv:2005.14165, appendix C): n words in a row that two texts share, 13 as a rule, and words in a
row that more than ten documents share are everybody's: the wording of a task, not the question.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from groupwise.data import IMAGE, Message
from groupwise.selection.markup import unmarked
from groupwise.selection.words import ngrams
from groupwise.selection.words import words as words_of

COMMON = 10
"""Documents that may share some words before these count as the wording of a task."""
INSIDE = 4
"""Words that a question must have to be looked for inside a message; a shorter one must be the whole message."""


@dataclass(frozen=True)
class Heldout:
    """Held-out questions by their words, each with a name in words. n: words in a row that are too many.

    grams: n words in a row -> names of the questions that have them. wholes: by their number of words, questions of
    fewer -> names. common: n words in a row that are no sign. texts: of each name all the words.
    """

    n: int
    grams: dict[str, list[str]]
    wholes: dict[int, dict[str, str]]
    common: frozenset[str]
    texts: dict[str, str]

    def question_in(self, messages: Iterable[str]) -> str | None:
        """Name of a held-out question that one of the messages shares words with; None: they share too few."""
        return next((found for text in messages if (found := self._in(words(text))) is not None), None)

    def _in(self, tokens: Sequence[str]) -> str | None:
        for length, wholes in self.wholes.items():
            for whole in ngrams(tokens, length) if length >= INSIDE or length == len(tokens) else ():
                if whole in wholes:
                    return wholes[whole]
        every = f" {' '.join(tokens)} "
        for gram in ngrams(tokens, self.n):
            for question in self.grams.get(gram, ()):
                if gram not in self.common or f" {self.texts[question]} " in every:
                    return question
        return None


def held_out(questions: Mapping[str, str], *, n: int, documents: Iterable[Sequence[str]]) -> Heldout:
    """Held-out questions, by name what each asks, without a recipe's template around it.

    documents: what may be learned, each as its messages; words in a row that many of them share are no sign.
    """
    texts = {name: words(text) for name, text in questions.items()}
    grams: dict[str, list[str]] = {}
    wholes: dict[int, dict[str, str]] = {}
    for key, tokens in texts.items():
        if 0 < len(tokens) < n:
            wholes.setdefault(len(tokens), {}).setdefault(" ".join(tokens), key)
        for gram in dict.fromkeys(ngrams(tokens, n)):
            grams.setdefault(gram, []).append(key)
    counts = Counter(
        gram
        for document in (_distinct(documents) if grams else ())
        for gram in {gram for text in document for gram in ngrams(words(text), n)}
        if gram in grams
    )
    common = frozenset(gram for gram, count in counts.items() if count > COMMON)
    return Heldout(n, grams, wholes, common, {key: " ".join(tokens) for key, tokens in texts.items()})


def _distinct(documents: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
    """The documents, none twice; of each a hash is kept, not its text."""
    seen: set[bytes] = set()
    for document in documents:
        mark = hashlib.blake2b(repr(tuple(document)).encode(), digest_size=16).digest()
        if mark not in seen:
            seen.add(mark)
            yield document


def words(text: str) -> list[str]:
    """The words of a text, however it is laid out."""
    return words_of(unmarked(text))


def asked(messages: Sequence[Message]) -> str:
    """What is asked last: the turns before it, worked examples for one, are every question's."""
    return next((_text(message) for message in reversed(messages) if message.role == "user"), "")


def contents(messages: Iterable[Message]) -> list[str]:
    """The texts in which a question is looked for: a system prompt is no question."""
    return [_text(message) for message in messages if message.role != "system"]


def _text(message: Message) -> str:
    """A turn's text; of one with pictures every word is marked by them: other pictures make it another question."""
    if not message.images:
        return message.content
    seen = "".join(image.digest for image in message.images)
    mark = hashlib.blake2b(seen.encode(), digest_size=4).hexdigest()
    return " ".join(f"{mark}{word}" for word in message.content.replace(IMAGE, " ").split())
