"""Examples for supervised fine-tuning from rows, by the columns of TRL, ShareGPT and Alpaca. Knows no tokens."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from groupwise.data import Example, Message
from groupwise.datasets.columns import check_read
from groupwise.datasets.files import Source, table
from groupwise.datasets.images import image_columns, images_of, placed
from groupwise.datasets.messages import weighted
from groupwise.datasets.row import EXAMPLES, Row
from groupwise.datasets.turns import (
    BEFORE,
    INPUT,
    INSTRUCTION,
    asked,
    behind_history,
    complete,
    filled,
    history,
    in_order,
)
from groupwise.errors import DataError, excerpt
from groupwise.registry import nearest

CONVERSATION_COLUMNS = ("messages", "conversations")
PAIR_COLUMNS = (
    *(("prompt", "completion"), ("prompt", "response"), (INSTRUCTION, "output")),
    *(("question", "answer"), ("question", "response"), (INPUT, "output")),
)
TEXT_COLUMN = "text"
_KINDS = (*((name,) for name in CONVERSATION_COLUMNS), *PAIR_COLUMNS, (TEXT_COLUMN,))  # the first that is there counts


def each_example(source: Source | Path, limit: int | None = None) -> Iterator[Example]:
    """The first `limit` (None: all) examples of a source, one after the other, all of one kind, told by its columns.

    messages or conversations: a conversation. prompt and completion or response, instruction (and input) and output,
    question and answer or response, input and output: a prompt, which is read only, and what is learned as its answer;
    each a string or a list of messages. text: a plain text. system and history stand before, and the answers of a
    history are learned too. Raises DataError naming the file, the row, the value and the remedy, also for a column that
    none of this reads.
    """
    found = table(source, limit, wanted=EXAMPLES)
    place = source if isinstance(source, Path) else Path(source.place)
    columns = _columns(place, found.columns)
    if columns == (TEXT_COLUMN,):
        read: Callable[[Row, tuple[str, ...], Collection[str]], Example] = _text
        known = columns
    else:
        read = _conversation if len(columns) == 1 else _pair
        known = (*columns, *BEFORE, *((INPUT,) if columns[0] == INSTRUCTION else ()))
    pictures = columns != (TEXT_COLUMN,)
    return (
        read(
            check_read(complete(row, columns), (*known, *(image_columns(row) if pictures else ())), found.columns),
            columns,
            found.columns,
        )
        for row in found
    )


def _columns(path: Path, columns: Mapping[str, bool]) -> tuple[str, ...]:
    """The columns that make the file's kind of example."""
    for names in _KINDS:
        if all(columns.get(name) for name in names):
            return names
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


def _text(row: Row, columns: tuple[str, ...], _there: Collection[str]) -> Example:
    place = f"{row.where}: {columns[0]}"
    return Example(row.where, text=filled(row.cells[columns[0]], place))


def _conversation(row: Row, columns: tuple[str, ...], there: Collection[str]) -> Example:
    cell, place = row.cells[columns[0]], f"{row.where}: {columns[0]}"
    if not isinstance(cell, list):
        raise DataError(
            f"{place} = {excerpt(cell)} is {type(cell).__name__}", hint="give a list of messages, which CSV has none of"
        )
    images = images_of(row, there)
    turns, weights = weighted(cell, place, images)
    messages = placed(in_order(behind_history(row, turns, listed=True), place), row, images)
    weights = (*[None] * (len(messages) - len(turns)), *weights)
    return _learned(Example(row.where, messages), weights, place)


def _learned(example: Example, weights: tuple[int | None, ...], place: str) -> Example:
    """The example without what stands behind its last learned turn. Raises DataError if no turn is learned."""
    turns = [index for index, turn in enumerate(example.messages) if turn.role == "assistant"]
    learned = [index for index in turns if index >= example.prompt_messages and weights[index] != 0]
    if not learned:
        raise DataError(f"{place}: every turn of the assistant has weight 0: nothing is learned", hint="drop the row")
    unlearned = tuple(
        index for index in turns if example.prompt_messages <= index < learned[-1] and index not in learned
    )
    return replace(example, messages=example.messages[: learned[-1] + 1], unlearned=unlearned)


def _pair(row: Row, columns: tuple[str, ...], there: Collection[str]) -> Example:
    first, second = columns
    answer, place = row.cells[second], f"{row.where}: {second}"
    images = images_of(row, there)
    prompt = asked(row, first, images)
    if isinstance(answer, str):
        completion: tuple[Message, ...] = (Message("assistant", filled(answer, place)),)
        weights: tuple[int | None, ...] = (None,)
    else:
        completion, weights = weighted(answer, place, images)
    if not any(message.role == "assistant" for message in completion):
        raise DataError(f"{place} has no assistant turn: {excerpt(answer)}", hint="put what is learned into it")
    if any(message.role == "user" for message in completion):  # who may have pictures too
        messages = placed((*prompt, *completion), row, images)
    else:
        messages = (*placed(prompt, row, images), *placed(completion, row, replace(images, column="")))
    in_order(messages, f"{row.where}: {first} and {second}")
    read_only = 0 if history(row) else len(prompt)  # LLaMA-Factory learns the answers of a history
    return _learned(Example(row.where, messages, prompt_messages=read_only), (*[None] * len(prompt), *weights), place)
