"""Pictures in the record: each once by its digest, with a small copy of it. Writes and reads their tables alone."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from groupwise.data import Image, Message, message_of_parts
from groupwise.pictures import THUMBNAIL_BYTES, size_of, thumbnail
from groupwise.record.schema import restored, stored

Rows = Callable[[str, tuple[Any, ...]], Iterator[tuple[Any, ...]]]
"""(query, values) -> what the record has."""


@dataclass(frozen=True)
class Picture:
    """A picture that was asked about or shown. file: None if its bytes were given. width, height: pixels.

    thumbnail: a small PNG or JPEG of it."""

    digest: str
    reference: str
    file: str | None
    width: int
    height: int
    thumbnail: bytes


def add_pictures(db: sqlite3.Connection, images: Iterable[Image]) -> None:
    """Adds the pictures that the record lacks. Raises DataError for one that cannot be opened."""
    for image in images:
        if db.execute("SELECT 1 FROM pictures WHERE digest = ?", (image.digest,)).fetchone():
            continue
        small = image.data if image.data is not None and len(image.data) <= THUMBNAIL_BYTES else None
        row = (image.digest, stored(image.reference), stored(image.file) if image.file else None, *size_of(image))
        db.execute("INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, small, thumbnail(image)))


def pictures(rows: Rows) -> Iterator[Picture]:
    """All of them, in the order they were added."""
    query = "SELECT digest, reference, file, width, height, thumbnail FROM pictures ORDER BY rowid"
    for digest, reference, file, width, height, small in rows(query, ()):
        yield Picture(digest, restored(reference), restored(file) if file else None, width, height, small)


def placed(messages: Iterable[Message], rows: Rows) -> tuple[Message, ...]:
    """The messages, whose pictures have their files, or their bytes if these are few."""
    return tuple(_placed(message, rows) if message.images else message for message in messages)


def _placed(message: Message, rows: Rows) -> Message:
    query = "SELECT file, data, width, height FROM pictures WHERE digest = ?"
    known: Mapping[str, tuple[Any, ...]] = {
        image.digest: row for image in message.images for row in rows(query, (image.digest,))
    }
    parts = [part if isinstance(part, str) else _found(part, known.get(part.digest)) for part in message.parts]
    return replace(message_of_parts(message.role, parts), calls=message.calls)


def _found(image: Image, row: tuple[Any, ...] | None) -> Image:
    if row is None:
        return image
    file, data, width, height = row
    return replace(image, file=restored(file) if file else None, data=data, size=(width, height))
