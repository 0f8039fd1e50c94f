"""What a model allows, tried when it is loaded: every fast way beside a plain pass over one row, without a cache.

In fp32, where a difference is not rounding; with activations of about one size, so that a model that is almost uniform
cannot pass by being so; and under a config whose windows, chunks and caps are near, so that a few tokens reach them.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from groupwise.errors import ModelError
from groupwise.model.batch import Rollouts
from groupwise.model.last_layer import handing_over
from groupwise.model.positions import require_positions
from groupwise.model.products import Products, use_products
from groupwise.model.traits import context, nearer, routes_tokens
from groupwise.model.twin import sharpened, twin

log = logging.getLogger(__name__)

TOLERANCE = 2e-3
"""Of the spread of the right values; fp32 rounding is a tenth of it at most."""
REFUSALS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError)
"""What a model raises that cannot be run in some way (NotImplementedError is a RuntimeError)."""
_OUTPUTS = {3: (6,), 9: (5, 8)}
"""Tokens of a question: tokens of each of its outputs."""
_FEW = {2: (3,), 4: (2, 4)}
"""The same for a model whose context is shorter than those."""
Values = Callable[[Rollouts, Tensor, bool], Tensor]
"""(rollouts, mask [B, T], each question once) -> a value or more of each masked token, [N, ...]."""


@contextmanager
def tried(model: Any, matmul_backend: Products) -> Iterator[tuple[Any, bool]]:
    """The model to try things on, its activations of one size, while this holds; and whether that reaches every place
    where its config says that something changes: if not, what it allows is not known."""
    near, subject, wholly = nearer(model.config), model, True
    if near is not None:
        try:
            subject = twin(model, near)
            use_products(subject, matmul_backend)
        except REFUSALS as error:
            log.warning("%s is computed the plain way, slower (%s)", type(model).__name__, reason(error))
            subject, wholly = model, False
    with torch.no_grad(), sharpened(subject):
        yield subject, wholly


def tokens_of(model: Any, length: int, *, seed: int = 0, padded: bool = True) -> list[int]:
    """Random token ids that stand for text, with one of padding among them and the end token behind, as a sampler may
    draw them: some models count their positions by what is padding. padded: False: without these two."""
    config = model.config.get_text_config(decoder=True)
    settings = {**model.config.to_dict(), **config.to_dict()}
    special = {value for name, value in settings.items() if name.endswith(("_token_id", "_index"))}
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(config.vocab_size, (4 * length + 16,), generator=generator).tolist()
    text = [token for token in drawn if token not in special][:length]
    for place, name in ((length // 2, "pad_token_id"), (length - 1, "eos_token_id")):
        token = settings.get(name)
        if padded and isinstance(token, int) and 0 <= token < config.vocab_size and length > 4:
            text[place] = token
    return text


def is_roomy(model: Any) -> bool:
    """True if the longest row that is tried is within the model's context."""
    return context(model.config)[0] >= 20


def plain_logits(model: Any, tokens: Sequence[int]) -> Tensor:
    """The model's own logits [T, V] of one row, in a pass without padding, positions or cache."""
    logits: Tensor = model(torch.tensor([list(tokens)], device=model.device), use_cache=False).logits
    return logits[0].float()


def require_plain(model: Any, named: str) -> tuple[list[int], Tensor]:
    """Raises ModelError unless the model gives logits of token ids alone, each from the tokens before it, as far as its
    config promises; returns a row and its logits [T, V]."""
    row, text = tokens_of(model, 8), tokens_of(model, 8, padded=False)
    try:
        whole, beginning = plain_logits(model, row), plain_logits(model, row[:5])
    except REFUSALS as error:
        raise ModelError(
            f"{named}: {type(model).__name__} gives no logits of token ids alone ({reason(error)})",
            hint="choose a decoder-only language model",
        ) from None
    if not same(whole[:5], beginning):
        if same(plain_logits(model, text)[:5], plain_logits(model, text[:5])):
            raise ModelError(
                f"{named}: {type(model).__name__} takes a padding token inside a text for one that is missing at its "
                "end, so the logits of an output that holds one are wrong",
                hint="choose another model",
            )
        raise ModelError(
            f"{named}: the logits of {type(model).__name__} depend on later tokens, so it cannot be sampled from",
            hint="choose a decoder-only language model (for an encoder, set is_decoder in its config.json)",
        )
    require_positions(model, named, text, context=context(model.config)[0])
    return row, whole


