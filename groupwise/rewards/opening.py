"""What functions see of an output beside its text: what the prompt has already said for the policy, and its turns.

Templates of reasoning models end their prompt with <think>, so that an output begins inside the tag.
"""

from collections.abc import Sequence
from dataclasses import replace

from groupwise.data import Message, Output, Question

_KEY, _EPISODE = "_opening", "_episode"


def as_asked(questions: Sequence[Question], outputs: Sequence[Output]) -> list[Question]:
    """The question of each output, with what the template's prompt ended with, and the turns of its episode.

    Nothing for a turn that the question begins: functions see that as a part of the answer's text.
    """
    found: dict[tuple[int, str, tuple[Message, ...]], Question] = {}
    for question, output in zip(questions, outputs, strict=True):
        key = id(question), output.opening, output.messages
        if key not in found:
            begun = "" if question.prompt != question.messages or output.messages else output.opening
            more = {_KEY: begun, _EPISODE: output.messages}
            more = {name: value for name, value in more.items() if value}
            found[key] = replace(question, meta={**question.meta, **more}) if more else question
    return [found[id(q), output.opening, output.messages] for q, output in zip(questions, outputs, strict=True)]


def opening_of(question: Question) -> str:
    """What an output to this question continues; mostly nothing."""
    return str(question.meta.get(_KEY, ""))


def episode_of(question: Question, text: str) -> tuple[Message, ...]:
    """The turns after the question, the environment's among them; of an output of one turn that one."""
    turns: tuple[Message, ...] = question.meta.get(_EPISODE, ())
    return turns or (Message("assistant", text),)
