"""Batches and losses for the comparisons: uneven outputs with words of a tool among them, and no number near a kink."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from groupwise.data import Sampling
from groupwise.model.batch import Rollouts
from groupwise.objective.losses import Denominators, clip, log_ratio, per_output
from tests.equality import naive
from tests.equality.naive import Loss
from tests.model import build

PLAIN = Sampling(max_new_tokens=16)
RATIOS = torch.tensor([0.5, 0.75, 0.9, 1.0, 1.1, 1.3, 1.6], dtype=torch.float64)
"""Between pi and pi_old, some beyond the clip at 0.8 and 1.2, none within 0.05 of it."""
ENTROPY_COEF = 0.05


def rollouts(
    questions: Sequence[int], sizes: Sequence[int], *, vocabulary: int, longest: int = 14, seed: int = 0
) -> Rollouts:
    """Groups of random tokens: questions of so many, and so many outputs of 1 to `longest` each.

    One token in five is not the policy's, as a tool's answer between two turns; an output's last always is.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int) -> list[int]:
        return torch.randint(vocabulary, (count,), generator=generator).tolist()

    def output(question: list[int]) -> Any:
        length = int(torch.randint(1, longest + 1, (), generator=generator))
        sampled = torch.rand(length, generator=generator) < 0.8
        sampled[-1] = True
        return build.output(question, draw(length), sampled=sampled.numpy())

    asked = [draw(question) for question in questions]
    return Rollouts.of(
        [
            build.group([output(question) for _ in range(size)], [0.0] * size)
            for question, size in zip(asked, sizes, strict=True)
        ]
    )


def old_logprobs(model: Any, rollouts: Rollouts, mask: Tensor, sampling: Sampling) -> Tensor:
    """pi_old, [B, T] nats, at ratios away from the clip, by the reference's own log-probabilities."""
    logprobs = naive.scored(model, rollouts, mask, sampling)[0].detach()
    generator = torch.Generator().manual_seed(1)
    return logprobs - RATIOS[torch.randint(len(RATIOS), mask.shape, generator=generator)].log()


def clipped(old: Tensor, mask: Tensor) -> Loss:
    """The clipped surrogate with the mean over each output's tokens: a loss per token."""
    advantages, denominators = _advantages(mask), Denominators.of(mask, PLAIN.max_new_tokens)

    def loss(logprobs: Tensor, entropies: Tensor) -> Tensor:
        values = clip(logprobs, old.to(logprobs), advantages.to(logprobs), mask)
        return per_output(values, mask, denominators)

    return loss


def clipped_with_bonus(old: Tensor, mask: Tensor) -> Loss:
    """The same less an entropy bonus."""
    without, denominators = clipped(old, mask), Denominators.of(mask, PLAIN.max_new_tokens)

    def loss(logprobs: Tensor, entropies: Tensor) -> Tensor:
        return without(logprobs, entropies) - ENTROPY_COEF * per_output(entropies, mask, denominators)

    return loss


def sequence_ratio(old: Tensor, mask: Tensor) -> Loss:
    """One ratio for a whole output, the geometric mean over its tokens (GSPO equation 5): its tokens mix."""
    advantages, outputs = _advantages(mask)[:, 0], float(mask.any(1).sum())

    def loss(logprobs: Tensor, entropies: Tensor) -> Tensor:
        tokens = mask.sum(1).clamp(min=1)
        ratio = (log_ratio(logprobs, old.to(logprobs), mask).sum(1) / tokens).exp()
        bonus = torch.where(mask, entropies, 0.0).sum(1) / tokens
        return -(ratio * advantages.to(logprobs) + ENTROPY_COEF * bonus).sum() / outputs

    return loss


LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Loss], dict[str, bool]]] = {
    "clip": (clipped, {"per_token": True, "entropy_gradient": False}),
    "clip_and_bonus": (clipped_with_bonus, {"per_token": True, "entropy_gradient": True}),
    "sequence_ratio": (sequence_ratio, {"per_token": False, "entropy_gradient": True}),
}
"""How a loss is made of pi_old and the mask, and what `Policy.backward` is told of it."""


def _advantages(mask: Tensor) -> Tensor:
    """[B, T], of both signs, none near 0."""
    generator = torch.Generator().manual_seed(2)
    values = 0.3 + torch.rand(len(mask), generator=generator, dtype=torch.float64)
    signs = torch.where(torch.arange(len(mask)) % 2 == 0, 1.0, -1.0)
    return (values * signs)[:, None].expand(mask.shape)
