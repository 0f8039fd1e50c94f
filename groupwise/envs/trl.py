"""Classes written for TRL's `environment_factory`, played as they are."""

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from groupwise.data import Message, Question
from groupwise.envs.functions import Functions, methods_of


def is_of_trl(kind: Any) -> bool:
    """True for a class with `reset` and no `reply`: its other public methods are the tools."""
    return inspect.isclass(kind) and callable(getattr(kind, "reset", None)) and not hasattr(kind, "reply")


class OfTrl:
    """One episode of such a class.

    reset(**row) gets the question's columns; a text that it gives is put behind the last user's message. The policy
    calls the methods as tools until it answers. get_reward(), if there is one, is the environment's own reward, and
    what the instance holds in public attributes of plain values is in the outcome: reward functions get it as
    `environments`.
    """

    def __init__(self, kind: type, params: Mapping[str, Any]) -> None:
        self._instance: Any = kind(**params)
        names = methods_of(kind, ("reset", "get_reward", "close"))
        self._tools = Functions([getattr(self._instance, name) for name in names])
        self.tools = tuple(self._tools.schemas())
        self.scores = callable(getattr(kind, "get_reward", None))

    def reset(self, question: Question) -> Sequence[Message]:
        row = {name: value for name, value in question.meta.items() if not name.startswith("_")}
        row |= {"prompt": [message.as_dict() for message in question.messages], "answer": question.answer}
        said = _now(self._instance.reset(**_accepted(self._instance.reset, row)))
        if said is None:
            return question.messages
        if not isinstance(said, str):
            raise TypeError(f"reset() gives a text or None, not {type(said).__name__}")
        *before, last = question.messages
        return [*before, Message(last.role, last.content + said)]

    def reply(self, messages: Sequence[Message]) -> list[Message] | None:
        calls = messages[-1].calls
        if not calls:
            return None
        return [
            Message(
                "tool",
                f"error: the call cannot be read: {call.error}"
                if call.error
                else self._tools.call(call.name, call.arguments),
            )
            for call in calls
        ]

    def outcome(self) -> dict[str, Any]:
        plain = (bool, int, float, str, list, tuple, dict, type(None))
        held = getattr(self._instance, "__dict__", {})
        found = {name: value for name, value in held.items() if not name.startswith("_") and isinstance(value, plain)}
        if self.scores:
            found["reward"] = _now(self._instance.get_reward())
        return found

    def close(self) -> None:
        if callable(getattr(self._instance, "close", None)):
            _now(self._instance.close())


def _accepted(function: Any, row: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return row
    return {parameter.name: row[parameter.name] for parameter in parameters if parameter.name in row}


def _now(value: Any) -> Any:
    return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value


async def _awaited(value: Any) -> Any:
    return await value
