"""Questions from rows, by the column names that TRL, verl, GSM8K and EasyR1 use. Knows columns, not file formats."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from groupwise.data import Question
from groupwise.datasets.columns import check_honoured
from groupwise.datasets.files import Source, Table, table
from groupwise.datasets.images import image_columns, images_of, placed
from groupwise.datasets.row import Row, nothing
from groupwise.datasets.turns import BEFORE, asked
from groupwise.errors import DataError
from groupwise.registry import nearest

PROMPT_COLUMNS = ("prompt", "problem", "question", "instruction", "input")
ANSWER_COLUMNS = ("answer", "solution", "ground_truth", "label", "target")
_VERL = "reward_model"  # verl keeps the answer in a struct of this name, under ground_truth
_PLAIN = "_plain"  # our own mark of a prompt that was a string


def read_questions(source: Source | Path, **settings: Any) -> list[Question]:
    """All of `each_question`, with its settings, in memory."""
    return list(each_question(source, **settings))


def each_question(
    source: Source | Path,
    *,
    prompt_column: str | None = None,
    answer_column: str | None = None,
    limit: int | None = None,
) -> Iterator[Question]:
    """The first `limit` (None: all) questions of a source, one after the other.

    The prompt is a string, which becomes one user message (and sets meta["_plain"]), or a list of messages. Columns
    `system` and `history` stand before it. Every other column goes into meta as it is. Raises DataError naming the
    file, the row, the value and the remedy, also for a column whose meaning elsewhere is not honoured; what is wrong
    with the source as a whole is found at once.
    """
    found = table(source, limit)
    place = source if isinstance(source, Path) else Path(source.place)
    prompt = _prompt_column(place, found.columns, prompt_column)
    answer = _answer_column(place, found, answer_column)
    return (_question(row, prompt, answer, found.columns) for row in found)


def _question(row: Row, prompt_column: str, answer_column: str | None, columns: Collection[str]) -> Question:
    check_honoured(row, read=image_columns(row))
    if prompt_column not in row.cells:
        raise DataError(
            f"{row.where}: no column {prompt_column!r}; columns: {', '.join(row.cells) or 'none'}",
            hint=nearest(prompt_column, row.cells) if row.cells else "every row needs it",
        )
    if _PLAIN in row.cells:
        raise DataError(f"{row.where}: a column {_PLAIN!r}: the name is taken", hint="give it another")
    images = images_of(row, columns)
    messages = placed(asked(row, prompt_column, images), row, images)
    # where there are pictures, the prompt's cell may hold their bytes too
    left_out = (*BEFORE, *image_columns(row), *([prompt_column] if any(turn.images for turn in messages) else []))
    meta = {name: cell for name, cell in row.cells.items() if name not in left_out} | row.ignored
    if isinstance(row.cells[prompt_column], str) and len(messages) == 1:
        meta[_PLAIN] = True
    return Question(_id(row), messages, _answer(row.cells, answer_column), meta, row.where)


def _prompt_column(path: Path, columns: Mapping[str, bool], wanted: str | None) -> str:
    present = f"columns: {', '.join(columns) or 'none'}"
    if wanted is not None:
        if wanted not in columns:
            raise DataError(
                f"{path}: questions.prompt_column = {wanted!r} is not there; {present}", hint=_near(wanted, columns)
            )
        return wanted
    for name in PROMPT_COLUMNS:
        if name in columns:
            return name
    near = next((text for name in PROMPT_COLUMNS if "did you mean" in (text := _near(name, columns))), "")
    raise DataError(
        f"{path}: no column {', '.join(PROMPT_COLUMNS[:-1])} or {PROMPT_COLUMNS[-1]}; {present}",
        hint=f"name the column with the question in questions.prompt_column{'; ' + near if near else ''}",
    )


def _answer_column(path: Path, found: Table, wanted: str | None) -> str | None:
    """The column with the answers: the one asked for, else the first usual one in which any row has an answer."""
    if wanted is None:
        usual = [name for name in (_VERL, *ANSWER_COLUMNS) if found.columns.get(name)]
        return next((name for name in usual if name != _VERL or _any_answer(found, name)), None)
    if wanted not in found.columns:
        raise DataError(
            f"{path}: questions.answer_column = {wanted!r} is not there; columns: {', '.join(found.columns) or 'none'}",
            hint=_near(wanted, found.columns),
        )
    if not _any_answer(found, wanted):
        raise DataError(
            f"{path}: questions.answer_column = {wanted!r} is empty in all {found.count} rows",
            hint="fill it in, or drop questions.answer_column if no reward needs an answer",
        )
    return wanted


def _any_answer(found: Table, column: str) -> bool:
    return any(_answer(row.cells, column) is not None for row in found)


def _answer(cells: Mapping[str, Any], column: str | None) -> Any:
    """What the column holds; None for nothing: null, nan, blank text."""
    value = cells.get(column) if column is not None else None
    if column == _VERL:
        value = value.get("ground_truth") if isinstance(value, dict) else None
    blank = isinstance(value, str) and not value.strip()
    return None if blank or value != value else value  # nan alone is unequal to itself


def _id(row: Row) -> str:
    """A row's name: its column `id`, verl's index, or the file's name and its number."""
    extra = row.cells.get("extra_info")
    index = extra.get("index") if isinstance(extra, dict) else None
    known = row.cells.get("id")
    if nothing(known):
        known = index
    return f"{row.file}:{row.number}" if nothing(known) else str(known)


def _near(name: str, columns: Mapping[str, bool]) -> str:
    return nearest(name, columns) if columns else "every row needs it"
