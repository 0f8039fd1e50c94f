"""What is held out and what is left, by the fingerprints of rows alone. Knows no question and no example."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Protocol, TypeVar

import numpy as np

HELDOUT = 1  # spawn key: what is drawn to be held out never moves the order of what is learned
_PRINT = "S12"  # a fingerprint is 12 bytes


class Fingerprinted(Protocol):
    @property
    def fingerprint(self) -> str: ...


Item = TypeVar("Item", bound=Fingerprinted)


def prints_of(laid_out: bytes) -> np.ndarray:
    """[N] fingerprints from their bytes, end to end, which can be sorted and compared at once."""
    return np.frombuffer(laid_out, dtype=_PRINT)


def firsts(fingerprints: np.ndarray) -> np.ndarray:
    """Indices of the first of each fingerprint, rising. fingerprints: [N]."""
    return np.sort(np.unique(fingerprints, return_index=True)[1])


def split(fingerprints: np.ndarray, asked: np.ndarray, size: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of what is left and of `size` distinct rows that are held out, each rising; no prompt is on both sides.

    fingerprints, asked: [N], of a row and of its prompt. Prompts are drawn by the seed and all that is distinct of each
    is held out; of the last one only as many as are still wanted, drawn too, whose others are in neither part. So each
    prompt has the same chance, however many rows.
    """
    distinct = firsts(fingerprints)
    names, of_distinct = _numbered(asked[distinct])
    by_prompt = np.argsort(of_distinct, kind="stable")
    ends = np.cumsum(np.bincount(of_distinct, minlength=len(names)))
    drawn, held, count = [], [np.zeros(0, np.int64)], 0
    for index in map(int, permutation(len(names), seed, HELDOUT)):
        if count == size:
            break
        rows = distinct[by_prompt[ends[index - 1] if index else 0 : ends[index]]]
        drawn.append(index)
        held.append(rows[permutation(len(rows), seed, HELDOUT, index)[: size - count]])
        count += len(held[-1])
    heldout = np.sort(np.concatenate(held))
    # A conversation may be there twice, learned from different turns on: then its prompts differ.
    gone = np.isin(asked, names[np.array(drawn, np.int64)]) | np.isin(fingerprints, fingerprints[heldout])
    return np.flatnonzero(~gone), heldout


def once_each(items: Iterable[Item]) -> Iterator[Item]:
    """The first item of each fingerprint, in their order."""
    seen: set[bytes] = set()
    for item in items:
        mark = bytes.fromhex(item.fingerprint)
        if mark not in seen:
            seen.add(mark)
            yield item


def default_size(distinct: int, most: int) -> int:
    """How many of so many distinct rows are held out where nobody says: a fifth, and `most` at most."""
    return min(most, distinct // 5)


def heldout_remark(what: str, given: int | None, *, held: int, left: int, usual: int) -> str | None:
    """How many rows are held out, in words, where the recipe does not say; None: it does, or as many as usual.

    what: questions or examples, which is the recipe's section too. given: its `heldout_size`.
    """
    if given is not None or held == usual:
        return None
    return f"{what}.heldout_size: {held} {what} are held out and {left} are left to train on"


@lru_cache(maxsize=4)  # of a million rows an order takes a tenth of a second, and each step asks for it
def permutation(count: int, seed: int, *key: int) -> np.ndarray:
    """[count] indices in an order drawn from the seed and the key."""
    # Raw bits: NumPy keeps a bit generator's stream for ever, but not what Generator.permutation makes of it.
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)).random_raw(count)
    order = np.argsort(bits, kind="stable")
    order.flags.writeable = False
    return order


def _numbered(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values in the order of their first, and of each value the number of it. values: [N]."""
    distinct, first, codes = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return distinct[order], rank[codes]
