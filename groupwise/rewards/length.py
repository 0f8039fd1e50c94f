"""Rewards for the length of an output, in tokens. None looks at what it says."""

from collections.abc import Sequence
from typing import Any


def soft_overlong(
    completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], *, max_tokens: int, cache: int
) -> list[float]:
    """Soft overlong punishment (DAPO, arXiv:2503.14476, equation 13): 0 to -1 for each output, linear in the cache.

    0 if |y| <= L_max - L_cache, (L_max - L_cache - |y|) / L_cache up to L_max, then -1. |y|: tokens of the output, its
    end token included. max_tokens: L_max, rollout.max_new_tokens or less; cache: L_cache, tokens.
    Raises ValueError if cache is not within 1 and max_tokens."""
    if not 1 <= cache <= max_tokens:
        raise ValueError(f"cache = {cache}, max_tokens = {max_tokens}: cache must be within 1 and max_tokens")
    beyond = [len(tokens) - (max_tokens - cache) for tokens in completion_ids]
    return [max(-1.0, min(0.0, -count / cache)) for count in beyond]
