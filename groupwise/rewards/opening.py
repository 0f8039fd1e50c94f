"""What the prompt has already said for the policy, as rewards of the form of an output see it.

Templates of reasoning models end their prompt with <think>, so that an output begins inside the tag.
"""

from collections.abc import Sequence
from dataclasses import replace

from groupwise.data import Output, Question

_KEY = "_opening"


def as_asked(questions: Sequence[Question], outputs: Sequence[Output]) -> list[Question]:
    """The question of each output, with what its prompt ended with: the template's opening, or a turn begun for it."""
    found: dict[tuple[int, str], Question] = {}
    for question, output in zip(questions, outputs, strict=True):
        key = id(question), output.opening
        if key not in found:
            last = question.messages[-1] if question.messages else None
            begun = last.content if last is not None and last.role == "assistant" else output.opening
            found[key] = replace(question, meta={**question.meta, _KEY: begun}) if begun else question
    return [found[id(question), output.opening] for question, output in zip(questions, outputs, strict=True)]


def opening_of(question: Question) -> str:
    """What an output to this question continues; mostly nothing."""
    return str(question.meta.get(_KEY, ""))
