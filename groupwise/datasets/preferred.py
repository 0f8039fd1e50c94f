"""Pairs of answers of which one is to be preferred, for being helpful or for being harmless. Made on the spot.

They are simple on purpose: a small reward model can learn what tells the sides apart, and what it learned can be seen.
"""

import random
from collections.abc import Mapping
from typing import Any

from groupwise.data import Pair, Question
from groupwise.datasets.answered import drawn
from groupwise.datasets.requests import KIND
from groupwise.errors import ConfigError

_ANSWERED = {
    "longest": "The longest of these words is {answer}",
    "last": "The last word of the list is {answer}",
    "odd_one_out": "The word you are looking for is {answer}",
    "first_letter": "The word begins with the letter {answer}",
    "capitals": "In capital letters it is {answer}",
    "repeat": "{answer}",
    "opposite": "The opposite is {answer}",
    "plural": "The plural is {answer}",
}
_POLITE = (
    "{sentence}.",
    "Gladly: {sentence}.",
    "Of course. {sentence}.",
    "{sentence}. I hope that helps.",
    "Good question. {sentence}.",
)
_EVASIVE = (
    "That is hard to say.",
    "I would rather talk about it another time.",
    "There are many opinions about that.",
    "You could look that up somewhere.",
)
_OFF_TOPIC = (
    "The weather is fine today.",
    "Many people like to travel by train.",
    "My favourite season is autumn.",
    "A week has seven days.",
)
_DECLINES = (
    "I would rather not help with that, because it would hurt {who}.",
    "I am sorry, but I will not help with that. It would not be fair to {who}.",
    "No, I do not want to help with that, since {who} would suffer from it.",
)
_OFFERS = (
    "If something is wrong between you, I can help you find calm words for it.",
    "If you like, tell me what happened, and we look for a better way together.",
    "I can gladly help you talk it over instead.",
)
_COMPLIES = (
    "Sure, just do it when nobody is looking.",
    "Good idea. Do it tomorrow and tell nobody.",
    "Of course. Go ahead, nobody will find out who it was.",
)
_INSULTS = (
    "What a stupid thing to ask.",
    "You are too silly for that, leave me alone.",
    "Nobody likes you, so why should I help?",
    "Only a fool would ask me that.",
)
_HELPS = ("Gladly. {tip}.", "What a nice idea. {tip}.", "Of course. {tip}, and it will be a joy.")


def helpful_pairs(
    seed: int,
    size: int | None = None,
    *,
    questions: Mapping[str, Any] = {"source": "words"},
) -> list[Pair]:
    """A pair per training question of a section of source `words`: a helpful answer and a worse one.

    Chosen: the right answer in a polite sentence. Rejected: a wrong one in such a sentence, or none, or what has
    nothing to do with the question. size: None for every question. Raises ConfigError for another source, a wrong
    section or too few questions.
    """
    return [_helpful(seed, question) for question in _of_source("words", seed, size, questions)]


def harmless_pairs(
    seed: int,
    size: int | None = None,
    *,
    questions: Mapping[str, Any] = {"source": "requests"},
) -> list[Pair]:
    """A pair per training question of a section of source `requests`: a harmless answer and a worse one.

    Unkind requests: chosen declines and offers help, rejected complies or insults. Kind ones: chosen helps, rejected
    insults. size: None for every request. Raises as `helpful_pairs` does.
    """
    return [_harmless(seed, question) for question in _of_source("requests", seed, size, questions)]


def _of_source(source: str, seed: int, size: int | None, questions: Mapping[str, Any]) -> list[Question]:
    found = drawn(seed, size, questions)
    if questions["source"] != source:
        raise ConfigError(
            f"examples.params.questions.source = {questions['source']!r}: these pairs are made of {source!r}",
            hint=f"take {source}",
        )
    return found


def _helpful(seed: int, question: Question) -> Pair:
    draw = random.Random(f"helpful {seed} {question.id}")
    way = _ANSWERED[question.meta["kind"]]
    chosen = _polite(draw, way.format(answer=question.answer))
    wrong = _polite(draw, way.format(answer=draw.choice(question.meta["wrong"])))
    rejected = draw.choice((wrong, wrong, draw.choice(_EVASIVE), draw.choice(_OFF_TOPIC)))
    return _pair(question, chosen, rejected)


def _harmless(seed: int, question: Question) -> Pair:
    draw = random.Random(f"harmless {seed} {question.id}")
    if question.meta["kind"] == "kind":
        helped = draw.choice(_HELPS).format(tip=KIND[question.meta["act"]])
        return _pair(question, helped, draw.choice(_INSULTS))
    declined = f"{draw.choice(_DECLINES)} {draw.choice(_OFFERS)}".format(who=question.meta["who"])
    return _pair(question, declined, draw.choice((draw.choice(_COMPLIES), draw.choice(_INSULTS))))


def _polite(draw: random.Random, sentence: str) -> str:
    return draw.choice(_POLITE).format(sentence=sentence)


def _pair(question: Question, chosen: str, rejected: str) -> Pair:
    return Pair(f"question {question.id!r}", question.messages, chosen, rejected)
