"""Columns with a meaning elsewhere that is not honoured here, and columns that nothing reads: refused by name."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from groupwise.datasets.row import Row, nothing
from groupwise.errors import DataError, excerpt

_SEEN = "a model reads text and pictures"
_ELSEWHERE = "image_column names another column for the pictures"
_TOOLS = "no tools are offered to the model"
_AGENT = "no environment answers the model"
UNHONOURED: Mapping[str, str] = {
    **dict.fromkeys(("image", "images"), _ELSEWHERE),
    **dict.fromkeys(("video", "videos", "audio", "audios", "multi_modal_data"), _SEEN),
    **dict.fromkeys(("tools", "functions", "tool_choice", "parallel_tool_calls"), _TOOLS),
    **dict.fromkeys(("tools_kwargs", "need_tools_kwargs"), _TOOLS),
    **dict.fromkeys(("env_kwargs", "interaction_kwargs", "agent_name", "environment"), _AGENT),
    "chat_template_kwargs": "the chat template has one way to be called for all rows",
    "enable_thinking": "the chat template has one way to be called for all rows",
    "weight": "all rows count alike; a turn of the assistant may have a weight of 0 or 1",
    "sample_weight": "all rows count alike",
}
"""Name of a column (or of a key in verl's `extra_info`) -> what is not done with it."""
PLACES = ("id", "provenance")
"""Columns that say where a row comes from and nothing of what is learned."""


def check_honoured(row: Row, read: Collection[str] = ()) -> None:
    """Raises DataError for a cell whose meaning elsewhere is not honoured here, unless it holds nothing. read: columns
    that are."""
    extra = row.cells.get("extra_info")
    inside = extra.items() if isinstance(extra, dict) else ()
    for place, cells in (("", row.cells.items()), ("extra_info.", inside)):
        _check(row, place, [(name, cell) for name, cell in cells if place or name not in read])


def _check(row: Row, place: str, cells: Iterable[tuple[str, Any]]) -> None:
    for name, cell in cells:
        # extra_info is handed to rewards as it is: only what verl itself would act on is refused in it
        known = UNHONOURED if not place else {key: UNHONOURED[key] for key in ("tools_kwargs", "interaction_kwargs")}
        if name in known and not nothing(cell) and cell is not False:
            raise DataError(
                f"{row.where}: {place}{name} = {excerpt(cell)}: not read, {known[name]}",
                hint=f"drop the row, or ignore it: ignore_columns: [{place}{name}]",
            )


def check_read(row: Row, read: Collection[str], columns: Iterable[str]) -> Row:
    """The row. Raises DataError for a cell in a column that is not read; columns: all of the file, for the remedy."""
    check_honoured(row, read)
    known = {*read, *PLACES}
    strange = next((name for name, cell in row.cells.items() if name not in known and not nothing(cell)), None)
    if strange is not None:
        unread = ", ".join(name for name in columns if name not in known)
        raise DataError(
            f"{row.where}: {strange} = {excerpt(row.cells[strange])}: nothing reads this column, beside "
            f"{', '.join(sorted(name for name in read if name in row.cells))}",
            hint=f"to ignore it, set ignore_columns: [{unread}]",
        )
    return row
