"""Pictures of a question as reward functions get them: Pillow's, in RGB, as the model sees them. Runs in the child.

Decoded where a function asks for them by name, once for all outputs of a question; else when it looks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

from groupwise.data import Image, Question, message_of_parts
from groupwise.pictures import opened

if TYPE_CHECKING:
    from groupwise.pictures import Drawing

NAMES = ("images", "image")
"""Parameters by which a function asks for all pictures of a question, and for its first."""


def images_of(question: Question) -> tuple[Image, ...]:
    """The pictures of what the policy was asked, in the order of the text."""
    return tuple(image for message in question.messages for image in message.images)


def without_bytes(question: Question) -> Question:
    """The question with its pictures named, for a function that is asked of many at once and looks at none."""
    if not any(image.data is not None for image in images_of(question)):
        return question
    named = (
        message_of_parts(
            turn.role, [part if isinstance(part, str) else replace(part, data=None) for part in turn.parts]
        )
        if turn.parts
        else turn
        for turn in question.messages
    )
    return replace(question, messages=tuple(named))


def asked_for(
    samples: Sequence[tuple[Question, Any, Any]], names: set[str] | None, needed: set[str]
) -> dict[str, list[Any]]:
    """By name, of each sample its question's pictures (images) or the first of them (image), None without any.

    names: what the function asks for; None: anything, so that nothing is decoded before it looks. needed: of these,
    what has no default, and is given also where no question has a picture."""
    pictures = [Unopened(images_of(question)) for question, _, _ in samples]
    if not any(pictures):
        names = needed if names is None else names & needed
    elif names is None:
        return {"images": pictures}
    found: dict[str, list[Any]] = {}
    if "images" in names:
        found["images"] = [list(some) for some in pictures]
    if "image" in names:
        found["image"] = [next(iter(some), None) for some in pictures]
    return found


class Unopened(Sequence["Drawing"]):
    """Pictures that are decoded when they are looked at."""

    def __init__(self, images: Sequence[Image]) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, place: int) -> "Drawing": ...
    @overload
    def __getitem__(self, place: slice) -> "Sequence[Drawing]": ...
    def __getitem__(self, place: int | slice) -> "Drawing | Sequence[Drawing]":
        if isinstance(place, slice):
            return Unopened(self._images[place])
        return _opened(self._images[place]).copy()  # a function may draw on it, and the next output has it too

    def __iter__(self) -> "Iterator[Drawing]":
        return (self[place] for place in range(len(self)))


@lru_cache(maxsize=8)
def _opened(image: Image) -> "Drawing":
    return opened(image)
