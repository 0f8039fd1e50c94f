"""Pictures as token ids: each token of a picture has an id at or behind the vocabulary's end, its own in this process.

A row of ids then says all that a model reads: two questions that differ in a picture differ as rows. Knows a
processor, no weights.
"""

import math
import operator
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from os import SEEK_END
from tempfile import SpooledTemporaryFile
from typing import Any
from weakref import finalize

import torch
from torch import Tensor

from groupwise.data import Image
from groupwise.errors import ModelError
from groupwise.pictures import blank, opened, size_of

IN_MEMORY = 200 * 2**20
"""Bytes of pictures without a file that are kept in memory; beyond, all are in a file without a name."""
_TEXT = {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "text_replacement_offsets"}


@dataclass(frozen=True)
class Picture:
    """A picture with ids. first, count: the ids of its tokens are first, first + 1, ..., first + count - 1.

    kept: where in the gallery's store its file's bytes are, and how many; None: the image names a file.
    """

    image: Image
    first: int
    count: int
    kept: tuple[int, int] | None = None


class Gallery:
    """The pictures that were seen, by ids. mark: what the chat template writes for a picture; token: the id that the
    model knows each of a picture's tokens by; first: the first id that is no token of the vocabulary."""

    def __init__(
        self, processor: Any, config: Any, *, first: int, least: int | None = None, most: int | None = None, where: str
    ) -> None:
        """least, most: pixels to which pictures are scaled before the processor sees them.

        Raises ModelError if the processor or the config does not say how pictures stand in the text.
        """
        token = next((found for name in _TOKENS if isinstance(found := getattr(config, name, None), int)), None)
        mark = getattr(processor, "image_token", None)
        if token is None or not isinstance(mark, str):
            raise ModelError(
                f"{where}: {type(processor).__name__} and {type(config).__name__} name no token of pictures",
                hint="choose another model",
            )
        self.processor, self.mark, self.token, self.first = processor, mark, token, first
        self._least, self._most, self._where = least, most, where
        self._texts: dict[tuple[int, int], str] = {}  # by width and height
        self._empty()

    def _empty(self) -> None:
        self._known: dict[tuple[str, tuple[int, int]], Picture] = {}
        self._by_first: dict[int, Picture] = {}
        self._next = self.first
        self._store = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 (it lives as long as the gallery)
        finalize(self, self._store.close)

    def anew(self) -> "Gallery":
        """A gallery of the same model without pictures."""
        fresh = copy(self)
        fresh._empty()
        return fresh

    def tokens_of(self, images: Sequence[Image], most: int | None = None) -> int:
        """Tokens of some pictures, if model.max_pixels were `most`; None: as they are. None of them gets ids."""
        bounded = self.anew()
        bounded._most = self._most if most is None else most
        return sum(bounded.written(image).count(self.token) for image in images)

    def expanded(self, text: str, images: Sequence[Image], where: str) -> str:
        """A rendered text with what the processor writes for each picture in place of its mark.

        Raises ModelError unless the template wrote a mark for each picture.
        """
        first, *rest = text.split(self.mark)
        if len(rest) != len(images):
            raise ModelError(
                f"{where}: the chat template writes {len(rest)} pictures ({self.mark}) of {len(images)}",
                hint="give model.chat_template a file that writes every picture",
            )
        return first + "".join(self._text(image) + text for image, text in zip(images, rest, strict=True))

    def numbered(self, ids: Iterable[int], images: Sequence[Image]) -> list[int]:
        """Ids with those of the pictures in place of the model's one. images: those of the text, and more behind."""
        rest = (
            token
            for picture in map(self.picture, images)
            for token in range(picture.first, picture.first + picture.count)
        )
        return [next(rest) if token == self.token else token for token in ids]

    def picture(self, image: Image) -> Picture:
        """The picture with its ids. Raises DataError if it cannot be read."""
        size = size_of(image)
        known = self._known.get((image.digest, size))
        if known is None:
            count = self.written(image).count(self.token)
            known = Picture(replace(image, data=None, size=size), self._next, count, self._keep(image.data))
            self._known[image.digest, size] = self._by_first[known.first] = known
            self._next += count
        return known

    def _keep(self, data: bytes | None) -> tuple[int, int] | None:
        return None if data is None else (self._store.seek(0, SEEK_END), self._store.write(data))

    def written(self, image: Image) -> list[int]:
        """Token ids of what the processor writes for a picture."""
        return list(self.processor.tokenizer(self._text(image), add_special_tokens=False)["input_ids"])

    def plain(self, tokens: Tensor) -> Tensor:
        """Ids as the model knows them."""
        return tokens.masked_fill(tokens >= self.first, self.token)

    def shown(self, tokens: Tensor) -> list[Picture]:
        """The pictures in rows of ids, row after row, each as often as it stands there."""
        flat = tokens.flatten()
        begun = set(flat[flat >= self.first].unique().tolist())
        if not begun:
            return []
        starts = {token: self._by_first[token] for token in begun if token in self._by_first}
        return [starts[token] for token in flat.tolist() if token in starts]

    def pixels(self, picture: Picture) -> dict[str, Any]:
        """What the processor makes of a picture for the model: tensors by the names that the model gives them."""
        image = picture.image
        if picture.kept is not None:
            start, length = picture.kept
            self._store.seek(start)
            image = replace(image, data=self._store.read(length))
        return self.pixels_of([image])

    def pixels_of(self, images: Sequence[Image]) -> dict[str, Any]:
        """The same of several pictures of one text, as the processor puts them together."""
        return self._processed([self._scaled(image) for image in images])[0]

    def is_feature(self, tokens: Tensor) -> Tensor:
        """What kind each token is for a model that asks: 1 for a picture's, 0 for text."""
        return (tokens >= self.first).long()

    def _text(self, image: Image) -> str:
        size = self._bounded(size_of(image))
        if size not in self._texts:
            self._texts[size] = self._processed([blank(size)])[1]
        return self._texts[size]

    def _scaled(self, image: Image) -> Any:
        drawing = opened(image)
        size = self._bounded(drawing.size)
        return drawing if size == drawing.size else drawing.resize(size)

    def _bounded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height within the bounds, as EasyR1 scales: both by one factor, rounded down."""
        width, height = size
        for bound, wrong in ((self._most, operator.gt), (self._least, operator.lt)):
            if bound is not None and wrong(width * height, bound):
                factor = math.sqrt(bound / (width * height))
                width, height = max(1, int(width * factor)), max(1, int(height * factor))
        return width, height

    def _processed(self, drawings: Sequence[Any]) -> tuple[dict[str, Any], str]:
        """Tensors, and what the processor writes for the last picture in a text."""
        try:
            found = self.processor(
                text=[self.mark * len(drawings)],
                images=[drawings],
                return_tensors="pt",
                text_kwargs={"return_text_replacement_offsets": True, "add_special_tokens": False},
            )
            replaced = found["text_replacement_offsets"][0][-1]
        except Exception as error:  # whatever a processor makes of a picture
            sizes = " and ".join("{} x {}".format(*drawing.size) for drawing in drawings)
            reason = (str(error).strip() or type(error).__name__).split("\n")[0][:200]
            raise ModelError(
                f"{self._where}: {type(self.processor).__name__} takes no picture of {sizes} pixels: {reason}",
                hint="set model.min_pixels or model.max_pixels, or choose another model",
            ) from None
        return {name: value for name, value in found.items() if name not in _TEXT}, replaced["replacement"]


_TOKENS = ("image_token_id", "image_token_index")
"""What configs call the id of a picture's tokens."""


def no_token_ids(config: Any) -> list[int]:
    """Ids that stand for a picture, a video or a sound in the text: none that a policy may draw."""
    names = [f"{kind}_{form}" for kind in ("image", "video", "audio") for form in ("token_id", "token_index")]
    return sorted({found for name in names if isinstance(found := getattr(config, name, None), int)})


def joined(parts: Sequence[Any]) -> Any:
    """Tensors behind each other along their first axis; lists one after the other."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return [value for part in parts for value in part]
