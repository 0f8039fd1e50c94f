"""What a row asks and what is said to it, as turns in an order that a policy can learn from. Knows no kind of example.

The columns `system` and `history`, pairs of a question and an answer, stand before what is asked, as in LLaMA-Factory.
"""

from collections.abc import Collection
from typing import Any

from groupwise.data import Message, Role
from groupwise.datasets.images import Images
from groupwise.datasets.messages import content_of, conversation
from groupwise.datasets.row import Row, encodable, nothing
from groupwise.errors import DataError, excerpt

SYSTEM, HISTORY, INPUT = "system", "history", "input"
BEFORE = (SYSTEM, HISTORY)
INSTRUCTION = "instruction"  # Alpaca's, which keeps what it is about in the column `input`
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


def asked(row: Row, column: str, images: Images | None = None) -> tuple[Message, ...]:
    """What a row asks: system prompt, history, and the cell of a column, an instruction with its input behind.

    images: of the row; None: it may have none."""
    cell, place = row.cells[column], f"{row.where}: {column}"
    if column == INSTRUCTION and isinstance(cell, str):
        filled(cell, place)
        if not nothing(about := row.cells.get(INPUT)):
            cell = f"{cell}\n{filled(about, f'{row.where}: {INPUT}')}"
    return behind_history(row, messages_by("user", cell, place, images), listed=not isinstance(cell, str))


def behind_history(row: Row, turns: tuple[Message, ...], *, listed: bool) -> tuple[Message, ...]:
    """The turns behind the row's system prompt and history. listed: the file lists the turns themselves.

    Raises DataError for a second system prompt, or a history beside turns that are listed."""
    before = history(row)
    if before and listed:
        raise DataError(
            f"{row.where}: {HISTORY} = {excerpt(row.cells[HISTORY])}: beside a list of messages, which has its own",
            hint="put its turns into the list",
        )
    if nothing(system := row.cells.get(SYSTEM)):
        return (*before, *turns)
    place = f"{row.where}: {SYSTEM}"
    text = filled(content_of(system, place) if isinstance(system, list) else system, place)
    if turns[0].role == "system":
        if turns[0].content.strip() != text.strip():
            raise DataError(
                f"{row.where}: {SYSTEM} = {excerpt(text)}, and the first turn is another: {excerpt(turns[0].content)}",
                hint=f"leave one of them out, or ignore one: ignore_columns: [{SYSTEM}]",
            )
        return (*before, *turns)
    return (Message("system", text), *before, *turns)


def history(row: Row) -> tuple[Message, ...]:
    """Turns of the column `history`: pairs of what was asked and what was answered, the oldest first."""
    cell = row.cells.get(HISTORY)
    if nothing(cell):
        return ()
    place = f"{row.where}: {HISTORY}"
    if not isinstance(cell, list):
        raise DataError(
            f"{place} = {excerpt(cell)} is {type(cell).__name__}", hint='give [["question", "answer"], ...]'
        )
    turns: list[Message] = []
    for index, pair in enumerate(cell):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise DataError(f"{place}[{index}] = {excerpt(pair)}: no pair", hint='give [["question", "answer"], ...]')
        question, answer = (filled(text, f"{place}[{index}][{side}]") for side, text in enumerate(pair))
        turns += [Message("user", question), Message("assistant", answer)]
    return tuple(turns)


def messages_by(role: Role, cell: Any, place: str, images: Images | None = None) -> tuple[Message, ...]:
    """A cell as messages: a string is one turn of that role."""
    return (Message(role, filled(cell, place)),) if isinstance(cell, str) else conversation(cell, place, images)


def filled(cell: Any, place: str) -> str:
    """A cell with text in it."""
    if not isinstance(cell, str):
        raise DataError(f"{place} = {excerpt(cell)} is {type(cell).__name__}", hint="give a string")
    if not cell.strip():
        raise DataError(f"{place} = {excerpt(cell)} is empty", hint="drop the row or fill it in")
    return encodable(cell, place)


def in_order(messages: tuple[Message, ...], place: str) -> tuple[Message, ...]:
    """The messages. Raises DataError if one cannot follow the one before, says nothing, or none answers the last."""
    before: Role | None = None
    for number, message in enumerate(messages, 1):
        if message.role not in _MAY_FOLLOW[before]:
            after = "at the start" if before is None else f"behind a turn of role {before!r}"
            raise DataError(
                f"{place}: turn {number} of role {message.role!r} {after}: {excerpt(message.content)}",
                hint=f"allowed there: {', '.join(_MAY_FOLLOW[before])}",
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
            f"{place} {what}: {excerpt(last.content)}", hint="end with the assistant's answer, or drop the row"
        )
    return messages


def first_there(columns: Collection[str], names: tuple[str, ...]) -> str | None:
    """The first of the names that a file has as a column."""
    return next((name for name in names if name in columns), None)
