"""A reward against repetition: tokens of an output within n-grams that it has said before. Knows token ids alone."""

from collections.abc import Sequence
from typing import Any


def repetition(
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]],
    *,
    ngram: int = 40,
    penalty: float = -0.05,
    counted: str = "share",
) -> list[float]:
    """N-gram repetition penalty (arXiv:2502.03373): penalty times the tokens repeated.

    A token is repeated if it is in an n-gram of `ngram` tokens that the output has had before. counted: `share`, of the
    output's tokens, so that the reward is within penalty and 0; `tokens`, their number, the sum of the penalties that
    the paper gives each token. 0 for an output of fewer tokens than ngram. Raises ValueError for ngram < 1, a penalty
    above 0, or another word."""
    if ngram < 1 or penalty > 0:
        raise ValueError(f"ngram = {ngram}, penalty = {penalty:g}: ngram must be 1 or more, and penalty 0 or less")
    if counted not in ("share", "tokens"):
        raise ValueError(f"counted = {counted!r}: choose from share, tokens")
    counts = [len(repeated(tokens, ngram)) for tokens in completion_ids]
    totals = [max(1, len(tokens)) if counted == "share" else 1 for tokens in completion_ids]
    return [penalty * count / total if count else 0.0 for count, total in zip(counts, totals, strict=True)]


def repeated(tokens: Sequence[int], ngram: int) -> set[int]:
    """Places of the tokens within an n-gram that stood earlier in the sequence, overlapping ones included."""
    seen: set[tuple[int, ...]] = set()
    found: set[int] = set()
    for start in range(len(tokens) - ngram + 1):
        gram = tuple(tokens[start : start + ngram])
        if gram in seen:
            found.update(range(start, start + ngram))
        seen.add(gram)
    return found
