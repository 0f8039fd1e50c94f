"""What an output must be to be kept at all, whatever the rule. Pure functions in a table; the first counts."""

from collections.abc import Callable
from types import MappingProxyType

from groupwise.config import RejectionConfig
from groupwise.selection.keeps import Candidate
from groupwise.selection.words import repetition

Filter = Callable[[Candidate, RejectionConfig], bool]
"""True if the candidate falls to it."""


def failed(candidate: Candidate, config: RejectionConfig) -> bool:
    return candidate.failed


def unfinished(candidate: Candidate, config: RejectionConfig) -> bool:
    # Neither cut at the limit nor ended by an error: a policy would learn to stop in the middle of a sentence.
    return candidate.finish != "stop"


def empty(candidate: Candidate, config: RejectionConfig) -> bool:
    return not candidate.text.strip()


def short(candidate: Candidate, config: RejectionConfig) -> bool:
    return candidate.tokens < config.min_tokens


def long(candidate: Candidate, config: RejectionConfig) -> bool:
    return config.max_tokens is not None and candidate.tokens > config.max_tokens


def repeats(candidate: Candidate, config: RejectionConfig) -> bool:
    return config.max_repetition < 1 and repetition(candidate.text) > config.max_repetition


def required(candidate: Candidate, config: RejectionConfig) -> bool:
    """A reward that is below its least value, or that there is none of: nothing said is not good enough."""
    values = ((candidate.rewards.get(label), least) for label, least in config.require.items())
    return any(value is None or value < least for value, least in values)


FILTERS = MappingProxyType(
    {
        "failed": failed,
        "unfinished": unfinished,
        "empty": empty,
        "short": short,
        "long": long,
        "repeats": repeats,
        "required": required,
    }
)
REASONS = MappingProxyType(
    {
        "failed": "a reward function failed",
        "unfinished": "cut at the limit, or ended by an error",
        "empty": "no text",
        "short": "shorter than rejection.min_tokens",
        "long": "longer than rejection.max_tokens",
        "repeats": "above rejection.max_repetition",
        "required": "below rejection.require",
        "contaminated": "shares words with a held-out question",
        "rule": "left out by rejection.keep",
        "same": "says what another one says",
        "cap": "past rejection.per_question",
        "balance": "past what the scarcest difficulty has",
        "size": "past rejection.size",
    }
)
"""Why an output is not kept, in the order in which it is asked: the filters, and what is done with what passes them."""
PER_OUTPUT = (*FILTERS, "contaminated", "rule")
"""The reasons that a question's own outputs tell, whatever the other questions have."""


def fallen_to(candidate: Candidate, config: RejectionConfig) -> str | None:
    """The first filter that a candidate falls to; None if it passes all."""
    return next((name for name, falls in FILTERS.items() if falls(candidate, config)), None)
