"""Cells of a row as turns of a conversation, in an order that a policy can learn from. Knows no kind of example."""

from typing import Any

from groupwise.data import Message, Role
from groupwise.envs.dataset import conversation, encodable
from groupwise.envs.files import Row, excerpt
from groupwise.errors import DataError

_ROLE, _CONTENT = "from", "value"  # as ShareGPT calls them
_SHAREGPT: dict[str, Role] = {"human": "user", "gpt": "assistant", "system": "system", "tool": "tool"}
_UNREAD = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking")
_MAY_FOLLOW: dict[Role | None, tuple[Role, ...]] = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}


def complete(row: Row, columns: tuple[str, ...]) -> Row:
    """The row. Raises DataError if it has nothing in one of the columns."""
    missing = [name for name in columns if row.cells.get(name) is None]
    if missing:
        there = [name for name, cell in row.cells.items() if cell is not None]
        raise DataError(
            f"{row.where}: no {missing[0]!r}; columns: {', '.join(there) or 'none'}",
            hint="all rows of a file are of one kind: fill it in, or put the row into a file of its kind",
        )
    return row


def said(role: Role, cell: Any, place: str) -> tuple[Message, ...]:
    """A cell as messages: a string is one turn of that role."""
    return (Message(role, filled(cell, place)),) if isinstance(cell, str) else messages_of(cell, place)


def filled(cell: Any, place: str) -> str:
    """A cell with text in it."""
    if not isinstance(cell, str):
        raise DataError(f"{place} = {excerpt(cell)} is {type(cell).__name__}", hint="give a string")
    if not cell.strip():
        raise DataError(f"{place} = {excerpt(cell)} is empty", hint="drop the row or fill it in")
    return encodable(cell, place)


def messages_of(cell: Any, place: str) -> tuple[Message, ...]:
    """Messages with role and content, or with ShareGPT's from and value."""
    turns = cell if isinstance(cell, list) else []
    for index, turn in enumerate(turns):
        unread = [key for key in _UNREAD if turn.get(key)] if isinstance(turn, dict) else []
        if unread:
            raise DataError(
                f"{place}[{index}].{unread[0]} = {excerpt(turn[unread[0]])}: not read",
                hint="write it into the content, as the model is to write it",
            )
    if turns and isinstance(turns[0], dict) and _ROLE in turns[0] and "role" not in turns[0]:
        return conversation(cell, place, keys=(_ROLE, _CONTENT), roles=_SHAREGPT)
    return conversation(cell, place)


def in_order(messages: tuple[Message, ...], place: str) -> tuple[Message, ...]:
    """The messages. Raises DataError if one cannot follow the one before, says nothing, or none answers the last."""
    before: Role | None = None
    for number, message in enumerate(messages, 1):
        if message.role not in _MAY_FOLLOW[before]:
            after = "at the start" if before is None else f"behind a turn of role {before!r}"
            raise DataError(
                f"{place}: turn {number} of role {message.role!r} {after}: {excerpt(message.content)}",
                hint=f"what may stand there: {', '.join(_MAY_FOLLOW[before])}",
            )
        if message.role == "assistant" and not message.content.strip():
            raise DataError(
                f"{place}: turn {number}, the assistant's, is empty: {message.content!r}", hint="drop it or fill it in"
            )
        before = message.role
    if before != "assistant":
        last = messages[-1]
        answered = any(message.role == "assistant" for message in messages)
        what = f"ends with a turn of role {last.role!r}" if answered else "has no assistant turn"
        raise DataError(
            f"{place} {what}: {excerpt(last.content)}", hint="end with what the assistant is to say, or drop the row"
        )
    return messages
