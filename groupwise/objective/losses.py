"""Losses per token, and the aggregates that make one number of them. Knows no policy, no rewards, no batches.

A loss is (logprobs, old_logprobs, advantages, mask, *, its parameters) -> [B, T]; those made of a whole output's ratio
are in sequence_losses.py. An aggregate is (per_token, mask, denominators) -> scalar, a plain sum divided by what holds
for the whole optimizer step: the sum over any cut of the batch between outputs is the uncut loss. Masked entries may
hold anything, nan included. A token with advantage 0 adds nothing to a loss. What of this a function must do is in
contracts.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Marked = TypeVar("Marked", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Denominators:
    """What a sum over the whole optimizer step is divided by: over all its micro-batches, and all ranks."""

    outputs: float
    """Outputs with at least one token in the mask."""
    tokens: float
    """Tokens in the mask."""
    max_tokens: int
    """Tokens that an output can have at most (`rollout.max_new_tokens`)."""

    @classmethod
    def of(cls, mask: Tensor, max_tokens: int) -> "Denominators":
        """Counted from the step's mask [B, T]."""
        outputs, tokens = cls.counts(mask).tolist()
        return cls(outputs=outputs, tokens=tokens, max_tokens=max_tokens)

    @staticmethod
    def counts(mask: Tensor) -> Tensor:
        """[2]: outputs and tokens of a mask [B, T], which add up over the parts of a step."""
        return torch.stack([mask.any(dim=1).sum(), mask.sum()]).double()


def over_whole_output(loss: Marked) -> Marked:
    """Marks a loss, or a correction, whose value or derivative at a token depends on its output's other tokens.

    `Objective.per_token` reads the mark: a loss without it may be given some tokens of an output at a time.
    """
    loss.over_whole_output = True  # type: ignore[attr-defined]
    return loss


def one_advantage(loss: Marked) -> Marked:
    """Marks a loss that takes an advantage which is the same at each token of an output."""
    loss.one_advantage = True  # type: ignore[attr-defined]
    return loss


