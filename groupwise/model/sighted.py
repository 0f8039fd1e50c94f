"""What a model that reads pictures allows, tried when it is loaded, on pictures made on the spot.

Every way is held against the processor and a plain forward pass over one row.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groupwise.data import Image, Sampling
from groupwise.errors import ModelError
from groupwise.model import probe
from groupwise.model.batch import Rollouts
from groupwise.model.gallery import Gallery, no_token_ids
from groupwise.model.parts import named_parts
from groupwise.model.policy import Policy
from groupwise.model.sight import KINDS, Sight
from groupwise.pictures import png_of_pixels

log = logging.getLogger(__name__)

_SIZES = ((56, 84), (112, 64))
"""Width and height of the pictures that are tried."""
_SAMPLING = Sampling(max_new_tokens=1)


@dataclass(frozen=True)
class Row:
    """tokens: ids of a question and an output; images: in their order."""

    tokens: list[int]
    question: int
    images: tuple[Image, ...]


def sight_of(model: Any, gallery: Gallery, *, named: str) -> Sight:
    """How a model sees pictures. Raises ModelError if its forward pass takes no features of them."""
    if not hasattr(model, "get_image_features") or "mm_encoder_outputs" not in signature(model.forward).parameters:
        raise ModelError(
            f"{named}: {type(model).__name__} takes pictures in a way that is not known here",
            hint="choose another model (docs/models.md lists those that are known)",
        )
    return Sight(model, gallery)


def settle_sight(policy: Policy, own: Policy, named: str) -> None:
    """Finds out how pictures are computed, and whether streams may have some. own: the policy that is tried things on.

    Raises ModelError if in no way that is right.
    """
    assert policy.sight is not None
    learns = {name for name, weight in policy.model.named_parameters() if weight.requires_grad}
    for name, weight in own.model.named_parameters():  # a twin's all do
        weight.requires_grad_(name in learns)
    sight = Sight(own.model, policy.sight.gallery.anew())
    own = replace(own, sight=sight, question_once=False)
    try:
        rows = pictured_rows(own.model, sight.gallery)
        expected = torch.cat([plain_logprobs(own, row) for row in rows])
        sight.features.replays = policy.sight.features.replays = _same(own, rows, expected)
        if not sight.features.replays and not _same(own, rows, expected):
            raise ModelError(
                f"{named}: {type(own.model).__name__} has other log-probabilities with features of pictures that are "
                "computed apart",
                hint="choose another model",
            )
        if policy.question_once:
            policy.question_once = _stream_is_right(own, rows, expected) and _gradient_is_right(own, rows)
            policy.sight.joint = sight.joint
    except probe.REFUSALS as error:
        raise ModelError(
            f"{named}: {type(own.model).__name__} reads no pictures here ({probe.reason(error)})",
            hint="choose another model",
        ) from None


def with_placeholders(lacking: Tensor | None, model: Any) -> Tensor | None:
    """Ids that nothing may draw, with those that stand for pictures, videos and sounds; those within the vocabulary."""
    rows = model.get_output_embeddings().weight.shape[0]
    more = [token for token in no_token_ids(model.config) if token < rows]
    known = [] if lacking is None else lacking.tolist()
    return torch.tensor(sorted({*known, *more})) if known or more else None


def pictured_rows(model: Any, gallery: Gallery) -> list[Row]:
    """Rows of text and pictures: two outputs to a question with two, one to a question of text alone, one to a question
    with one picture, whose output goes on with a picture."""
    first, second = (made(size) for size in _SIZES)
    text = [probe.tokens_of(model, 4, seed=200 + number, padded=False) for number in range(8)]
    a, b = (_written(gallery, image) for image in (first, second))
    asked = [*text[0], *a, *text[1], *b, *text[2]]
    alone, one = [*text[3], *text[4]], [*text[5], *b, *text[6]]
    return [
        Row([*asked, *text[3]], len(asked), (first, second)),
        Row([*asked, *text[7], *text[5]], len(asked), (first, second)),
        Row([*alone, *text[6]], len(alone), ()),
        Row([*one, *text[0], *a, *text[7]], len(one), (second, first)),
    ]


def made(size: tuple[int, int]) -> Image:
    """A picture of that width and height with other colours at each place."""
    across, down = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    pixels = np.stack([across * 7 % 256, down * 11 % 256, (across * down) % 256], -1).astype(np.uint8)
    return Image("", f"probe-{size}", data=png_of_pixels(pixels))


def plain_logprobs(policy: Policy, row: Row) -> Tensor:
    """Log-probabilities [n] of a row's output, its picture tokens left out, by the processor's pixels and one pass."""
    assert policy.sight is not None
    gallery = policy.sight.gallery
    tokens = torch.tensor([row.tokens], device=policy.device)
    logits = plain_logits(policy.model, gallery, tokens, row.images)
    wanted = [place for place in range(row.question, len(row.tokens)) if row.tokens[place] < gallery.first]
    chosen = policy.known(logits[[place - 1 for place in wanted]])
    return chosen.log_softmax(-1).gather(-1, tokens[0, wanted][:, None])[:, 0]


def plain_logits(model: Any, gallery: Gallery, tokens: Tensor, images: Sequence[Image]) -> Tensor:
    """Logits [T, V] of one row [1, T] with the processor's pixels of its pictures."""
    takes, given = signature(model.forward).parameters, dict[str, Any]()
    if images:
        given = {name: value for name, value in gallery.pixels_of(images).items() if name in takes}
        given |= {name: gallery.is_feature(tokens) for name in KINDS if name in takes}
    moved = {name: v.to(tokens.device) if isinstance(v, Tensor) else v for name, v in given.items()}
    logits: Tensor = model(gallery.plain(tokens), use_cache=False, **moved).logits[0]
    return logits.float()


