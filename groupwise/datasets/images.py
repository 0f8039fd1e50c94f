"""Pictures of a row as messages carry them: found, digested, put where they stand in the text. Decodes none.

A picture is a path, relative to the folder of its file, a file: or data: URL, {"bytes", "path"} as Parquet has it, or
an object that saves itself as PNG (PIL's). Files are read for their digest and not kept.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from groupwise.data import IMAGE, Image, Message, message_of_parts
from groupwise.datasets.row import Row, excerpt, nothing
from groupwise.errors import DataError

COLUMNS = ("images", "image")
"""Columns with the pictures of a question."""
TYPES = ("image", "image_url", "input_image")
"""Types of parts that are pictures: transformers' and Anthropic's, OpenAI's two."""
_SOURCES = ("image", "image_url", "url", "path", "source")
_FORMS = 'give a path, a data: URL, or {"bytes": ..., "path": ...}'


@dataclass(frozen=True)
class Images:
    """What pictures a row may have. folder: of its file. column: with pictures, "" if there is none; cells: they."""

    folder: str
    column: str = ""
    cells: tuple[Any, ...] = ()


def images_of(row: Row) -> Images:
    """The row's column of pictures. Raises DataError for two of them."""
    there = [name for name in COLUMNS if not nothing(row.cells.get(name))]
    if not there:
        return Images(row.folder)
    if len(there) > 1:
        raise DataError(f"{row.where}: both {' and '.join(there)}", hint="keep one, or name one in ignore_columns")
    cell = row.cells[there[0]]
    return Images(row.folder, there[0], tuple(cell) if isinstance(cell, list | tuple) else (cell,))


def part_of(part: Mapping[str, Any], place: str, images: Images) -> str | Image:
    """The picture of a part; IMAGE where it names none and the row's column has it."""
    source = next((part[name] for name in _SOURCES if not nothing(part.get(name))), None)
    if source is None and not nothing(part.get("bytes")):
        source = part["bytes"]
    if source is not None:
        return _image(source, place, images.folder)
    if not images.cells:
        raise DataError(f"{place} = {excerpt(part)}: names no picture, and there is no column images", hint=_FORMS)
    return IMAGE


def placed(messages: tuple[Message, ...], row: Row, images: Images) -> tuple[Message, ...]:
    """The messages with the column's pictures where the text has IMAGE; without any, before the first user's text.

    Raises DataError if there are as many of neither.
    """
    if not images.cells:
        return messages
    place = f"{row.where}: {images.column}"
    numbers = [f"[{index}]" for index in range(len(images.cells))] if len(images.cells) > 1 else [""]
    found = [_image(cell, place + number, images.folder) for number, cell in zip(numbers, images.cells, strict=True)]
    marks = sum(part.count(IMAGE) for message in messages for part in _parts(message) if isinstance(part, str))
    if not marks:
        first = next((index for index, message in enumerate(messages) if message.role == "user"), None)
        if first is None:
            raise DataError(f"{row.where}: {images.column}: no user's turn to put pictures in", hint=f"write {IMAGE}")
        whole = message_of_parts("user", [*found, *_parts(messages[first])])
        return (*messages[:first], whole, *messages[first + 1 :])
    if marks != len(found):
        raise DataError(
            f"{row.where}: {images.column} = {excerpt(row.cells[images.column])}: {len(found)} pictures, and {marks} "
            f"{IMAGE} in the text",
            hint=f"write as many {IMAGE} as there are pictures, or none: they then come first",
        )
    rest = iter(found)
    return tuple(message_of_parts(message.role, list(_filled(message, rest))) for message in messages)


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


def _image(given: Any, place: str, folder: str) -> Image:
    if isinstance(given, Mapping):
        if given.get("type") == "base64":  # Anthropic's
            return _of_bytes(_decoded(str(given.get("data")), place), place)
        data, name = given.get("bytes"), given.get("path") or given.get("url")
        if isinstance(data, bytes):
            return _of_bytes(data, place, reference=str(name or ""))
        given = given if name is None else name
    if isinstance(given, bytes):
        return _of_bytes(given, place)
    if callable(getattr(given, "save", None)):
        buffer = BytesIO()
        given.save(buffer, "PNG")
        return _of_bytes(buffer.getvalue(), place)
    if not isinstance(given, str):
        raise DataError(f"{place} = {excerpt(given)}: no picture", hint=_FORMS)
    if given.startswith("data:"):
        return _of_bytes(_decoded(given.partition(",")[2], place), place)
    if given.lower().startswith(("http://", "https://")):
        raise DataError(f"{place} = {excerpt(given)}: not fetched", hint="save the picture and give its path")
    local = unquote(given.removeprefix("file:").removeprefix("//")) if given.startswith("file:") else given
    file = Path(folder) / local
    try:
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{place} = {excerpt(given)}: {file}: {reason}", hint=_FORMS) from None
    found = _of_bytes(data, place, reference=given)
    return Image(found.reference, found.digest, file=str(file))


def _of_bytes(data: bytes, place: str, reference: str = "") -> Image:
    if not data:
        raise DataError(f"{place}: a picture of no bytes", hint=_FORMS)
    return Image(reference, hashlib.blake2b(data, digest_size=12).hexdigest(), data=data)


def _decoded(text: str, place: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{place} = {excerpt(text)}: no base64: {error}", hint=_FORMS) from None
