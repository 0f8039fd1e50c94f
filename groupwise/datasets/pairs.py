"""Pairs and judged answers from rows, by the columns of TRL, LLaMA-Factory and OpenRLHF. Knows no tokens."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from groupwise.data import Judged, Message, Pair
from groupwise.datasets.columns import check_read
from groupwise.datasets.files import Source, table
from groupwise.datasets.images import Images, image_columns, images_of, placed, wordless
from groupwise.datasets.messages import conversation, message_of
from groupwise.datasets.row import Row, Wanted
from groupwise.datasets.turns import (
    BEFORE,
    INPUT,
    INSTRUCTION,
    asked,
    behind_history,
    complete,
    filled,
    first_there,
    in_order,
    messages_by,
)
from groupwise.errors import DataError, excerpt
from groupwise.registry import nearest

PAIRS = Wanted("examples", '{"prompt": ..., "chosen": ..., "rejected": ...}')
JUDGED = Wanted("examples", '{"prompt": ..., "completion": ..., "label": true}')
_SIDES, _MARGIN = ("chosen", "rejected"), "margin"
_WHOLE = ("conversations", "messages")
_PROMPTS = ("prompt", INSTRUCTION, "question", *_WHOLE)
_ANSWERS, _LIKED = ("completion", "response", "output"), ("label", "kto_tag")
_LABELS = {"true": True, "false": False, "1": True, "0": False}
"""What a label may be, in any case: JSON's true, false, 1 and 0, and the same words in a CSV."""


def each_pair(source: Source | Path, limit: int | None = None) -> Iterator[Pair]:
    """The first `limit` (None: all) pairs of a source, one after the other: chosen and rejected answers to a prompt.

    prompt, instruction and input, question, or the turns of conversations; chosen, rejected: each a string, a turn or a
    list of messages; a side that is the whole conversation begins with the prompt's messages. Without a prompt in the
    file both sides are whole conversations, alike up to their last turn, and what they share is the prompt. system and
    history stand before the prompt. margin: a number from 0 on, by how much the chosen one is better; may be left out.
    Raises DataError naming the file, the row, the value and the remedy, also for a column that none of this reads.
    """
    found = table(source, limit, wanted=PAIRS)
    _check_columns(source, found.columns, _SIDES, other=("label", "answers liked or not: set preference.loss to kto"))
    column = first_there([name for name, filled in found.columns.items() if filled], _PROMPTS)
    wanted = _SIDES if column is None else (column, *_SIDES)
    known = (*wanted, *BEFORE, _MARGIN, *((INPUT,) if column == INSTRUCTION else ()))
    return (
        _pair(
            check_read(complete(row, wanted), (*known, *image_columns(row)), found.columns),
            column,
            images_of(row, found.columns),
        )
        for row in found
    )


def each_judged(source: Source | Path, limit: int | None = None) -> Iterator[Judged]:
    """The first `limit` (None: all) judged answers of a source, one after the other: prompt, completion and label.

    prompt, or instruction and input, or question; completion, response or output: each a string or a list of messages;
    or conversations whose last turn is judged. label or kto_tag: true or 1 if the answer was liked, else false or 0.
    system and history stand before the prompt. Raises DataError as `each_pair` does.
    """
    found = table(source, limit, wanted=JUDGED)
    filled = [name for name, filled in found.columns.items() if filled]
    prompt, answer = first_there(filled, _PROMPTS) or "prompt", first_there(filled, _ANSWERS) or "completion"
    label = first_there(filled, _LIKED) or "label"
    wanted = (prompt, label) if prompt in _WHOLE else (prompt, answer, label)
    _check_columns(source, found.columns, wanted, other=("chosen", "pairs: set preference.loss to dpo"))
    known = (*wanted, *BEFORE, *((INPUT,) if prompt == INSTRUCTION else ()))
    return (
        _judged(
            check_read(complete(row, wanted), (*known, *image_columns(row)), found.columns),
            (prompt, answer, label),
            images_of(row, found.columns),
        )
        for row in found
    )


def _check_columns(
    source: Source | Path, columns: Mapping[str, bool], wanted: Sequence[str], *, other: tuple[str, str]
) -> None:
    """Raises DataError if a wanted column is in no row; other: a column that tells of another kind, and what it is."""
    missing = [name for name in wanted if name not in columns]
    if not missing:
        return
    name, kind = other
    hint = f"these seem to be {kind}" if name in columns else nearest(missing[0], columns) if columns else ""
    raise DataError(
        f"{source if isinstance(source, Path) else source.place}: no column {' or '.join(map(repr, missing))}; "
        f"columns: {', '.join(columns) or 'none'}",
        hint=hint or "every row needs them",
    )


