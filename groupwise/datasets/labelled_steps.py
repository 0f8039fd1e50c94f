"""What a reward model learns from, from rows: pairs, or answers of which each step was judged. Knows no tokens."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from groupwise.data import Message, Pair, Stepped
from groupwise.datasets.columns import check_read
from groupwise.datasets.files import Source, table
from groupwise.datasets.images import Images, image_columns, images_of, placed
from groupwise.datasets.pairs import each_pair
from groupwise.datasets.row import Row, Wanted
from groupwise.datasets.turns import BEFORE, asked, complete, filled, in_order
from groupwise.errors import DataError, excerpt

STEPPED = Wanted("examples", '{"prompt": ..., "completions": ["step", ...], "labels": [true, ...]}')
_LABELS, _SIDES = "labels", ("chosen", "rejected")
_APART = ("prompt", "completions", _LABELS)
_MARKED = ("prompt", "completion", "step_ends", _LABELS)


def each_judgement(source: Source | Path, limit: int | None = None) -> Iterator[Pair] | Iterator[Stepped]:
    """The first `limit` (None: all) pairs or labelled steps of a source, one after the other; its columns tell which.

    chosen, rejected: pairs (groupwise/datasets/pairs.py); labels: steps. Raises DataError naming the file, the row, the
    value and the remedy, also where rows of both kinds are mixed, or for a column that nothing reads.
    """
    found = table(source, limit, wanted=STEPPED)
    columns = found.columns
    if _LABELS not in columns:
        if not set(_SIDES) & set(columns):
            raise DataError(
                f"{source if isinstance(source, Path) else source.place}: neither pairs nor labelled steps; "
                f"columns: {', '.join(columns) or 'none'}",
                hint=f"give prompt, {' and '.join(_SIDES)}, or {', '.join(_APART)}",
            )
        return each_pair(source, limit)
    wanted: tuple[str, ...] = _MARKED if "step_ends" in columns else _APART
    read: Callable[[Row, Images], Stepped] = _marked if "step_ends" in columns else _apart
    known = (*wanted, *BEFORE)
    return (
        read(
            check_read(complete(_no_pair(row), wanted), (*known, *image_columns(row)), columns),
            images_of(row, columns),
        )
        for row in found
    )


def _no_pair(row: Row) -> Row:
    """The row. Raises DataError if it has a side of a pair."""
    strange = next((name for name in _SIDES if row.cells.get(name) is not None), None)
    if strange is not None:
        raise DataError(
            f"{row.where}: {strange!r} is of a pair, and other rows have {_LABELS!r} of steps",
            hint="all rows of a file are of one kind: put the row into a file of its kind",
        )
    return row


def _apart(row: Row, images: Images) -> Stepped:
    """TRL's stepwise form: a list of steps, and a label of each."""
    _, name, _ = _APART
    cells = _list(row, name, "of strings, one a step")
    steps = tuple(filled(cell, f"{row.where}: {name}[{index}]") for index, cell in enumerate(cells))
    return Stepped(row.where, _prompt(row, images), steps, _labels(row, len(steps), name))


def _marked(row: Row, images: Images) -> Stepped:
    """One text, the ends of its steps in characters from its start, and a label of each."""
    _, name, ends_name, _ = _MARKED
    text = filled(row.cells[name], f"{row.where}: {name}")
    ends: list[int] = []
    for index, end in enumerate(_list(row, ends_name, "of numbers, one a step")):
        before = ends[-1] if ends else 0
        if not _whole(end) or not before < end <= len(text):
            raise DataError(
                f"{row.where}: {ends_name}[{index}] = {excerpt(end)}: no whole number within {before + 1} and "
                f"{len(text)}",
                hint="count the characters of the completion up to and including the step's last, in order",
            )
        ends.append(int(end))
    steps = tuple(text[start:end] for start, end in zip([0, *ends], ends, strict=False))
    right = _labels(row, len(steps), ends_name)
    return Stepped(row.where, _prompt(row, images), steps, right, rest=text[ends[-1] :], verbatim=True)


def _whole(cell: Any) -> bool:
    """True for 3 and 3.0, which a column with gaps makes of 3; JSON may hold NaN and 1e400 too."""
    if isinstance(cell, float):
        return cell.is_integer()  # neither nan nor an infinity is one
    return isinstance(cell, int) and not isinstance(cell, bool)


def _prompt(row: Row, images: Images) -> tuple[Message, ...]:
    prompt = asked(row, "prompt", images)
    if prompt[-1].role == "assistant":
        raise DataError(
            f"{row.where}: prompt ends with a turn of role 'assistant': {excerpt(prompt[-1].content)}",
            hint="put the assistant's last text into the steps",
        )
    in_order((*prompt, Message("assistant", "-")), f"{row.where}: prompt")  # any answer would do
    return placed(prompt, row, images)


def _labels(row: Row, steps: int, name: str) -> tuple[bool, ...]:
    labels = _list(row, _LABELS, "of true and false, one a step")
    if len(labels) != steps:
        raise DataError(
            f"{row.where}: {len(labels)} {_LABELS} for {steps} {name}", hint="give each step one label, and no other"
        )
    for index, label in enumerate(labels):
        if not isinstance(label, bool | int | float) or label not in (0, 1):
            raise DataError(
                f"{row.where}: {_LABELS}[{index}] = {excerpt(label)}: no label that is allowed",
                hint="give true (a right step) or false, or 1 or 0",
            )
    return tuple(bool(label) for label in labels)


def _list(row: Row, name: str, what: str) -> Sequence[Any]:
    cell = row.cells[name]
    if not isinstance(cell, list):
        raise DataError(
            f"{row.where}: {name} = {excerpt(cell)} is {type(cell).__name__}", hint=f"give a list {what}; CSV has none"
        )
    if not cell:
        raise DataError(f"{row.where}: {name} = [] is empty", hint="drop the row or fill it in")
    return cell