def require_gradient(model: Any, named: str, row: Sequence[int]) -> None:
    """Raises ModelError if the model, without dropout, gives no gradient."""
    weight = next((weight for weight in model.parameters() if weight.requires_grad), None)
    if weight is None:
        return
    try:
        with torch.enable_grad():
            torch.autograd.grad(plain_logits(model, row).sum(), weight, allow_unused=True)
    except REFUSALS as error:
        raise ModelError(
            f"{named}: {type(model).__name__} cannot be trained ({reason(error)})",
            hint="choose another model",
        ) from None


def head_is_linear(model: Any, head: Callable[[Tensor], Tensor], row: Sequence[int], expected: Tensor) -> bool:
    """True if a head of the decoder's states gives the model's own logits of a row, [T, V], and the model's forward
    pass gives the last layer those states."""
    tokens, given = torch.tensor([list(row)], device=model.device), list[Tensor]()
    try:
        states = model.get_decoder()(tokens, use_cache=False).last_hidden_state
        with handing_over(model.get_output_embeddings(), given.append):
            model(tokens, use_cache=False)
        linear = same(expected, head(states)[0].float()) and bool(given) and same(states, given[0])
    except REFUSALS:  # a model that is its own decoder, as Llama 4, has no states to give
        linear = False
    if not linear:
        log.warning("%s: logits are not a plain last layer; they are computed whole", type(model).__name__)
    return linear


class Alone:
    """The values of a few rows, each in a pass by itself, computed once for all that is held against them."""

    def __init__(self, model: Any, values: Values) -> None:
        self._model, self._values = model, values
        self._known: dict[int, tuple[Rollouts, Tensor]] = {}

    def rows_agree(self) -> bool:
        """True if rows of uneven length in one pass have the same values."""
        return self._agree(once=False)

    def questions_can_be_shared(self) -> bool:
        """True if a stream with each question once has the same values."""
        named = type(self._model).__name__
        try:
            shared = self._agree(once=True)
        except REFUSALS as error:
            log.warning("%s takes no attention of ours (%s)", named, reason(error))
            return False
        if not shared:
            log.warning("%s: a question is computed again for each of its outputs", named)
        return shared

    def _agree(self, *, once: bool) -> bool:
        # where a router may send a token elsewhere by a hair, one text that agrees is enough
        seeds = (0, 1) if routes_tokens(self._model.config) else (0,)
        return any(self._agree_on(seed, once=once) for seed in seeds)

    def _agree_on(self, seed: int, *, once: bool) -> bool:
        if seed not in self._known:
            rollouts = _rollouts(self._model, seed)
            parts = [rollouts[torch.tensor([row])] for row in range(len(rollouts.lengths))]
            self._known[seed] = rollouts, torch.cat([self._values(part, part.output_mask, False) for part in parts])
        rollouts, alone = self._known[seed]
        return same(alone, self._values(rollouts, rollouts.output_mask, once))


def _rollouts(model: Any, seed: int) -> Rollouts:
    """Outputs of two groups, of uneven lengths, of text drawn from a seed."""
    rows, lengths, groups = [], [], []
    for number, (question, outputs) in enumerate((_OUTPUTS if is_roomy(model) else _FEW).items()):
        asked = tokens_of(model, question, seed=100 * seed + number)
        for place, output in enumerate(outputs):
            rows.append(asked + tokens_of(model, output, seed=100 * seed + 10 * (number + 1) + place))
            lengths.append(question)
            groups.append(number)
    masks = [[place >= question for place in range(len(row))] for row, question in zip(rows, lengths, strict=True)]
    return Rollouts.of_rows(rows, masks=masks, question_lengths=lengths, group=groups, device=model.device)


def same(expected: Tensor, found: Tensor) -> bool:
    """True if values are the expected ones but for rounding, measured by the spread of those; nan is equal to nan."""
    right = expected[expected.isfinite()].double()
    spread = float(right.std()) if len(right) > 1 else 0.0
    return expected.shape == found.shape and torch.allclose(
        expected.double(), found.double(), rtol=0.0, atol=TOLERANCE * spread, equal_nan=True
    )


def reason(error: BaseException) -> str:
    """The start of what a model raised."""
    return (str(error).strip() or type(error).__name__).split("\n")[0][:200]
