"""A reward against repetition: n-grams that an output has said before. Knows token ids alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def repetition(
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]],
    *,
    ngram: int = 40,
    penalty: float = -0.05,
    counted: str = "tokens",
) -> list[float]:
    """N-gram repetition penalty (arXiv:2502.03373): penalty times what the output repeats.

    A token is repeated if it is in an n-gram of `ngram` tokens that the output has had before. counted: `tokens`, the
    number of repeated tokens, the sum of the penalties that the paper gives each of them; `share`, that number by the
    output's tokens; `ngrams`, 1 - distinct / all n-grams, as TRL's and Open-R1's get_repetition_penalty_reward (of
    words). 0 for an output of fewer tokens than ngram. Raises ValueError for ngram < 1, a penalty above 0, or another
    word.

    Defaults: of the paper's runs (eddycmu/demystify-long-cot, section_4.2: repetition_ngram_size 40,
    repetition_dense_penalty -0.05). TRL and Open-R1: ngram 3, penalty -1.0 with `ngrams`."""
    if ngram < 1 or penalty > 0:
        raise ValueError(f"ngram = {ngram}, penalty = {penalty:g}: ngram must be 1 or more, and penalty 0 or less")
    if counted not in COUNTED:
        raise ValueError(f"counted = {counted!r}: choose from {', '.join(COUNTED)}")
    amounts = [COUNTED[counted](tokens, ngram) for tokens in completion_ids]
    return [penalty * amount if amount else 0.0 for amount in amounts]


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


def repeated_ngrams(tokens: Sequence[int], ngram: int) -> float:
    """1 - distinct / all n-grams of the sequence; 0 if it has none."""
    grams = [tuple(tokens[start : start + ngram]) for start in range(len(tokens) - ngram + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


COUNTED: Mapping[str, Callable[[Sequence[int], int], float]] = {
    "tokens": lambda tokens, ngram: len(repeated(tokens, ngram)),
    "share": lambda tokens, ngram: len(repeated(tokens, ngram)) / max(1, len(tokens)),
    "ngrams": repeated_ngrams,
}
"""By name, how much an output repeats."""
