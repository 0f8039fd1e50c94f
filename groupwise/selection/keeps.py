"""Rules of rejection sampling: which outputs of a question may be kept, and in which order. Pure; knows no files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature

from groupwise.data import Finish


@dataclass(frozen=True)
class Candidate:
    """An output that may be kept. step, sample: its place in the run, with the question's id.

    tokens: its length. rewards: what each reward function said, None where it had nothing to say; reward: their
    weighted sum. right: by the reward `evaluate.correct`; None: not judged. failed: a reward function broke.
    """

    question_id: str
    step: int
    sample: int
    text: str
    finish: Finish
    tokens: int
    rewards: Mapping[str, float | None]
    reward: float | None
    right: bool | None
    failed: bool = False


Rule = Callable[..., list[Candidate]]
"""(candidates[, scores]) -> those that may be kept, in the order in which they should be taken.

candidates: of one question, in the order sampled. scores: of each the value of the reward `rejection.by`, or the sum of
all; None where there is none. A rule is given what its parameters name."""


def right(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Right outputs, in the order of sampling (STaR, arXiv:2203.14465; RFT, arXiv:2308.01825)."""
    return [candidate for candidate in candidates if candidate.right]


def shortest_right(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Right outputs, those with the fewest tokens first."""
    return sorted(right(candidates), key=lambda candidate: candidate.tokens)


def best(candidates: Sequence[Candidate], scores: Sequence[float | None]) -> list[Candidate]:
    """Outputs ordered by a reward, the highest first (RAFT, arXiv:2304.06767); those without one are left out."""
    scored = [pair for pair in zip(scores, candidates, strict=True) if pair[0] is not None]
    return [candidate for _, candidate in sorted(scored, key=lambda pair: -(pair[0] or 0.0))]


def best_right(candidates: Sequence[Candidate], scores: Sequence[float | None]) -> list[Candidate]:
    """Right outputs ordered by a reward, the highest first."""
    return right(best(candidates, scores))


def every(candidates: Sequence[Candidate]) -> list[Candidate]:
    """All outputs, in the order of sampling, for a teacher's unjudged answers."""
    return list(candidates)


def reads_scores(rule: Rule) -> bool:
    """True if the rule goes by a reward."""
    return "scores" in signature(rule).parameters


def chosen(rule: Rule, candidates: Sequence[Candidate], *, by: str | None) -> list[Candidate]:
    """What the rule makes of a question's candidates. by: the reward function it goes by; None: the sum of all."""
    if not reads_scores(rule):
        return rule(candidates)
    return rule(candidates, [c.reward if by is None else c.rewards.get(by) for c in candidates])
