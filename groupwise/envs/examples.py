"""Examples for supervised fine-tuning from rows, by the column names of TRL, ShareGPT and Alpaca. Knows no tokens."""

from collections.abc import Callable, Sequence
from pathlib import Path

from groupwise.data import Example
from groupwise.envs.files import EXAMPLES, Row, excerpt, rows
from groupwise.envs.turns import complete, filled, in_order, messages_of, said
from groupwise.errors import DataError
from groupwise.registry import nearest

CONVERSATION_COLUMNS = ("messages", "conversations")
PAIR_COLUMNS = (("prompt", "completion"), ("prompt", "response"), ("instruction", "output"))
TEXT_COLUMN = "text"
_KINDS = (*((name,) for name in CONVERSATION_COLUMNS), *PAIR_COLUMNS, (TEXT_COLUMN,))  # the first that is there counts
_INPUT = "input"  # Alpaca keeps what the instruction is about in a column of its own


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
    return [read(complete(row, columns), columns) for row in found]


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


def _text(row: Row, columns: tuple[str, ...]) -> Example:
    place = f"{row.where}: {columns[0]}"
    return Example(row.where, text=filled(row.cells[columns[0]], place))


def _conversation(row: Row, columns: tuple[str, ...]) -> Example:
    cell, place = row.cells[columns[0]], f"{row.where}: {columns[0]}"
    if not isinstance(cell, list):
        raise DataError(
            f"{place} = {excerpt(cell)} is {type(cell).__name__}", hint="give a list of messages, which CSV has none of"
        )
    return Example(row.where, in_order(messages_of(cell, place), place))


def _pair(row: Row, columns: tuple[str, ...]) -> Example:
    first, second = columns
    asked, answer = row.cells[first], row.cells[second]
    if isinstance(asked, str):
        filled(asked, f"{row.where}: {first}")
        about = row.cells.get(_INPUT) if first == "instruction" else None
        if str(about or "").strip():
            asked = f"{asked}\n\n{filled(about, f'{row.where}: {_INPUT}')}"
    prompt = said("user", asked, f"{row.where}: {first}")
    completion = said("assistant", answer, f"{row.where}: {second}")
    if not any(message.role == "assistant" for message in completion):
        raise DataError(
            f"{row.where}: {second} has no assistant turn: {excerpt(answer)}", hint="put what is learned into it"
        )
    messages = in_order((*prompt, *completion), f"{row.where}: {first} and {second}")
    return Example(row.where, messages, prompt_messages=len(prompt))
