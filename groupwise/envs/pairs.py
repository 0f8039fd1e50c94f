"""Pairs and judged answers from rows, by TRL's column names: what preferences are learned from. Knows no tokens."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groupwise.data import Judged, Message, Pair
from groupwise.envs.files import Row, Wanted, excerpt, rows
from groupwise.envs.turns import complete, filled, in_order, messages_of, said
from groupwise.errors import DataError
from groupwise.registry import nearest

PAIRS = Wanted("examples", '{"prompt": ..., "chosen": ..., "rejected": ...}')
JUDGED = Wanted("examples", '{"prompt": ..., "completion": ..., "label": true}')
_PROMPT, _SIDES, _MARGIN = "prompt", ("chosen", "rejected"), "margin"
_JUDGED_COLUMNS = (_PROMPT, "completion", "label")
_LABELS = {"true": True, "false": False, "1": True, "0": False}
"""What a label may be, in any case: JSON's true, false, 1 and 0, and the same words in a CSV."""


def read_pairs(path: Path, limit: int | None = None) -> list[Pair]:
    """The first `limit` (None: all) pairs of a file or a `datasets` folder: chosen and rejected answers to a prompt.

    prompt, chosen, rejected: each a string or a list of messages; a side that is the whole conversation begins with the
    prompt's messages. Without a prompt in the file both sides are whole conversations, alike up to their last turn,
    and what they share is the prompt. margin: a number from 0 on, by how much the chosen one is better; may be left
    out. Raises DataError naming the file, the row, the value and the remedy.
    """
    found = rows(path, limit, wanted=PAIRS)
    columns = list(dict.fromkeys(name for row in found for name in row.cells))
    _check_columns(path, columns, _SIDES, other=("completion", "answers liked or not: set preference.loss to kto"))
    wanted = (_PROMPT, *_SIDES) if _PROMPT in columns else _SIDES
    return [_pair(complete(row, wanted), explicit=_PROMPT in columns) for row in found]


def read_judged(path: Path, limit: int | None = None) -> list[Judged]:
    """The first `limit` (None: all) judged answers of a file or a `datasets` folder: prompt, completion and label.

    prompt and completion: each a string or a list of messages; label: true or 1 if the answer was liked, else false or
    0. Raises DataError naming the file, the row, the value and the remedy.
    """
    found = rows(path, limit, wanted=JUDGED)
    columns = list(dict.fromkeys(name for row in found for name in row.cells))
    _check_columns(path, columns, _JUDGED_COLUMNS, other=("chosen", "pairs: set preference.loss to dpo"))
    return [_judged(complete(row, _JUDGED_COLUMNS)) for row in found]


def _check_columns(path: Path, columns: Sequence[str], wanted: Sequence[str], *, other: tuple[str, str]) -> None:
    """Raises DataError if a wanted column is in no row; other: a column that tells of another kind, and what it is."""
    missing = [name for name in wanted if name not in columns]
    if not missing:
        return
    name, kind = other
    hint = f"these seem to be {kind}" if name in columns else nearest(missing[0], columns) if columns else ""
    raise DataError(
        f"{path}: no column {' or '.join(map(repr, missing))}; columns: {', '.join(columns) or 'none'}",
        hint=hint or "every row needs them",
    )


def _pair(row: Row, *, explicit: bool) -> Pair:
    if explicit:
        prompt = _prompt(row)
        sides = [_behind(row, name, _turns(row, name), prompt) for name in _SIDES]
    else:
        whole = [_conversation(row, name) for name in _SIDES]
        prompt = _shared(*whole)
        sides = [_behind(row, name, turns, prompt) for name, turns in zip(_SIDES, whole, strict=True)]
    _check_differ(row, *sides)
    chosen, rejected = sides
    return Pair(row.where, prompt, chosen, rejected, margin=_margin(row))


def _judged(row: Row) -> Judged:
    _, name, label = _JUDGED_COLUMNS
    prompt = _prompt(row)
    answer = _behind(row, name, _turns(row, name), prompt)
    cell = row.cells[label]
    # str(): True is 1 in Python, and a CSV holds words. 1.0 is what a column with gaps makes of 1.
    liked = _LABELS.get(str(int(cell) if isinstance(cell, float) and cell in (0, 1) else cell).strip().lower())
    if liked is None:
        raise DataError(
            f"{row.where}: {label} = {excerpt(cell)}: no label that is allowed",
            hint="give true (liked) or false (not), or 1 or 0",
        )
    return Judged(row.where, prompt, answer, liked)


def _prompt(row: Row) -> tuple[Message, ...]:
    return said("user", row.cells[_PROMPT], f"{row.where}: {_PROMPT}")


def _turns(row: Row, name: str) -> tuple[Message, ...]:
    return said("assistant", row.cells[name], f"{row.where}: {name}")


def _conversation(row: Row, name: str) -> tuple[Message, ...]:
    cell, place = row.cells[name], f"{row.where}: {name}"
    if isinstance(cell, str):
        filled(cell, place)
        raise DataError(
            f"{place} = {excerpt(cell)} is a string, and the file has no column {_PROMPT!r}",
            hint=f"add {_PROMPT!r}, or give both sides as whole conversations",
        )
    return messages_of(cell, place)


def _shared(chosen: Sequence[Message], rejected: Sequence[Message]) -> tuple[Message, ...]:
    """The messages that both conversations begin with; never the last of either, which is its answer."""
    count = 0
    for one, other in zip(chosen[:-1], rejected[:-1], strict=False):
        if one != other:
            break
        count += 1
    return tuple(chosen[:count])


def _behind(row: Row, name: str, turns: tuple[Message, ...], prompt: tuple[Message, ...]) -> str:
    """The one answer of a side that stands behind the prompt, with or without the prompt's own messages before it."""
    if len(turns) > 1 and turns[: len(prompt)] == prompt:
        turns = turns[len(prompt) :]
    if len(turns) != 1:
        raise DataError(
            f"{row.where}: {name} has {len(turns)} turns behind the prompt, from {excerpt(turns[0].content)} on",
            hint="give one turn, the assistant's; the turns before it go into the prompt",
        )
    in_order((*prompt, *turns), f"{row.where}: {_PROMPT} and {name}")
    return turns[0].content


def _check_differ(row: Row, chosen: str, rejected: str) -> None:
    if chosen.split() == rejected.split():
        raise DataError(
            f"{row.where}: chosen and rejected are equal up to spacing: {excerpt(chosen)}",
            hint="a pair of equals prefers nothing: drop the row",
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
