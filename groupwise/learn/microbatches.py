"""Micro-batches that do not fit into memory: cut smaller and done again, with the same sums. Knows no loss."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from groupwise.activity import advance, counted, doing
from groupwise.config import LearningConfig
from groupwise.errors import RunError
from groupwise.model.policy import Policy

Piece = TypeVar("Piece")
_HINT = "lower rollout.max_new_tokens or examples.max_tokens, or set update.recompute to layers"


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
) -> int:
    """Does each micro-batch of an optimizer step; returns how often their size was halved.

    cut: tokens -> the micro-batches of at most so many. units: of one, what can be cut apart. begin: undoes all that
    `do` has added, and is called first. A piece that runs out of memory may have added a part of its gradient, so all
    begin anew with smaller ones, which later steps keep to. Raises RunError if one unit alone does not fit.
    """
    halvings = 0
    while True:
        begin()
        tokens = microbatch_tokens(policy, config)
        pieces = cut(tokens)
        failed = next((piece for piece in counted(pieces, "update", "micro-batches") if not _fits(do, piece)), None)
        if failed is None:
            return halvings
        _forget(policy)
        if units(failed) == 1:
            raise RunError(f"one {what} alone does not fit into memory", hint=_HINT)
        count, halvings = len(pieces), halvings + 1
        while len(pieces) == count and tokens > 1:
            tokens //= 2
            pieces = cut(tokens)
        policy.microbatch_limit = tokens
        told = f"from here on at most {tokens} tokens (update.tokens_per_microbatch)"
        print(f"a micro-batch did not fit into memory: {told}", file=sys.stderr)


def row_by_row(policy: Policy, pieces: Sequence[Tensor], do: Callable[[Tensor], None]) -> None:
    """`do` for the rows [b] of each piece, in halves where they do not fit into memory. For what leaves no trace."""
    waiting = list(pieces)
    with doing("log-probabilities", sum(map(len, waiting)), "outputs"):
        while waiting:
            rows = waiting.pop(0)
            if _fits(do, rows):
                advance(len(rows))
                continue
            _forget(policy)
            if len(rows) == 1:
                raise RunError("one output alone does not fit into memory", hint=_HINT)
            waiting[:0] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of an accelerator or of the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc")


def _fits(do: Callable[[Piece], None], piece: Piece) -> bool:
    """Does the piece; False if memory ran out. What the error held is free once this returns."""
    try:
        do(piece)
    except Exception as error:
        if not out_of_memory(error):
            raise
        return False
    return True


def _forget(policy: Policy) -> None:
    """Gives back what the allocator of a GPU keeps in blocks of the sizes that were too large."""
    if policy.device.type == "cuda":
        torch.cuda.empty_cache()