def _stream_is_right(own: Policy, rows: Sequence[Row], expected: Tensor) -> bool:
    """Whether streams with pictures are right, with their tokens seeing each other both ways or not."""
    assert own.sight is not None
    once = replace(own, question_once=True)
    for joint in (False, True):
        own.sight.joint = joint
        if _same(once, rows, expected):
            return True
    own.sight.joint = False
    log.warning("%s: with pictures a question is computed again for each output", type(own.model).__name__)
    return False


def _gradient_is_right(own: Policy, rows: Sequence[Row]) -> bool:
    """Whether a stream's gradient of the rows' log-probabilities is that of plain passes, tried on the smallest weight
    of each part that learns."""
    parts, smallest = named_parts(own.model), dict[str, Tensor]()
    learning = {name: weight for name, weight in own.model.named_parameters() if weight.requires_grad}
    for name, weight in learning.items():
        if parts[name] not in smallest or weight.numel() < smallest[parts[name]].numel():
            smallest[parts[name]] = weight
    if not smallest:
        return True
    weights, rollouts = list(smallest.values()), rollouts_of(own, rows)
    chosen = {id(weight) for weight in weights}
    try:
        for weight in learning.values():
            weight.requires_grad_(id(weight) in chosen)
        with torch.enable_grad():
            plain = torch.stack([plain_logprobs(own, row).sum() for row in rows]).sum()
            expected = torch.autograd.grad(plain, weights, allow_unused=True)
            once = replace(own, question_once=True)
            once.backward(rollouts, rollouts.output_mask, sampling=_SAMPLING, loss=lambda logprobs, _: logprobs.sum())
        right = all(
            weight.grad is slope is None
            or (slope is not None and weight.grad is not None and probe.same(slope, weight.grad))
            for weight, slope in zip(weights, expected, strict=True)
        )
    finally:
        for weight in learning.values():
            weight.requires_grad_(True)
            weight.grad = None
    if not right:
        log.warning("%s: with pictures each output is computed in a row, for its gradient", type(own.model).__name__)
    return right


def _same(policy: Policy, rows: Sequence[Row], expected: Tensor) -> bool:
    try:
        return probe.same(expected, logprobs(policy, rows))
    except probe.REFUSALS as error:
        log.warning("%s: %s", type(policy.model).__name__, probe.reason(error))
        return False


def logprobs(policy: Policy, rows: Sequence[Row]) -> Tensor:
    """Log-probabilities of the rows' outputs in one pass, one row after the other, picture tokens left out."""
    rollouts = rollouts_of(policy, rows)
    return policy.logprobs(rollouts, rollouts.output_mask, sampling=_SAMPLING).logprobs[rollouts.output_mask]


def rollouts_of(policy: Policy, rows: Sequence[Row]) -> Rollouts:
    assert policy.sight is not None
    first = policy.sight.gallery.first
    masks = [[place >= row.question and token < first for place, token in enumerate(row.tokens)] for row in rows]
    questions = [tuple(row.tokens[: row.question]) for row in rows]
    group = [questions.index(question) for question in questions]
    return Rollouts.of_rows(
        [row.tokens for row in rows],
        masks=masks,
        question_lengths=[row.question for row in rows],
        group=group,
        device=policy.device,
    )


def _written(gallery: Gallery, image: Image) -> list[int]:
    """A picture as the processor writes it."""
    return gallery.numbered(gallery.written(image), [image])
