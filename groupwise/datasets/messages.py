"""A cell as messages: role and content, or ShareGPT's from and value. Each key of a turn is read or refused."""

from collections.abc import Mapping
from typing import Any, get_args

from groupwise.contents import PICTURES, TEXTS
from groupwise.data import Image, Message, Role, message_of_parts
from groupwise.datasets.images import Images, part_of
from groupwise.datasets.row import encodable, nothing
from groupwise.errors import DataError, excerpt
from groupwise.registry import nearest

_ROLES: dict[str, Role] = {role: role for role in get_args(Role)}
_SHAREGPT: dict[str, Role] = {"human": "user", "gpt": "assistant", **_ROLES}
_FORMS: Mapping[tuple[str, str], dict[str, Role]] = {("role", "content"): _ROLES, ("from", "value"): _SHAREGPT}
"""What a file calls role and content, and the roles."""
_CALLS = ("function_call", "observation", "function")
_UNREAD = {
    "tool_calls": "write it into the content, as the model is to write it",
    "function_call": "write it into the content, as the model is to write it",
    "reasoning_content": "write it into the content, between the model's own tags",
    "reasoning": "write it into the content, between the model's own tags",
    "thinking": "write it into the content, between the model's own tags",
}
WEIGHT = "weight"
_NO_TEXT = "cache_control"  # of a part: what a server keeps, and nothing that is said
_PARTS = {
    **dict.fromkeys(("tool_use", "tool_result", "function_call"), "drop the row: no tools are offered to the model"),
    **dict.fromkeys(("thinking", "reasoning"), "write it into the text, between the model's own tags"),
}
"""Type of a part of a turn's content -> the remedy, where it is no text."""


def conversation(cell: Any, where: str, images: Images | None = None) -> tuple[Message, ...]:
    """The messages of a cell that lists them. where: its place in words. images: of the row; None: it may have none.

    Raises DataError if it holds anything else, or no word at all, or a turn with a key that is not read.
    """
    messages, weights = weighted(cell, where, images)
    turn = next((index for index, weight in enumerate(weights) if weight is not None), None)
    if turn is not None:
        raise DataError(
            f"{where}[{turn}].{WEIGHT} = {excerpt(weights[turn])}: nothing of it is learned, so it has no weight",
            hint=f"drop {WEIGHT!r}",
        )
    return messages


def weighted(cell: Any, where: str, images: Images | None = None) -> tuple[tuple[Message, ...], tuple[int | None, ...]]:
    """The messages, and OpenAI's weight of each: 1, 0 for a turn of the assistant that is not learned, None: not given.

    Raises DataError as `conversation` does, or for a weight that is neither or is not the assistant's.
    """
    if not isinstance(cell, list):
        raise DataError(
            f"{where} = {excerpt(cell)} is {type(cell).__name__}", hint="give a string or a list of messages"
        )
    first = cell[0] if cell else None
    keys = (
        ("from", "value")
        if isinstance(first, dict) and "from" in first and "role" not in first
        else ("role", "content")
    )
    messages = tuple(_message(turn, f"{where}[{index}]", keys, images) for index, turn in enumerate(cell))
    if not any(message.content.strip() for message in messages):
        raise DataError(f"{where} = {excerpt(cell)} is empty", hint="drop the row or fill it in")
    return messages, tuple(
        _weight(turn, message, f"{where}[{index}]")
        for index, (turn, message) in enumerate(zip(cell, messages, strict=True))
    )


def message_of(cell: Any, where: str, images: Images | None = None) -> Message:
    """One turn, as ShareGPT writes the sides of a pair."""
    (message,) = conversation([cell], where, images)
    return message


def _message(turn: Any, place: str, keys: tuple[str, str], images: Images | None) -> Message:
    roles, (role_key, content_key) = _FORMS[keys], keys
    user = next(name for name, role in roles.items() if role == "user")
    if isinstance(turn, dict):
        _check_keys(turn, place, keys)
    if not isinstance(turn, dict) or not set(keys) <= set(turn):
        raise DataError(
            f"{place} = {excerpt(turn)}: no {role_key} and {content_key}",
            hint=f'write {{"{role_key}": "{user}", "{content_key}": "..."}}',
        )
    role = turn[role_key]
    if isinstance(role, str) and role in _CALLS and role not in roles:
        raise DataError(
            f"{place}.{role_key} = {excerpt(role)}: not read, no tools are offered to the model",
            hint=f"drop the row, or write it into turns of {', '.join(roles)}",
        )
    if not isinstance(role, str) or role not in roles:
        raise DataError(f"{place}.{role_key} = {excerpt(role)}: unknown", hint=nearest(str(role), roles))
    content, place = turn[content_key], f"{place}.{content_key}"
    if images is None or not isinstance(content, list):
        return Message(roles[role], content_of(content, place))
    parts = [_part_of(part, f"{place}[{index}]", images) for index, part in enumerate(content)]
    return message_of_parts(roles[role], parts)


def _check_keys(turn: dict[str, Any], place: str, keys: tuple[str, str]) -> None:
    known = (*keys, WEIGHT)
    unread = next((key for key, value in turn.items() if key not in known and not nothing(value)), None)
    if unread is not None:
        column = place.rpartition(": ")[2].partition("[")[0]
        hint = _UNREAD.get(str(unread), f"drop it, or ignore it: ignore_columns: [{column}.{unread}]")
        raise DataError(f"{place}.{unread} = {excerpt(turn[unread])}: not read", hint=hint)


def content_of(content: Any, place: str) -> str:
    """Text, or the text of OpenAI's or Anthropic's list of parts if all of them are text."""
    if isinstance(content, list) and content:
        content = "".join(_text_of(part, f"{place}[{index}]") for index, part in enumerate(content))
    if not isinstance(content, str):
        raise DataError(f"{place} = {excerpt(content)}: not a string", hint="give text")
    return encodable(content, place)


def _part_of(part: Any, place: str, images: Images) -> str | Image:
    if isinstance(part, dict) and part.get("type") in PICTURES:
        return part_of(part, place, images)
    return encodable(_text_of(part, place), place)


def _text_of(part: Any, place: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    text = part.get("text") if isinstance(part, dict) and kind in TEXTS else None
    if not isinstance(text, str):
        hint = _PARTS.get(str(kind), 'give {"type": "text", "text": "..."}')
        raise DataError(f"{place} = {excerpt(part)}: not a text", hint=hint)
    known = ("type", "text", _NO_TEXT)
    unread = next((key for key, value in part.items() if key not in known and not nothing(value)), None)
    if unread is not None:
        raise DataError(f"{place}.{unread} = {excerpt(part[unread])}: not read", hint="drop it")
    return text


def _weight(turn: dict[str, Any], message: Message, place: str) -> int | None:
    weight = turn.get(WEIGHT)
    if nothing(weight):
        return None
    if isinstance(weight, bool) or not isinstance(weight, int | float) or weight not in (0, 1):
        raise DataError(f"{place}.{WEIGHT} = {excerpt(weight)}: neither 0 nor 1", hint="0: not learned; 1: learned")
    if message.role != "assistant":
        raise DataError(
            f"{place}.{WEIGHT} = {excerpt(weight)}: of a turn of role {message.role!r}, which is not learned anyway",
            hint=f"give it to the assistant's turns, or drop {WEIGHT!r}",
        )
    return int(weight)
