"""What functions see of an output beside its text: what the prompt has already said for the policy, and its turns.

Templates of reasoning models end their prompt with <think>, so that an output begins inside the tag.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from groupwise.data import Message, Output, Question

OWN = _KEY, _EPISODE, _OUTCOME = "_opening", "_episode", "_outcome"
"""Keys of a question's meta under which functions find these."""


def as_asked(questions: Sequence[Question], outputs: Sequence[Output]) -> list[Question]:
    """The question of each output, with what the template's prompt ended with, the turns of its episode and its
    outcome.

    Nothing for a turn that the question begins: functions see that as a part of the answer's text.
    """
    found: dict[tuple[int, str, int], Question] = {}  # outputs of one turn have a question's object in common
    asked = []
    for question, output in zip(questions, outputs, strict=True):
        key = id(question), output.opening, id(output) if output.messages or output.outcome else 0
        if key not in found:
            begun = "" if question.prompt != question.messages or output.messages else output.opening
            more = {_KEY: begun, _EPISODE: output.messages, _OUTCOME: output.outcome}
            more = {name: value for name, value in more.items() if value}
            found[key] = replace(question, meta={**question.meta, **more}) if more else question
        asked.append(found[key])
    return asked


def opening_of(question: Question) -> str:
    """What an output to this question continues; mostly nothing."""
    return str(question.meta.get(_KEY, ""))


def episode_of(question: Question, text: str) -> tuple[Message, ...]:
    """The turns after the question, the environment's among them; of an output of one turn that one."""
    turns: tuple[Message, ...] = question.meta.get(_EPISODE, ())
    return turns or (Message("assistant", text),)


def outcome_of(question: Question) -> Mapping[str, Any]:
    """What the environment said of the episode; {}: nothing."""
    found: Mapping[str, Any] = question.meta.get(_OUTCOME, {})
    return found
