"""Long sequences that are read once and kept: in memory while they are short, else in a file of the run's own.

The file has no name from the moment it is made, so nothing is left of it whatever ends the run, and nobody can change
it. It is in $TMPDIR, else in /var/tmp, which is on a disk where /tmp may be memory.
"""

import os
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar, overload

import numpy as np

from groupwise.data import Message
from groupwise.errors import DataError

IN_MEMORY = 20_000
"""Items of a sequence that is kept in memory."""
BYTES_IN_MEMORY = 200_000_000
"""Bytes of their pictures."""
T = TypeVar("T")


def kept(items: Iterable[T]) -> Sequence[T]:
    """The items, in a tuple or in a file."""
    rest, first, held = iter(items), list[T](), 0
    for item in rest:
        first.append(item)
        held += _bytes(item)
        if len(first) > IN_MEMORY or held > BYTES_IN_MEMORY:
            return _InFile(chain(first, rest))
    return tuple(first)


def hashed(items: Iterable[T], *hashes: Callable[[T], bytes]) -> tuple[Sequence[T], list[bytes]]:
    """The items, kept, and what each hash gives for all of them, end to end."""
    found = [bytearray() for _ in hashes]

    def passing() -> Iterator[T]:
        for item in items:
            for laid_out, of in zip(found, hashes, strict=True):
                laid_out.extend(of(item))
            yield item

    sequence = kept(passing())
    return sequence, [bytes(laid_out) for laid_out in found]


def _bytes(item: Any) -> int:
    """Bytes of an item's pictures, where it has them itself."""
    messages: Sequence[Message] = getattr(item, "messages", ()) or getattr(item, "prompt", ())
    return sum(len(image.data or b"") for message in messages if message.parts for image in message.images)


class _InFile(Sequence[T]):
    """Items in a file without a name, each pickled; of each the place of its end is kept, 8 bytes."""

    def __init__(self, items: Iterable[T]) -> None:
        folder = os.environ.get("TMPDIR") or next((place for place in ("/var/tmp",) if os.access(place, os.W_OK)), None)
        self._ends = array("Q", [0])
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=1 << 20)  # noqa: SIM115  open as long as we are
            weakref.finalize(self, self._file.close)
            for item in items:
                self._ends.append(self._ends[-1] + self._file.write(pickle.dumps(item, pickle.HIGHEST_PROTOCOL)))
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"{folder or tempfile.gettempdir()}: no room to keep {len(self._ends)} rows: {error.strerror}",
                hint="set TMPDIR to a folder on a disk with as much room as the data take",
            ) from None

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        if isinstance(place, slice):
            return tuple(self[index] for index in range(*place.indices(len(self))))
        index = range(len(self))[place]
        start, end = self._ends[index], self._ends[index + 1]
        # pread: rewards are scored on another thread, and a file has one place only
        found: T = pickle.loads(os.pread(self._file.fileno(), end - start, start))
        return found

    def __iter__(self) -> Iterator[T]:
        return (self[index] for index in range(len(self)))


class Chosen(Sequence[T]):
    """Some items of a sequence in an order. renamed: by index in that sequence, fields of an item that are replaced."""

    def __init__(self, items: Sequence[T], indices: np.ndarray, renamed: Mapping[int, T] | None = None) -> None:
        self._items, self._indices, self._renamed = items, indices, renamed or {}

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return tuple(self._item(index) for index in self._indices[place])
        return self._item(self._indices[place])

    def __iter__(self) -> Iterator[T]:
        return (self._item(index) for index in self._indices)

    def _item(self, index: Any) -> T:
        found = self._renamed.get(int(index))
        return self._items[int(index)] if found is None else found


def chosen(items: Sequence[T], indices: np.ndarray, renamed: Mapping[int, T] | None = None) -> Sequence[T]:
    """Some items of a sequence: in memory if that is."""
    view = Chosen(items, indices, renamed)
    return tuple(view) if isinstance(items, tuple) else view
