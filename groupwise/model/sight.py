"""How a model sees pictures: what its forward pass is given beside ids, positions in three dimensions, and attention
over a picture's tokens. Whatever is a family's own is asked of the model's code.
"""

from collections.abc import Sequence
from functools import cached_property
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from groupwise.model.features import Features
from groupwise.model.gallery import Gallery

KINDS = ("mm_token_type_ids", "token_type_ids")
"""What forward passes call the kind of each token."""
_KNOWN_PLACES = 512  # rows whose positions are kept


class Sight:
    """A model and its gallery. joint: in streams the tokens of a picture attend to each other both ways."""

    def __init__(self, model: Any, gallery: Gallery, *, joint: bool = False) -> None:
        self.model, self.gallery, self.joint = model, gallery, joint
        self.features = Features(model, gallery)
        self._takes = set(signature(model.forward).parameters)
        self._places: dict[tuple[int, ...], Tensor] = {}

    def given(self, tokens: Tensor, *, rows: bool) -> dict[str, Any]:
        """What the model's forward pass is given beside the plain ids of these tokens [R, T]; {} without pictures.

        rows: the model finds positions and attention by itself; else it is told both.
        """
        pictures = self.gallery.shown(tokens)
        if not pictures:
            return {}
        given: dict[str, Any] = {"mm_encoder_outputs": {"image": self.features.of(pictures)}}
        if rows:
            kinds = self.gallery.is_feature(tokens)
            given |= {name: kinds for name in KINDS if name in self._takes}
            given |= self.features.extras(pictures, self._takes & self._asks)
        return given

    def places(self, row: Sequence[int]) -> Tensor:
        """Positions of a row's tokens: [T], or [3, T] in a model that has three for each."""
        if not self._asks:
            return torch.arange(len(row))
        last = max((place for place, token in enumerate(row) if token >= self.gallery.first), default=-1) + 1
        if not last:
            return torch.arange(len(row)).expand(3, -1)
        seen = tuple(row[:last])
        if seen not in self._places:
            if len(self._places) >= _KNOWN_PLACES:
                self._places.clear()
            self._places[seen] = self._asked(seen)
        begun = self._places[seen]
        behind = torch.arange(len(row) - last) + begun.max() + 1
        return torch.cat([begun, behind.expand(3, -1)], dim=1)

    def runs(self, tokens: Tensor) -> Tensor | None:
        """Of a stream's tokens [S] the number of the run of picture tokens that each is in, 0 for text; None: it is all
        the same to the model, or there are none."""
        feature = tokens >= self.gallery.first
        if not self.joint or not bool(feature.any()):
            return None
        begins = feature & ~torch.cat([feature.new_zeros(1), feature[:-1]])
        return begins.cumsum(0) * feature

    @cached_property
    def _asks(self) -> set[str]:
        """What the model's own positions are asked for with; empty: they are counted as in text."""
        asked = getattr(self.model.base_model, "get_rope_index", None)
        return set() if asked is None else set(signature(asked).parameters)

    def _asked(self, row: Sequence[int]) -> Tensor:
        """[3, T], by the model's own rule."""
        tokens = torch.tensor([row])
        settings: dict[str, Any] = self.features.extras(self.gallery.shown(tokens), self._asks)
        settings |= {"input_ids": self.gallery.plain(tokens), "attention_mask": torch.ones_like(tokens)}
        settings |= {name: self.gallery.is_feature(tokens) for name in KINDS}
        device = next(self.model.parameters()).device
        moved = {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in settings.items()
            if name in self._asks
        }
        positions: Tensor = self.model.base_model.get_rope_index(**moved)[0]
        return positions[:, 0].cpu()
