"""Rewards of an output's steps, for process supervision: weighted, summed, and put on tokens.

A step ends at a place in the text, in characters from its start. Of a tokenizer only its decode is known here.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from groupwise.data import Output

Steps = tuple[tuple[int, float], ...]
"""(place, reward) of each step, in order; the place is where the step ends: characters of the text, or a token."""
Decode = Callable[[Sequence[int]], str]
"""Token ids to text, as Output.text was made of Output.tokens."""


def weighted(steps: Iterable[tuple[float, Steps | None]]) -> Steps | None:
    """The steps of several functions as one list, each times its function's weight; those of one end are summed.

    steps: (weight, steps) of each function. None if no function speaks of steps. A weight of 0 is left out: its
    steps would change the mean of the others.
    """
    spoken = [(weight, some) for weight, some in steps if some is not None and weight]
    return _summed((end, weight * reward) for weight, some in spoken for end, reward in some) if spoken else None


def on_tokens(steps: Steps, output: Output, decode: Decode) -> Steps:
    """The steps with the index of each one's last token, of those the policy drew, in place of its end in the text.

    Steps of one token are summed. A step that ends with the text ends with the output: an end token belongs to it.
    Between words that the policy did not draw it ends at the token before them. None where the policy drew no token.
    """
    import numpy as np  # in the run's process alone: a reward function's starts without it

    if output.messages:  # the text is the last turn's
        start = int(np.flatnonzero(~output.sampled).max(initial=-1)) + 1
        last = replace(output, tokens=output.tokens[start:], sampled=output.sampled[start:], messages=())
        return tuple((start + token, reward) for token, reward in on_tokens(steps, last, decode))
    drawn, tokens = np.flatnonzero(output.sampled), output.tokens.tolist()
    if not len(drawn):
        return ()
    placed, token = [], 0
    for end, reward in steps:
        whole = end >= len(output.text)
        token = len(tokens) - 1 if whole else token_of(output.text[:end], tokens, decode, first=token)
        before = int(np.searchsorted(drawn, token, side="right")) - 1
        placed.append((int(drawn[max(before, 0)]), reward))
    return _summed(placed)


def token_of(start: str, tokens: Sequence[int], decode: Decode, *, first: int = 0) -> int:
    """Index of the token with which the text begins with `start`; the last one if it never does.

    tokens: [T], T >= 1. first: a token that is known not to lie behind the one sought. O(log T) decodes.
    """
    # The text itself, not its length: half a character decodes to U+FFFD, which is as long as the whole one or longer.
    return bisect_left(
        range(len(tokens) - 1), True, lo=first, key=lambda last: decode(tokens[: last + 1]).startswith(start)
    )


def _summed(steps: Iterable[tuple[int, float]]) -> Steps:
    total: dict[int, float] = {}
    for place, reward in steps:
        total[place] = total.get(place, 0.0) + reward
    return tuple(sorted(total.items()))
