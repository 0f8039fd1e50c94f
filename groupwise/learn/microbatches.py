"""Micro-batches that do not fit into memory: cut smaller and done again, with the same sums. Knows no loss."""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from groupwise.activity import advance, counted, doing
from groupwise.config import LearningConfig
from groupwise.errors import RunError
from groupwise.learn.ranks import ALONE, Ranks
from groupwise.model.memory import out_of_memory
from groupwise.model.policy import Policy

Piece = TypeVar("Piece")
_HINT = "lower rollout.max_new_tokens or examples.max_tokens, or set update.activation_checkpointing to layers"


def usual_tokens(device: str) -> int:
    """Of a forward-backward pass. A CPU's products are at full speed with 500 rows, a GPU's with many more."""
    return 1536 if device == "cpu" else 16384


def microbatch_tokens(policy: Policy, config: LearningConfig) -> int:
    """Tokens of a forward-backward pass: what the recipe says, less where that does not fit into memory."""
    wanted = config.tokens_per_microbatch or usual_tokens(policy.device.type)
    return min(wanted, policy.microbatch_limit or wanted)


def in_microbatches(
    policy: Policy,
    config: LearningConfig,
    *,
    cut: Callable[[int], Sequence[Piece]],
    units: Callable[[Piece], int],
    begin: Callable[[], None],
    do: Callable[[Piece], None],
    what: str = "output",
    ranks: Ranks = ALONE,
    idle: Piece | None = None,
) -> int:
    """Does each micro-batch of an optimizer step; returns how often their size was halved.

    cut: tokens -> the micro-batches of at most so many. units: of one, what can be cut apart. begin: undoes all that
    `do` has added, and is called first. A piece that runs out of memory may have added a part of its gradient, so all
    begin anew with smaller ones, which later steps keep to. Raises RunError if one unit alone does not fit.

    Every rank does as many pieces as the one that has most: a rank with fewer goes on with `idle`, which adds nothing.
    What fails on one rank fails on all.
    """
    halvings = 0
    while True:
        begin()
        tokens = microbatch_tokens(policy, config)
        pieces = cut(tokens)
        several = [*pieces, *_idle(idle, int(ranks.most(len(pieces))) - len(pieces))]
        for piece in counted(several, "update", "micro-batches"):
            fits = _fits(do, piece, ranks)
            if not fits:
                break
        else:
            return halvings
        _forget(policy)
        if ranks.most(not fits.here and units(piece) == 1):
            raise RunError(f"one {what} alone does not fit into memory", hint=_HINT)
        count, halvings = len(pieces), halvings + 1
        while len(pieces) == count and tokens > 1:
            tokens //= 2
            pieces = cut(tokens)
        policy.microbatch_limit = tokens
        limit = f"from here on at most {tokens} tokens (update.tokens_per_microbatch)"
        print(f"a micro-batch did not fit into memory: {limit}", file=sys.stderr)


def counting(pieces: Iterable[Piece]) -> list[tuple[Piece, float]]:
    """Pieces with what their denominators are multiplied by: 1. A rank's idle piece has `NOTHING`, and adds 0."""
    return [(piece, 1.0) for piece in pieces]


NOTHING = math.inf


def row_by_row(policy: Policy, pieces: Sequence[Tensor], do: Callable[[Tensor], None], *, ranks: Ranks = ALONE) -> None:
    """`do` for the rows [b] of each piece, in halves where they do not fit into memory. For what leaves no trace.

    A rank that has no more pieces does its first row again, until all are done.
    """
    waiting, first = list(pieces), pieces[0][:1]
    with doing("log-probabilities", sum(map(len, waiting)), "outputs"):
        while ranks.most(len(waiting)):
            rows = waiting.pop(0) if waiting else first
            if (fits := _fits(do, rows, ranks)).here:
                advance(len(rows))
            elif len(rows) > 1:
                waiting[:0] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
            if not fits:
                _forget(policy)
            if ranks.most(not fits.here and len(rows) == 1):
                raise RunError("one output alone does not fit into memory", hint=_HINT)


class _Fits(NamedTuple):
    """Whether a piece fitted into memory here, and on every rank."""

    here: bool
    everywhere: bool

    def __bool__(self) -> bool:
        return self.everywhere


def _fits(do: Callable[[Piece], None], piece: Piece, ranks: Ranks) -> _Fits:
    """Does the piece. What an error of memory held is free once this returns; another error ends every rank."""
    failed, other = False, None
    try:
        do(piece)
    except Exception as error:
        failed = out_of_memory(error)
        other = None if failed else error
    worst = ranks.most(2 if other is not None else 1 if failed else 0)
    if other is not None:
        raise other
    if worst == 2:
        raise RunError("another rank failed", hint="its own error says why")
    return _Fits(not failed, worst == 0)


def _idle(piece: Piece | None, count: int) -> list[Piece]:
    assert piece is not None or count == 0
    return [piece] * count if piece is not None else []


def _forget(policy: Policy) -> None:
    """Gives back what the allocator of a GPU keeps in blocks of the sizes that were too large."""
    if policy.device.type == "cuda":
        torch.cuda.empty_cache()