def clip(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> Tensor:
    """The clipped surrogate (PPO equation 7, DeepSeekMath equation 3), as a loss, per token.

    -min(ratio A, clamp(ratio, 1 - clip_low, 1 + clip_high) A) with ratio = pi / pi_old.
    logprobs, old_logprobs: [B, T] nats; advantages, mask: [B, T]; clip_low, clip_high: epsilon below and above, 0.2
    each as a rule, 0.28 above in DAPO. Returns [B, T], in units of the advantages; 0 outside the mask.
    Pitfall: past its bound a token has no gradient, so what is clipped once stays where it is until the next rollout;
    and nothing bounds a token with A < 0 that has become likelier (`dual_clip` does).
    """
    return clipped_surrogate(torch.exp(log_ratio(logprobs, old_logprobs, mask)), advantages, mask, clip_low, clip_high)


def dual_clip(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float = 3.0,
) -> Tensor:
    """The clipped surrogate, bounded also for a bad token that has become likelier (arXiv:1912.09729, equation 5).

    As `clip` where A >= 0; where A < 0: min(clip, c |A|), c = dual_clip, so no gradient where the ratio is above c.
    Arguments, shapes and settings as in `clip`; c is 3 in the paper. Returns [B, T], in units of the advantages; 0
    outside the mask.
    Pitfall: the bad tokens that it lets go are those that have gone furthest wrong; if many are past c, the policy
    has left the one that sampled, and fewer updates per rollout are the cure.
    """
    bounded = torch.where(mask, advantages, 0.0)
    loss = clip(logprobs, old_logprobs, bounded, mask, clip_low=clip_low, clip_high=clip_high)
    return torch.where(bounded < 0, torch.minimum(loss, -dual_clip * bounded), loss)


def reinforce(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """The policy gradient itself (Williams 1992; for language models arXiv:2402.14740): -A log pi.

    logprobs: [B, T] nats; advantages, mask: [B, T]; old_logprobs is not read. Returns [B, T], nats
    times units of the advantages; 0 outside the mask.
    Settings: one update per rollout (`update.updates_per_rollout: 1`, `update.outputs_per_update: null`).
    Pitfall: from the second update on the samples are another policy's and the gradient is biased; nothing here
    notices, and nothing holds a token with A < 0, whose loss has no lower end.
    """
    return -torch.where(mask, advantages, 0.0) * torch.where(mask, logprobs, 0.0)


def cispo(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 1.0,
    clip_high: float = 4.0,
) -> Tensor:
    """The policy gradient weighted by a bounded ratio (CISPO; MiniMax-M1, arXiv:2506.13585, equations 4 and 5).

    -sg[clamp(ratio, 1 - clip_low, 1 + clip_high)] A log pi; sg: held constant in the gradient, -clamp(ratio) A.
    logprobs, old_logprobs: [B, T] nats; advantages, mask: [B, T]. Returns [B, T], nats times units of the
    advantages; 0 outside the mask.
    Settings: no lower bound (clip_low 1), as the paper, which does not give its clip_high; 4, a weight of at most 5, is
    that of ScaleRL (arXiv:2510.13786), as is the mean over tokens (`per_token`).
    Pitfall: no token ever loses its gradient, so nothing but the learning rate ends a step that goes too far; and the
    bound counts from 1, where TRL's epsilon_high is the bound itself.
    """
    weight = torch.exp(log_ratio(logprobs, old_logprobs, mask)).clamp(1 - clip_low, 1 + clip_high).detach()
    return weight * reinforce(logprobs, old_logprobs, advantages, mask)


def soft_gate(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    tau_pos: float = 1.0,
    tau_neg: float = 1.05,
) -> Tensor:
    """A smooth gate in place of the clip (SAPO, arXiv:2511.20347, equations 5 and 6).

    -(4 / tau) sigmoid(tau (ratio - 1)) A, with tau = tau_pos where A > 0 and tau_neg elsewhere: temperatures, above 0.
    The gradient is -A at ratio 1 and fades on both sides, the faster the larger tau.
    logprobs, old_logprobs: [B, T] nats; advantages, mask: [B, T]. Returns [B, T], in units of the advantages; 0 outside
    the mask. Settings: tau_pos 1.0 and tau_neg 1.05, the paper's: bad tokens are let go a little sooner.
    Pitfall: at ratio 1 the value is -2 A / tau, not -A, so it is not comparable with that of `clip`.
    """
    gated = torch.where(mask, advantages, 0.0)
    tau = torch.where(gated > 0, torch.full_like(gated, tau_pos), tau_neg)
    ratio = torch.exp(log_ratio(logprobs, old_logprobs, mask))
    return -torch.sigmoid(tau * (ratio - 1)) * 4 / tau * gated


def nll(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """Imitation of the outputs that did well (online rejection fine-tuning; DeepSeekMath, appendix A.1.3).

    -log pi where A > 0, else 0: the size of the advantage is not read, nor are old_logprobs.
    logprobs: [B, T] nats; advantages, mask: [B, T]. Returns [B, T] nats; 0 outside the mask.
    Settings: the advantage `only_right` and the mean `per_output`, over all outputs, the wrong ones among them.
    Pitfall: anything that scores above 0 is imitated alike, so a small reward for form alone is worth as much as a
    right answer; and wrong outputs teach nothing, so the policy narrows (the paper finds GRPO ahead for that reason).
    """
    return torch.where(mask & (advantages > 0), -logprobs, 0.0)


def clipped_surrogate(ratio: Tensor, advantages: Tensor, mask: Tensor, low: float, high: float) -> Tensor:
    """-min(ratio A, clamp(ratio, 1 - low, 1 + high) A), 0 outside the mask. ratio: [B, T] or [B, 1]; returns [B, T]."""
    advantages = torch.where(mask, advantages, 0.0)
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def log_ratio(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> Tensor:
    """log pi - log pi_old per token, [B, T] nats; 0 (ratio 1) outside the mask."""
    # where() on each of the two: the gradient of -inf - -inf is nan even where another where() drops the value.
    return torch.where(mask, logprobs, 0.0) - torch.where(mask, old_logprobs, 0.0)


def per_output(per_token: Tensor, mask: Tensor, denominators: Denominators) -> Tensor:
    """Mean over each output's tokens, then over the outputs (DeepSeekMath equation 3): tokens of short ones weigh more.

    per_token, mask: [B, T], whole outputs. Returns a scalar.
    """
    lengths = mask.sum(dim=1).clamp(min=1)
    return (torch.where(mask, per_token, 0.0).sum(dim=1) / lengths).sum() / max(denominators.outputs, 1.0)


def per_token(per_token: Tensor, mask: Tensor, denominators: Denominators) -> Tensor:
    """Mean over all tokens of the step (DAPO equation 8): long outputs weigh more. [B, T] twice; returns a scalar."""
    return torch.where(mask, per_token, 0.0).sum() / max(denominators.tokens, 1.0)


def fixed_length(per_token: Tensor, mask: Tensor, denominators: Denominators) -> Tensor:
    """Sum over tokens divided by a constant length, then mean over the outputs (Dr. GRPO): no weight by length.

    per_token, mask: [B, T]. Returns a scalar.
    """
    size = max(denominators.outputs, 1.0) * denominators.max_tokens
    return torch.where(mask, per_token, 0.0).sum() / size
