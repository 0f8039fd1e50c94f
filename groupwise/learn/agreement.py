"""An exact sampler held to its word: a token whose log-probability differs between sampling and training stops the run.

Before the optimizer learns from it. Knows what was sampled and what the update found; not why the two differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from groupwise.data import Group, Sample, Sampling
from groupwise.errors import RunError
from groupwise.learn.ranks import ALONE, Ranks
from groupwise.model.batch import Rollouts
from groupwise.model.policy import Policy
from groupwise.model.traits import routes_tokens
from groupwise.rewards.steps import Decode

LIMIT = 0.01
"""Nats between sampler and trainer in fp32: rounding is a hundredth of it, a wrong position or mask a hundred times."""
COLD = 0.01
"""A temperature; below it, logits that are rounded by 1e-5 nats may be a tenth of the limit apart."""


@dataclass(frozen=True)
class Miss:
    """A token (the row's, at a place) with the sampler's and the trainer's log-probability, nats."""

    row: tuple[int, ...]
    place: int
    sampled: float
    trained: float

    @property
    def nats(self) -> float:
        return abs(self.sampled - self.trained)


@dataclass
class Agreement:
    """How far the trainer's log-probabilities are from the sampler's, over the tokens of a step's first update.

    groups: what was sampled, in this step. smooth: no rounding error is made large (`expected_agreement`). gap: sum of
    the differences, nats. worst: the token farthest off.
    """

    groups: Sequence[Group]
    step: int
    decode: Decode
    smooth: bool = True
    tokens: int = 0
    gap: float = 0.0
    worst: Miss | None = None

    def add(self, rollouts: Rollouts, logprobs: Tensor, mask: Tensor) -> None:
        """logprobs: the trainer's, [B, T] nats. mask: [B, T], the tokens to compare."""
        gap = torch.where(mask, (logprobs - rollouts.sampled_logprobs).abs(), 0.0)
        self.tokens += int(mask.sum())
        self.gap += float(gap.sum())
        row, column = divmod(int(gap.argmax()), gap.shape[1])
        if self.worst is None or float(gap[row, column]) > self.worst.nats:
            self.worst = Miss(
                row=tuple(rollouts.tokens[row, : int(rollouts.lengths[row])].tolist()),
                place=column,
                sampled=float(rollouts.sampled_logprobs[row, column]),
                trained=float(logprobs[row, column]),
            )

    def require(self, ranks: Ranks = ALONE) -> None:
        """Raises RunError, with the worst token, if what was sampled is not what the policy gives; on every rank.

        Every token counts if a small error stays small, else the mean over the tokens.
        """
        gap, tokens = ranks.sum(torch.tensor([self.gap, float(self.tokens)], dtype=torch.float64)).tolist()
        mean, own = gap / max(1, tokens), 0.0 if self.worst is None else self.worst.nats
        worst = ranks.most(own)
        if (worst if self.smooth else mean) <= LIMIT:
            return
        if self.worst is None or own < worst:
            raise RunError(f"step {self.step}: the sampler is not the policy on another rank; its own error says where")
        raise RunError(
            f"step {self.step}: the sampler is not the policy: {self._named(self.worst)}; {mean:.2g} nats apart on "
            f"average over {tokens:.0f} tokens; the limit is {LIMIT}, and the weights are as before this step",
            hint="set model.fast_paths to false, which is slow but correct, and report the model's config.json",
        )

    def _named(self, miss: Miss) -> str:
        """The token, its output and its question, and the two numbers, in words."""
        token = miss.row[miss.place]
        which = f"token {token} ({self.decode([token])!r})"
        numbers = f"log-probability {miss.sampled:.4f} when sampled and {miss.trained:.4f} in training"
        for group in self.groups:
            for number, sample in enumerate(group.samples):
                if _row(sample) == miss.row:
                    place = miss.place - len(sample.output.question_tokens)
                    where = f"number {place} of output {number} of question {group.question.id!r}"
                    return f"{which}, {where}, has {numbers}"
        return f"{which} has {numbers}"


def expected_agreement(
    policy: Policy, groups: Sequence[Group], sampling: Sampling, *, exact_engine: bool, step: int, decode: Decode
) -> Agreement | None:
    """What a step's first update is held to; None where the engine does not claim to be exact.

    Rounding may tip a scale, and so be made large, at the edge of top-k, top-p or min-p, between two tokens at a
    temperature near 0, or where a router sends a token to another expert.
    """
    if not exact_engine or policy.precision != torch.float32:
        return None
    truncated = sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0
    smooth = not truncated and sampling.temperature >= COLD and not routes_tokens(policy.model.config)
    return Agreement(groups, step, decode, smooth)


def _row(sample: Sample) -> tuple[int, ...]:
    return (*sample.output.question_tokens.tolist(), *sample.output.tokens.tolist())
