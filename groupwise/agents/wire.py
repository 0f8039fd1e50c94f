"""What the protocols have in common by which agents speak to a model: requests and answers in one form.

A protocol is a row of functions: a request as an `Asked`, and an `Answer` as what is sent back, whole or as the events
of a stream. Knows no tokens and no sockets.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from groupwise.contents import Place, parts_of
from groupwise.data import Image, message_of_parts
from groupwise.errors import GroupwiseError

_SENT = Place(None, remedy="send it in a data: URL")
Finish = Literal["stop", "length", "calls"]


@dataclass(frozen=True)
class Call:
    """A call of a tool. arguments: canonical JSON."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Turn:
    """A message in one form for all protocols. Two that are equal say the same."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    calls: tuple[Call, ...] = ()
    parts: tuple[str | Image, ...] = ()
    """Text and pictures in their order, as a `Message` has them; () without pictures."""


@dataclass(frozen=True)
class Asked:
    """What an agent asks. tools: JSON schemas in OpenAI's form. limit: most tokens; None: none named. stop: strings.

    unused: settings of the request that have no effect here. ids: whether the tokens are wanted too.
    """

    turns: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    limit: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    unused: tuple[str, ...] = ()
    ids: bool = False


@dataclass(frozen=True)
class Answer:
    """What the model said, taken apart. prompt_tokens, tokens: ids before it and its own."""

    content: str
    calls: tuple[Call, ...]
    finish: Finish
    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]

    @property
    def turn(self) -> Turn:
        return Turn("assistant", self.content, self.calls)


class BadRequest(Exception):
    """A request that cannot be met. code: as OpenAI names it, for agents that look."""

    def __init__(self, message: str, *, code: str = "invalid_request_error", status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


@dataclass(frozen=True)
class Protocol:
    """asked: of a request's JSON. whole, events: an answer as JSON and as a stream of (event name or "", JSON)."""

    asked: Callable[[Mapping[str, Any]], Asked]
    whole: Callable[[Answer, str, str], dict[str, Any]]
    events: Callable[[Answer, str, str], Iterator[tuple[str, dict[str, Any]]]]
    error: Callable[[str, str], dict[str, Any]]
    last: str = ""
    """What ends a stream."""


def canonical(arguments: Any) -> str:
    """A call's arguments as JSON that is the same for the same values; text that is no JSON as it is."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            return arguments
    return json.dumps(arguments, sort_keys=True, ensure_ascii=False)


def objects(body: Mapping[str, Any], key: str, *, some: bool = False) -> list[tuple[str, Mapping[str, Any]]]:
    """The objects of a list in a request, each with its place in words. some: there must be one. Raises BadRequest."""
    found = body.get(key) or []
    if not isinstance(found, list):
        raise BadRequest(f"{key} is no list")
    if some and not found:
        raise BadRequest(f"{key} is empty")
    for place, one in enumerate(found):
        if not isinstance(one, Mapping):
            raise BadRequest(f"{key}[{place}] is no object")
    return [(f"{key}[{place}]", one) for place, one in enumerate(found)]


def turn_of(role: Any, content: Any, where: str, calls: tuple[Call, ...] = ()) -> Turn:
    """A turn of a content that is a string, None, or a list of parts: text and pictures. Raises BadRequest."""
    if content is None or isinstance(content, str):
        return Turn(role, content or "", calls)
    if not isinstance(content, list):
        raise BadRequest(f"{where} is neither text nor a list of parts")
    try:
        message = message_of_parts(role, parts_of([_without_refusal(part) for part in content], where, _SENT))
    except GroupwiseError as error:
        raise BadRequest(str(error)) from None
    if role == "assistant" and message.images:
        raise BadRequest(f"{where} has a picture; the model writes text alone")
    return Turn(role, message.content, calls, message.parts)


def _without_refusal(part: Any) -> Any:
    refused = isinstance(part, Mapping) and part.get("type") == "refusal"
    return str(part.get("refusal", "")) if refused else part


def role_of(role: Any, where: str) -> Any:
    known = {"developer": "system", "function": "tool"}
    found = known.get(role, role)
    if found not in ("system", "user", "assistant", "tool"):
        raise BadRequest(f"{where}.role = {role!r}: no such role")
    return found


def stops_of(value: Any) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else list(value or [])
    if not all(isinstance(one, str) and one for one in found):
        raise BadRequest(f"stop = {value!r}: no texts")
    return tuple(found)


def limit_of(*values: Any) -> int | None:
    given = [value for value in values if value is not None]
    if any(isinstance(value, bool) or not isinstance(value, int) or value < 1 for value in given):
        raise BadRequest(f"a limit of {given!r} tokens")
    return min(given, default=None)


def refuse(body: Mapping[str, Any], settings: Mapping[str, Sequence[Any]]) -> None:
    """Raises BadRequest for a setting whose value would change the answer in a way that is not offered."""
    for name, allowed in settings.items():
        if body.get(name) is not None and body[name] not in allowed:
            raise BadRequest(f"{name} = {json.dumps(body[name])[:80]} is not offered here; leave it out")


def unused_of(body: Mapping[str, Any], read: set[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in body if name not in read and body[name] is not None))


def chosen_tools(body: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    choice = body.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, Mapping) else choice
    if kind not in (None, "auto", "none"):
        raise BadRequest(f"tool_choice = {json.dumps(choice)[:80]}: the model chooses by itself; give auto or none")
    return () if kind == "none" else tuple(tools)


def function_of(function: Any, where: str) -> dict[str, Any]:
    """A tool of a request in OpenAI's form. Raises BadRequest for what is no function with a name."""
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadRequest(f"{where} is no function with a name")
    return {"type": "function", "function": {key: value for key, value in function.items() if key != "strict"}}


def openai_error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
