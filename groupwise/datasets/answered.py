"""Examples from questions that have answers: the question, and its answer as it is. Reasons about nothing."""

from collections.abc import Mapping
from typing import Any

from groupwise.data import Example, Message, Question
from groupwise.datasets.inner import load_section, section
from groupwise.errors import ConfigError, DataError

_WHERE = "examples.params"


def examples(
    seed: int, size: int | None = None, *, questions: Mapping[str, Any], completion: str = "{answer}"
) -> list[Example]:
    """The training questions of any section, with their answers to learn.

    questions: a section as the recipe's own; what it holds out is never among the examples. completion: text around the
    answer, with {answer} where it goes. size: None for every question. Raises ConfigError for a wrong section or too
    few questions, DataError for a question without an answer.
    """
    if not isinstance(completion, str) or "{answer}" not in completion:
        raise ConfigError(
            f"{_WHERE}.completion = {completion!r}: no {{answer}} in it, so every completion would be the same",
            hint="put {answer} where the answer goes",
        )
    found = drawn(seed, size, questions)
    for question in found:
        if question.answer is None or not str(question.answer).strip():
            raise DataError(f"{_WHERE}.questions: question {question.id!r} has no answer", hint="choose another source")
    return [example(question, completion.replace("{answer}", str(question.answer))) for question in found]


def drawn(seed: int, size: int | None, questions: Any) -> list[Question]:
    """The first `size` (None: all) training questions of the section at `examples.params.questions`."""
    where = f"{_WHERE}.questions"
    found = load_section(section(questions, where=where), seed, where=where).train
    if size is not None and size > len(found):
        raise ConfigError(
            f"examples.size = {size}: {where} has {len(found)} training questions",
            hint=f"ask for {len(found)} or fewer, or set a larger {where}.size",
        )
    return list(found[:size])


def example(question: Question, completion: str) -> Example:
    """A question and what is learned as its answer."""
    messages = (*question.messages, Message("assistant", completion))
    return Example(f"question {question.id!r}", messages, prompt_messages=len(question.messages))
