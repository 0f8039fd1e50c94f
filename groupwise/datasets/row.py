"""One row of a file: where it stands and its cells. Knows neither file formats nor what a column means."""

from dataclasses import dataclass, field
from typing import Any

from groupwise.errors import DataError, excerpt
from groupwise.registry import ENVS


@dataclass(frozen=True)
class Pictures:
    """Where a source's pictures are. column: with them; None: images or image. folder: paths are relative to; None: the
    file's own. fetch: remote ones are fetched. switch: the key of the recipe that says so."""

    column: str | None = None
    folder: str | None = None
    fetch: bool = False
    switch: str = "questions.fetch_images"

    def __bool__(self) -> bool:
        """Whether anything is said of them."""
        return self.column is not None or self.folder is not None or self.fetch


NO_PICTURES = Pictures()


@dataclass(frozen=True)
class Row:
    """One row: its number from 1 (in JSONL, the line's), where it stands in words, and its cells by column.

    file: the name of its file or data set, without folder and ending. ignored: cells that mean nothing to the model.
    folder: of its file, to which the paths in it are relative. images: where its pictures are.
    """

    number: int
    where: str
    cells: dict[str, Any]
    file: str
    ignored: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
    images: Pictures = NO_PICTURES


@dataclass(frozen=True)
class Wanted:
    """What rows should be, in the words of an error: their name in the plural, one of them, what else may be given."""

    name: str
    row: str
    besides: str = ""


QUESTIONS = Wanted("questions", '{"prompt": ..., "answer": ...}', f", or an environment: {', '.join(sorted(ENVS))}")
EXAMPLES = Wanted("examples", '{"prompt": ..., "completion": ...}')


def nothing(cell: Any) -> bool:
    """True for a cell that holds nothing: null, nan, blank text, an empty list, or only such things inside.

    `[]`, `{}` and `null` as text count too: ShareGPT files write an empty list of tools so.
    """
    if isinstance(cell, str):
        return cell.strip() in ("", "[]", "{}", "null")
    if isinstance(cell, dict):
        return all(nothing(inner) for inner in cell.values())
    if isinstance(cell, list | tuple):
        return all(nothing(inner) for inner in cell)
    return cell is None or bool(cell != cell)  # nan alone is unequal to itself


def encodable(text: str, where: str) -> str:
    """The text. Raises DataError if it has half a surrogate pair, which no tokenizer takes."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{where}: character {error.start} is half of a surrogate pair: {excerpt(text[error.start])}",
                hint="write the whole character",
            ) from None
    return text
