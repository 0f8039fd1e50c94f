"""Weights for outputs whose sampler was not quite the policy: another engine, another precision, older weights.

A correction is (log_weight, mask, *, its parameters) -> [B, T], log_weight = log pi_old - log pi_sampler: pi_old as the
trainer computes it, pi_sampler as the engine reported it. E over the sampler of (pi_old / pi_sampler) f is E over
pi_old of f; the bounds, low and high for short (correction_low, correction_high), trade that truth for variance. Each
token's loss is multiplied by its weight, which the gradient holds constant.
"""

import torch
from torch import Tensor

from groupwise.objective.losses import over_whole_output


def uncorrected(log_weight: Tensor, mask: Tensor) -> Tensor:
    """No correction: 1 at every token of the mask, 0 elsewhere.

    For an engine whose log-probabilities are the policy's own, as `local`. Pitfall: with any other the gradient is
    biased, and nothing but `sampler/gap_mean` and `sampler/ess` tells.
    """
    return mask.to(log_weight.dtype)


def token_truncated(
    log_weight: Tensor, mask: Tensor, *, correction_low: float = 0.0, correction_high: float = 2.0
) -> Tensor:
    """Each token's own weight, bounded: clamp(exp(log_weight), low, high) (truncated importance sampling).

    log_weight: [B, T] nats; mask: [B, T]. Returns [B, T]; 0 outside the mask. What every engine but an exact one gets
    by default. Settings: low 0, high 2 (Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy
    RL training"). Pitfall: it corrects a token, not how likely the tokens before it were, so it is biased for outputs.
    """
    return torch.where(mask, _weight(log_weight, mask).clamp(correction_low, correction_high), 0.0)


def token_masked(
    log_weight: Tensor, mask: Tensor, *, correction_low: float = 0.0, correction_high: float = 2.0
) -> Tensor:
    """Each token's own weight where it lies in [low, high], 0 where not: such a token teaches nothing.

    Arguments as in token_truncated. Settings: low 0.5, high 2 (IcePop has 0.5 and 5). Pitfall: the tokens left out are
    the policy's unlikely ones more often than not, so its rare ideas are what is lost; they keep their place in the
    denominators.
    """
    return _within(_weight(log_weight, mask), mask, correction_low, correction_high)


@over_whole_output
def sequence_truncated(
    log_weight: Tensor, mask: Tensor, *, correction_low: float = 0.0, correction_high: float = 2.0
) -> Tensor:
    """The whole output's weight at each of its tokens, bounded: clamp(exp(sum_t log_weight), low, high).

    Arguments as in token_truncated. Unbounded it is the exact correction. Settings: low 0, high 3. Pitfall: a sum over
    a thousand tokens is far from 0 even where each is near it: for long outputs nearly every weight sits at a bound.
    """
    return torch.where(mask, _sequence_weight(log_weight, mask).clamp(correction_low, correction_high), 0.0)


@over_whole_output
def sequence_masked(
    log_weight: Tensor, mask: Tensor, *, correction_low: float = 0.0, correction_high: float = 2.0
) -> Tensor:
    """The whole output's weight where it lies in [low, high]; an output outside teaches nothing (TRL's default).

    Arguments as in token_truncated. Settings: low 0, high 3. Pitfall: as for sequence_truncated, and the outputs that
    are left out are missing from both sides of their group's comparison.
    """
    return _within(_sequence_weight(log_weight, mask), mask, correction_low, correction_high)


def _within(weight: Tensor, mask: Tensor, low: float, high: float) -> Tensor:
    return torch.where(mask & (weight >= low) & (weight <= high), weight, 0.0)


def _weight(log_weight: Tensor, mask: Tensor) -> Tensor:
    return torch.exp(torch.where(mask, log_weight.detach(), 0.0))


def _sequence_weight(log_weight: Tensor, mask: Tensor) -> Tensor:
    return torch.exp(torch.where(mask, log_weight.detach(), 0.0).sum(dim=1, keepdim=True)).expand(mask.shape)
