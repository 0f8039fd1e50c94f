"""Rewards for the length of an output, in tokens: alone, or by whether its answer is right."""

from collections.abc import Sequence
from math import cos, pi
from typing import Any

from groupwise.data import Question
from groupwise.rewards.answer import exact, math, number


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


VERIFIERS = {"math": math, "exact": exact, "number": number}


def cosine_length(
    text: str,
    question: Question,
    completion_ids: Sequence[int],
    *,
    max_tokens: int,
    verifier: str = "math",
    right_short: float = 2.0,
    right_long: float = 1.0,
    wrong_short: float = -10.0,
    wrong_long: float = 0.0,
    exceeded: float = -10.0,
) -> float:
    """Cosine reward of an output's length and its rightness (arXiv:2502.03373).

    R = r_L + (r_0 - r_L) (1 + cos(pi L / L_max)) / 2: from r_0 at L = 0 to r_L at L_max along half a cosine, with
    (r_0, r_L) = (right_short, right_long) for a right answer, else (wrong_short, wrong_long); `exceeded` if L >= L_max.
    L: tokens of the output, its end token included. max_tokens: L_max, rollout.max_new_tokens or less. verifier:
    `math`, `exact` or `number` decides what is right. A short right answer earns more than a long one; a wrong one
    loses less the longer it tried. Raises ValueError for max_tokens < 1 or another verifier.

    Defaults: of the paper's runs (eddycmu/demystify-long-cot, section_4.2 with cosine and repetition penalty:
    min_value_correct 1, max_value_correct 2, min_value_wrong -10, max_value_wrong 0, exceed_length -10). TRL's and
    Open-R1's get_cosine_scaled_reward have 1.0, 0.5 for right answers and -1.0, -0.5 for wrong ones."""
    if max_tokens < 1 or verifier not in VERIFIERS:
        raise ValueError(
            f"max_tokens = {max_tokens}, verifier = {verifier!r}: 1 or more, and one of math, exact, number"
        )
    right = VERIFIERS[verifier](text, question) == 1.0
    length = len(completion_ids)
    if length >= max_tokens:
        return exceeded
    short, long = (right_short, right_long) if right else (wrong_short, wrong_long)
    return long + (short - long) * (1.0 + cos(pi * length / max_tokens)) / 2.0