def _pair(row: Row, column: str | None, images: Images) -> Pair:
    if column is not None:
        prompt = asked(row, column, images)
        sides = [_behind(row, name, _turns(row, name, images), prompt, column) for name in _SIDES]
    else:
        whole = [behind_history(row, _conversation(row, name, images), listed=True) for name in _SIDES]
        prompt = _shared(*whole)
        _check_begin_alike(row, prompt, *whole)
        sides = [_behind(row, name, turns, prompt, "prompt") for name, turns in zip(_SIDES, whole, strict=True)]
    _check_differ(row, *sides)
    chosen, rejected = sides
    return Pair(row.where, placed(prompt, row, images), chosen, rejected, margin=_margin(row))


def _judged(row: Row, columns: tuple[str, str, str], images: Images) -> Judged:
    column, name, label = columns
    prompt = asked(row, column, images)
    if column in _WHOLE:
        name = column
        in_order(prompt, f"{row.where}: {column}")
        prompt, answer = prompt[:-1], wordless(prompt[-1], f"{row.where}: {column}")
    else:
        answer = _behind(row, name, _turns(row, name, images), prompt, column)
    cell = row.cells[label]
    # str(): True is 1 in Python, and a CSV holds words. 1.0 is what a column with gaps makes of 1.
    liked = _LABELS.get(str(int(cell) if isinstance(cell, float) and cell in (0, 1) else cell).strip().lower())
    if liked is None:
        raise DataError(
            f"{row.where}: {label} = {excerpt(cell)}: no label that is allowed",
            hint="give true (liked) or false (not), or 1 or 0",
        )
    return Judged(row.where, placed(prompt, row, images), answer, liked)


def _turns(row: Row, name: str, images: Images) -> tuple[Message, ...]:
    cell, place = row.cells[name], f"{row.where}: {name}"
    if isinstance(cell, dict):
        return (message_of(cell, place, images),)
    return messages_by("assistant", cell, place, images)


def _conversation(row: Row, name: str, images: Images) -> tuple[Message, ...]:
    cell, place = row.cells[name], f"{row.where}: {name}"
    if isinstance(cell, str):
        filled(cell, place)
        raise DataError(
            f"{place} = {excerpt(cell)} is a string, and the file has no column 'prompt'",
            hint="add 'prompt', or give both sides as whole conversations",
        )
    return conversation(cell, place, images)


def _shared(chosen: Sequence[Message], rejected: Sequence[Message]) -> tuple[Message, ...]:
    """The messages that both conversations begin with; never the last of either, which is its answer."""
    count = 0
    for one, other in zip(chosen[:-1], rejected[:-1], strict=False):
        if one != other:
            break
        count += 1
    return tuple(chosen[:count])


def _check_begin_alike(
    row: Row, prompt: Sequence[Message], chosen: Sequence[Message], rejected: Sequence[Message]
) -> None:
    """Raises DataError where two whole conversations differ before the last turn of both."""
    turn = len(prompt)
    if turn < len(chosen) - 1 and turn < len(rejected) - 1:
        raise DataError(
            f"{row.where}: chosen and rejected differ from turn {turn + 1} on, before their last: "
            f"{excerpt(chosen[turn].content)} and {excerpt(rejected[turn].content)}",
            hint="both sides answer one prompt: give them the same turns up to the last",
        )


def _behind(row: Row, name: str, turns: tuple[Message, ...], prompt: tuple[Message, ...], column: str) -> str:
    """The one answer of a side that stands behind the prompt, with or without the prompt's own messages before it."""
    if len(turns) > 1 and turns[: len(prompt)] == prompt:
        turns = turns[len(prompt) :]
    if len(turns) != 1:
        raise DataError(
            f"{row.where}: {name} has {len(turns)} turns behind the prompt, from {excerpt(turns[0].content)} on",
            hint="give one turn, the assistant's; the turns before it go into the prompt",
        )
    in_order((*prompt, *turns), f"{row.where}: {column} and {name}")
    return wordless(turns[0], f"{row.where}: {name}")


def _check_differ(row: Row, chosen: str, rejected: str) -> None:
    if chosen.split() == rejected.split():
        raise DataError(
            f"{row.where}: chosen and rejected are equal up to spacing: {excerpt(chosen)}",
            hint="equal answers express no preference: drop the row",
        )


def _margin(row: Row) -> float | None:
    cell: Any = row.cells.get(_MARGIN)
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    try:
        margin = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        margin = math.nan
    if not math.isfinite(margin) or margin < 0:
        what = "below 0, so rejected would be the better side" if math.isfinite(margin) else "no finite number"
        raise DataError(
            f"{row.where}: {_MARGIN} = {excerpt(cell)}: {what}",
            hint=f"give a number from 0 on, or leave {_MARGIN!r} out",
        )
    return margin
