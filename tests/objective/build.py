"""Batches and objectives made for the tests: seeded, float64, with uneven outputs and no number near a kink."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from groupwise.objective import small_batch
from groupwise.objective.losses import Denominators
from groupwise.objective.small_batch import MAX_TOKENS
from groupwise.objective.surrogate import Diagnostics, Objective, diagnostics, policy_loss


@dataclass(frozen=True)
class Made:
    """The arguments of policy_loss, and the group of each row."""

    logprobs: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor
    entropies: Tensor
    advantages: Tensor
    mask: Tensor
    group: Tensor
    sampled_logprobs: Tensor

    def rows(self, index: Tensor | slice) -> "Made":
        return Made(**{name: value[index] for name, value in vars(self).items()})

    def spoiled(self, value: float) -> "Made":
        """The same batch with this value in every entry outside the mask."""
        parts = {name: part for name, part in vars(self).items() if part.is_floating_point()}
        return replace(self, **{name: torch.where(self.mask, part, value) for name, part in parts.items()})

    def padded(self, columns: int) -> "Made":
        """The same batch with so many more columns outside the mask."""
        parts = {name: part for name, part in vars(self).items() if name != "group"}
        more = {name: torch.nn.functional.pad(part, (0, columns), value=0) for name, part in parts.items()}
        return replace(self, **more)


def batch() -> Made:
    """The batch on which contracts are tried, with entropies."""
    given = small_batch.batch()
    entropies = torch.rand((6, 5), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    own = {name: given[name] for name in Made.__dataclass_fields__ if name in given}
    return Made(**own, entropies=entropies, sampled_logprobs=given["old_logprobs"] - given["log_weight"])


@dataclass(frozen=True)
class Terms(Diagnostics):
    """What a step reports of its tokens, beside its loss."""

    loss: Tensor


def terms(objective: Objective, logprobs: Tensor, **given: Any) -> Terms:
    """policy_loss and diagnostics of the same batch."""
    loss = policy_loss(objective, logprobs, **given)
    own = {name: part for name, part in given.items() if name not in ("entropies", "denominators")}
    return Terms(**vars(diagnostics(objective, logprobs, **own)), loss=loss)


def terms_of(objective: Objective, made: Made, denominators: Denominators | None = None) -> Terms:
    return terms(
        objective,
        made.logprobs,
        old_logprobs=made.old_logprobs,
        ref_logprobs=made.ref_logprobs,
        entropies=made.entropies,
        advantages=made.advantages,
        mask=made.mask,
        denominators=denominators or Denominators.of(made.mask, MAX_TOKENS),
        sampled_logprobs=made.sampled_logprobs,
    )


def loss_and_gradient(
    objective: Objective, made: Made, denominators: Denominators | None = None
) -> tuple[Tensor, Tensor]:
    """The loss, and its derivative by each log-probability, [B, T]."""
    made = replace(made, logprobs=made.logprobs.detach().requires_grad_())
    loss = terms_of(objective, made, denominators).loss
    (gradient,) = torch.autograd.grad(loss, made.logprobs)
    return loss.detach(), gradient
