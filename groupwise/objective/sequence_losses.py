"""Losses made of a whole output's ratio: each token's share depends on all of them. Knows what losses.py knows.

The output's value stands at each of its tokens, so that the mean `per_output` gives the papers' mean over outputs; the
other means weigh an output by its length. They take an advantage that is the same at each token of an output.
"""

import torch
from torch import Tensor

from groupwise.objective.losses import clipped_surrogate, log_ratio, one_advantage, over_whole_output


@over_whole_output
@one_advantage
def sequence_clip(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
) -> Tensor:
    """The clipped surrogate of the output's ratio (GSPO, arXiv:2507.18071, equations 5 and 7).

    -min(s A, clamp(s, 1 - clip_low, 1 + clip_high) A) with s = exp(mean_t log(pi / pi_old)), the ratios' geometric
    mean. logprobs, old_logprobs: [B, T] nats; advantages, mask: [B, T]. Returns [B, T], in units of the advantages; 0
    outside the mask. With `per_output` each token's gradient is -s A / |o|, and none has any once s is past its bound.
    Settings: clip_low 3e-4, clip_high 4e-4 and four updates per rollout, the paper's.
    Pitfall: s is a mean, so its bounds are a thousandth of those of a token's ratio: with 0.2 nothing is ever clipped.
    With one update per rollout s is 1 and this is `clip`.
    """
    ratio = torch.exp(_mean_over_tokens(log_ratio(logprobs, old_logprobs, mask), mask))
    return clipped_surrogate(ratio, advantages, mask, clip_low, clip_high)


@over_whole_output
def sequence_token_clip(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
) -> Tensor:
    """GSPO with an advantage of each token's own (GSPO-token, arXiv:2507.18071, equations 13 and 14).

    -min(s_t A_t, clamp(s_t, 1 - clip_low, 1 + clip_high) A_t), s_t = sg[s] pi / sg[pi]; sg: constant in the gradient.
    The value of s_t is s, the output's ratio of `sequence_clip`; the gradient at a token is -s A_t, its own alone.
    logprobs, old_logprobs: [B, T] nats; advantages, mask: [B, T]. Returns [B, T], in units of the advantages; 0
    outside the mask. Settings as in `sequence_clip`.
    Pitfall: where an output's advantages are all equal, values and gradients are those of `sequence_clip`: it is for
    advantages that differ within an output, as those of process supervision do.
    """
    own = torch.where(mask, logprobs, 0.0)
    s = torch.exp(_mean_over_tokens(log_ratio(logprobs, old_logprobs, mask), mask)).detach()
    return clipped_surrogate(s * torch.exp(own - own.detach()), advantages, mask, clip_low, clip_high)


@over_whole_output
@one_advantage
def geometric_clip(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 0.4,
    clip_high: float = 0.4,
) -> Tensor:
    """The geometric mean of clipped ratios (GMPO, arXiv:2507.20673, the objective of its section 3).

    -exp(mean_t c_t) A, c_t: log(pi / pi_old), at most clip_high where A >= 0 and at least -clip_low where A < 0: the
    bounds are logarithms, and a token's ratio is clipped to [exp(-clip_low), exp(clip_high)] on its advantage's side.
    logprobs, old_logprobs: [B, T] nats; advantages, mask: [B, T]; clip_low, clip_high: nats. Returns [B, T], in units
    of the advantages; 0 outside the mask. With `per_output` a token that is not clipped has the gradient
    -exp(mean c) A / |o|.
    Settings: clip_low 0.4, clip_high 0.4, the paper's: a geometric mean bears wider bounds than an arithmetic one.
    Pitfall: a clipped token loses its gradient and still weighs on all others of its output.
    """
    kept = torch.where(mask, advantages, 0.0)
    change = log_ratio(logprobs, old_logprobs, mask)
    clipped = torch.where(kept < 0, change.clamp(min=-clip_low), change.clamp(max=clip_high))
    return -torch.exp(_mean_over_tokens(clipped, mask)) * kept


def _mean_over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens of each output, [B, 1]; 0 for an output without tokens. values, mask: [B, T]."""
    return torch.where(mask, values, 0.0).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
