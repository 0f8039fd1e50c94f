"""Examples for supervised fine-tuning from rows, by the column names of TRL, ShareGPT and Alpaca. Knows no tokens."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from groupwise.data import Example, Message, Role
from groupwise.envs.dataset import conversation, encodable
from groupwise.envs.files import EXAMPLES, Row, excerpt, rows
from groupwise.errors import DataError
from groupwise.registry import nearest

CONVERSATION_COLUMNS = ("messages", "conversations")
PAIR_COLUMNS = (("prompt", "completion"), ("prompt", "response"), ("instruction", "output"))
TEXT_COLUMN = "text"
_KINDS = (*((name,) for name in CONVERSATION_COLUMNS), *PAIR_COLUMNS, (TEXT_COLUMN,))  # the first that is there counts
_INPUT = "input"  # Alpaca keeps what the instruction is about in a column of its own
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


def read_examples(path: Path, limit: int | None = None) -> list[Example]:
    """The first `limit` (None: all) examples of a file or a `datasets` folder, all of one kind, told by its columns.

    messages or conversations: a conversation. prompt and completion or response, instruction (and input) and output:
    a prompt, which is read only, and what is learned as its answer; each a string or a list of messages. text: a plain
    text. Raises DataError naming the file, the row, the value and the remedy.
    """
    found = rows(path, limit, wanted=EXAMPLES)
    columns = _columns(path, list(dict.fromkeys(name for row in found for name in row.cells)))
    if columns == (TEXT_COLUMN,):
        read: Callable[[Row, tuple[str, ...]], Example] = _text
    else:
        read = _conversation if len(columns) == 1 else _pair
    return [read(_complete(row, columns), columns) for row in found]


def _columns(path: Path, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that make the file's kind of example."""
    for names in _KINDS:
        if set(names) <= set(columns):
            return names
    known = ", ".join(" and ".join(names) for names in _KINDS)
    hint = "name the columns so" if columns else "every row needs them"
    missing = [name for names in _KINDS for name in names]
    unknown = [name for name in columns if name not in missing]
    halves = [(own, other) for pair in PAIR_COLUMNS for own, other in (pair, pair[::-1]) if own in columns]
    if halves:
        hint = f"{halves[0][0]!r} needs {halves[0][1]!r} beside it"
        missing = [other for _, other in halves]
    near = next((text for name in missing if "did you mean" in (text := nearest(name, unknown))), "")
    raise DataError(
        f"{path}: no columns {known}; columns: {', '.join(columns) or 'none'}",
        hint=f"{hint}{'; ' + near if near else ''}",
    )


def _complete(row: Row, columns: tuple[str, ...]) -> Row:
    missing = [name for name in columns if row.cells.get(name) is None]
    if missing:
        there = [name for name, cell in row.cells.items() if cell is not None]
        raise DataError(
            f"{row.where}: no {missing[0]!r}; columns: {', '.join(there) or 'none'}",
            hint="all rows of a file are of one kind: fill it in, or put the row into a file of its kind",
        )
    return row


def _text(row: Row, columns: tuple[str, ...]) -> Example:
    place = f"{row.where}: {columns[0]}"
    return Example(row.where, text=_filled(row.cells[columns[0]], place))


def _conversation(row: Row, columns: tuple[str, ...]) -> Example:
    cell, place = row.cells[columns[0]], f"{row.where}: {columns[0]}"
    if not isinstance(cell, list):
        raise DataError(
            f"{place} = {excerpt(cell)} is {type(cell).__name__}", hint="give a list of messages, which CSV has none of"
        )
    return Example(row.where, _in_order(_messages(cell, place), place))


def _pair(row: Row, columns: tuple[str, ...]) -> Example:
    first, second = columns
    asked, answer = row.cells[first], row.cells[second]
    if isinstance(asked, str):
        _filled(asked, f"{row.where}: {first}")
        about = row.cells.get(_INPUT) if first == "instruction" else None
        if str(about or "").strip():
            asked = f"{asked}\n\n{_filled(about, f'{row.where}: {_INPUT}')}"
    prompt = _said("user", asked, f"{row.where}: {first}")
    completion = _said("assistant", answer, f"{row.where}: {second}")
    if not any(message.role == "assistant" for message in completion):
        raise DataError(
            f"{row.where}: {second} has no assistant turn: {excerpt(answer)}", hint="put what is learned into it"
        )
    messages = _in_order((*prompt, *completion), f"{row.where}: {first} and {second}")
    return Example(row.where, messages, prompt_messages=len(prompt))


def _said(role: Role, cell: Any, place: str) -> tuple[Message, ...]:
    return (Message(role, _filled(cell, place)),) if isinstance(cell, str) else _messages(cell, place)


def _filled(cell: Any, place: str) -> str:
    """A cell with text in it."""
    if not isinstance(cell, str):
        raise DataError(f"{place} = {excerpt(cell)} is {type(cell).__name__}", hint="give a string")
    if not cell.strip():
        raise DataError(f"{place} = {excerpt(cell)} is empty", hint="drop the row or fill it in")
    return encodable(cell, place)


def _messages(cell: Any, place: str) -> tuple[Message, ...]:
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


def _in_order(messages: tuple[Message, ...], place: str) -> tuple[Message, ...]:
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
