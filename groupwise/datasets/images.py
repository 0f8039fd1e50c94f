"""Pictures of a row: those of its column, put where they stand in the text. groupwise/contents.py finds them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groupwise.contents import FORMS, Place, image_of, picture_in
from groupwise.data import IMAGE, Image, Message, message_of_parts
from groupwise.datasets.row import Row, nothing
from groupwise.errors import DataError, excerpt

COLUMNS = ("images", "image")
"""Columns with the pictures of a row."""


@dataclass(frozen=True)
class Images:
    """What pictures a row may have. column: with pictures, "" if its file has none; cells: they."""

    place: Place
    column: str = ""
    cells: tuple[Any, ...] = ()


def image_columns(row: Row) -> tuple[str, ...]:
    """The columns that may have a row's pictures."""
    return COLUMNS if row.images.column is None else (row.images.column,)


def images_of(row: Row, columns: Collection[str]) -> Images:
    """The row's column of pictures. columns: all of its file. Raises DataError for two of them."""
    names, remedy = image_columns(row), f"save the picture and give its path, or set {row.images.switch}: true"
    place = Place(row.folder if row.images.folder is None else row.images.folder, row.images.fetch, remedy)
    there = [name for name in names if not nothing(row.cells.get(name))]
    if not there:
        return Images(place, next((name for name in names if name in columns), ""))
    if len(there) > 1:
        raise DataError(f"{row.where}: both {' and '.join(there)}", hint="keep one, or name one in ignore_columns")
    cell = row.cells[there[0]]
    return Images(place, there[0], tuple(cell) if isinstance(cell, list | tuple) else (cell,))


def part_of(part: Mapping[str, Any], where: str, images: Images) -> str | Image:
    """The picture of a part; IMAGE where it names none and the row's column has it."""
    found = picture_in(part, where, images.place)
    if found is None and not images.cells:
        raise DataError(f"{where} = {excerpt(part)}: names no picture, and there is no column images", hint=FORMS)
    return IMAGE if found is None else found


def placed(messages: tuple[Message, ...], row: Row, images: Images) -> tuple[Message, ...]:
    """The messages with the column's pictures where the text has IMAGE; without any, before the first user's text.

    Raises DataError if there are as many of neither, or for one in a turn of the assistant.
    """
    found = _with_column(messages, row, images) if images.column else messages
    for number, message in enumerate(found, 1):
        if message.role == "assistant" and message.images:
            raise DataError(
                f"{row.where}: turn {number}, the assistant's, has a picture, {message.images[0].name}",
                hint="the model writes text alone: put the picture into a user's turn",
            )
    return found


def wordless(message: Message, where: str) -> str:
    """The text of an answer. Raises DataError if it has a picture."""
    if message.images:
        raise DataError(f"{where}: an answer with a picture, {message.images[0].name}", hint="give text alone")
    return message.content


def _with_column(messages: tuple[Message, ...], row: Row, images: Images) -> tuple[Message, ...]:
    where = f"{row.where}: {images.column}"
    numbers = [f"[{index}]" if len(images.cells) > 1 else "" for index in range(len(images.cells))]
    found = [image_of(cell, where + number, images.place) for number, cell in zip(numbers, images.cells, strict=True)]
    marks = sum(part.count(IMAGE) for message in messages for part in _parts(message) if isinstance(part, str))
    if not marks:
        return _first(messages, found, where)
    if marks != len(found):
        pictures = f"{len(found)} picture{'s' * (len(found) != 1)}"
        raise DataError(
            f"{where} = {excerpt(row.cells.get(images.column))}: {pictures}, and {marks} {IMAGE} in the text",
            hint=f"write as many {IMAGE} as there are pictures, or none: they then come first",
        )
    rest = iter(found)
    return tuple(
        message_of_parts(message.role, list(_filled(message, rest))) if IMAGE in message.content else message
        for message in messages
    )


def _first(messages: tuple[Message, ...], found: list[Image], where: str) -> tuple[Message, ...]:
    if not found:
        return messages
    first = next((index for index, message in enumerate(messages) if message.role == "user"), None)
    if first is None:
        raise DataError(f"{where}: no user's turn to put pictures in", hint=f"write {IMAGE}")
    whole = message_of_parts("user", [*found, *_parts(messages[first])])
    return (*messages[:first], whole, *messages[first + 1 :])


def _filled(message: Message, images: Iterator[Image]) -> Iterator[str | Image]:
    for part in _parts(message):
        if isinstance(part, Image):
            yield part
            continue
        first, *others = part.split(IMAGE)
        yield first
        for text in others:
            yield next(images)
            yield text


def _parts(message: Message) -> Sequence[str | Image]:
    return message.parts or (message.content,)
