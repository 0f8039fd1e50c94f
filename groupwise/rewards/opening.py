"""What the prompt has already said for the policy, as rewards of the form of an output see it.

Templates of reasoning models end their prompt with <think>, so that an output begins inside the tag.
"""

from collections.abc import Sequence
from dataclasses import replace

from groupwise.data import Output, Question

_KEY = "_opening"


def as_asked(questions: Sequence[Question], outputs: Sequence[Output]) -> list[Question]:
    """The question of each output, with what the template's prompt ended with.

    Nothing for a turn that the question begins: functions see that as a part of the answer's text.
    """
    found: dict[tuple[int, str], Question] = {}
    for question, output in zip(questions, outputs, strict=True):
        key = id(question), output.opening
        if key not in found:
            begun = "" if question.prompt != question.messages else output.opening
            found[key] = replace(question, meta={**question.meta, _KEY: begun}) if begun else question
    return [found[id(question), output.opening] for question, output in zip(questions, outputs, strict=True)]


def opening_of(question: Question) -> str:
    """What an output to this question continues; mostly nothing."""
    return str(question.meta.get(_KEY, ""))
