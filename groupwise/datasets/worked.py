"""Examples of arithmetic worked out in words: what a model is shown before it is to reason by itself (a cold start)."""

import random
from collections.abc import Mapping
from typing import Any

from groupwise import registry
from groupwise.data import Example
from groupwise.datasets.answered import drawn, example
from groupwise.datasets.makers import made_with
from groupwise.datasets.on_paper import REASONING
from groupwise.errors import ConfigError

FORMS = {
    "think_answer": "<think>{reasoning}</think> <answer>{answer}</answer>",
    "plain": "{reasoning} The answer is {answer}.",
}
"""How reasoning and answer stand in a completion; the last number of each is the answer."""


def examples(
    seed: int, size: int | None = None, *, questions: Mapping[str, Any], form: str = "think_answer"
) -> list[Example]:
    """Worked answers to the training questions of a section of source `arithmetic`: the steps, then the answer.

    questions: the section; what it holds out is never among the examples. form: of FORMS. size: None for every
    question. How each is put is drawn from the seed and the question. Raises ConfigError for another source, an
    unknown form, a wrong section or too few questions.
    """
    where = "examples.params"
    if form not in FORMS:
        raise ConfigError(f"{where}.form = {form!r}: no such form", hint=registry.nearest(str(form), FORMS))
    found = drawn(seed, size, questions)
    if questions["source"] != "arithmetic":
        raise ConfigError(
            f"{where}.questions.source = {questions['source']!r}: only questions of 'arithmetic' are worked out",
            hint="use 'answered' for examples of other questions",
        )
    # The section puts a system prompt and a template around the question; what is worked out is the question alone.
    in_all, params = questions.get("size"), questions.get("params", {})
    bare = made_with(registry.ENVS, "arithmetic", seed=seed, size=in_all, params=params, section=where)
    asked = {question.id: question for question in bare}
    return [example(question, _worked(seed, asked[question.id], form)) for question in found]


def _worked(seed: int, question: Any, form: str) -> str:
    draw = random.Random(f"worked {seed} {question.id}")
    reasoning = REASONING[question.meta["kind"]](draw, question.text)
    return FORMS[form].format(reasoning=reasoning, answer=question.answer)
