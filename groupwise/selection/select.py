"""From the outputs of every question to those that are kept: filters, rule, duplicates, caps, balance, size. Pure.

What is drawn by the seed is drawn by hashed names: a draw does not depend on the order of what is drawn from.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from statistics import fmean

from groupwise import registry
from groupwise.config import RejectionConfig
from groupwise.data import Example, Message, Question
from groupwise.selection.filters import REASONS, fallen_to
from groupwise.selection.keeps import Candidate, chosen

QUARTERS = 4
Contaminated = Callable[[Question, Sequence[Message]], bool]
"""(a question, the messages of an output): True if either shares words with a held-out question."""


@dataclass(frozen=True)
class Sampled:
    """A question and what the model said to it."""

    question: Question
    candidates: tuple[Candidate, ...]

    @property
    def share_right(self) -> float | None:
        """How easy it was: the share of its judged outputs that is right; None: none was judged."""
        judged = [candidate.right for candidate in self.candidates if candidate.right is not None]
        return fmean(judged) if judged else None


@dataclass(frozen=True)
class Kept:
    """An output that is kept. quarter: of the share right, 0 the hardest; None: its question was not judged."""

    question: Question
    candidate: Candidate
    quarter: int | None

    @property
    def name(self) -> str:
        return f"{self.candidate.step}/{self.candidate.question_id}/{self.candidate.sample}"

    @property
    def fingerprint(self) -> str:
        """That of the example which it makes."""
        answer = Message("assistant", self.question.prefill + self.candidate.text)
        return Example("", (*self.question.prompt, answer)).fingerprint


@dataclass(frozen=True)
class Selection:
    """What is kept, in an order drawn by the seed; and by reason how many outputs are not (`filters.REASONS`)."""

    kept: tuple[Kept, ...]
    fallen: dict[str, int]


def select(sampled: Iterable[Sampled], config: RejectionConfig, *, seed: int, contaminated: Contaminated) -> Selection:
    """The outputs that the recipe keeps. Two questions that ask the same, up to spacing, are one.

    sampled: one after another, so that only what is kept is held; those that ask the same stand side by side.
    """
    fallen = Counter[str]()
    found: list[Kept] = []
    for one in _merged(sampled):
        passed, why = passing(one, config, contaminated=contaminated)
        distinct = _distinct(passed)
        kept = distinct[: config.per_question]
        fallen += why
        fallen["same"] += len(passed) - len(distinct)
        fallen["cap"] += len(distinct) - len(kept)
        quarter = _quarter(one.share_right)
        found += [Kept(one.question, candidate, quarter) for candidate in kept]
    found.sort(key=lambda kept: drawn(seed, "kept", kept.name))
    if config.balance:
        even = _balanced(found)
        fallen["balance"] += len(found) - len(even)
        found = even
    fallen["size"] += len(found) - len(found[: config.size])
    return Selection(tuple(found[: config.size]), {reason: fallen[reason] for reason in REASONS})


def passing(
    sampled: Sampled, config: RejectionConfig, *, contaminated: Contaminated
) -> tuple[list[Candidate], Counter[str]]:
    """A question's outputs that pass the filters and the rule, in the rule's order; by reason how many do not."""
    fallen, passed = Counter[str](), []
    for candidate in sampled.candidates:
        reason = fallen_to(candidate, config)
        if reason is None and contaminated(sampled.question, [Message("assistant", candidate.text)]):
            reason = "contaminated"
        if reason is None:
            passed.append(candidate)
        else:
            fallen[reason] += 1
    taken = chosen(registry.load(registry.KEEPS, config.keep, "rejection.keep"), passed, by=config.by)
    fallen["rule"] += len(passed) - len(taken)
    return taken, fallen


def drawn(seed: int, purpose: str, name: str) -> bytes:
    """A place in an order drawn by the seed, which is the name's own: equal on every machine."""
    return hashlib.blake2b(f"{seed}/{purpose}/{name}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _merged(sampled: Iterable[Sampled]) -> Iterator[Sampled]:
    """The questions, neighbours that ask the same as one."""
    for _, same in groupby(sampled, key=lambda one: one.question.fingerprint):
        first, *others = same
        more = (candidate for other in others for candidate in other.candidates)
        yield Sampled(first.question, (*first.candidates, *more))


def _distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first of those that say the same, up to spacing."""
    first: dict[str, Candidate] = {}
    for candidate in candidates:
        first.setdefault(" ".join(candidate.text.split()), candidate)
    return list(first.values())


def _quarter(share: float | None) -> int | None:
    """0 for a share right up to 1/4, 1 up to 1/2, and so on."""
    return None if share is None else max(0, ceil(share * QUARTERS) - 1)


def _balanced(found: Sequence[Kept]) -> list[Kept]:
    """As many of each quarter as the scarcest has, in turns; what was not judged has no quarter and stays."""
    counts = Counter(kept.quarter for kept in found if kept.quarter is not None)
    least = min(counts.values(), default=0)
    ranks, placed = Counter[int | None](), []
    for kept in found:
        if kept.quarter is None or ranks[kept.quarter] < least:
            placed.append((ranks[kept.quarter], kept))
        ranks[kept.quarter] += 1
    return [kept for _, kept in sorted(placed, key=lambda pair: pair[0])]
