"""The critic's loss (PPO): how far its values are from the returns that were fixed when sampling."""

import torch
from torch import Tensor


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float | None) -> Tensor:
    """(V - G)^2 per token; with a clip the larger of that and (V_old + clamp(V - V_old, -clip, clip) - G)^2.

    values: [B, T], the critic's now; old_values, returns: [B, T], those of sampling, G = A + V_old; reward units; mask:
    [B, T]; clip: reward units, None: plain. Returns [B, T], squared reward units; 0 outside the mask.
    Settings: clip 0.2 where rewards are of size 1 (arXiv:1707.06347's companion code); it is off where returns are
    large. Pitfall: clipped, a value that has gone `clip` from V_old towards its return has no gradient, so with returns
    of size 100 a clip of 0.2 keeps the critic where it began.
    """
    values, old, returns = (torch.where(mask, part, 0.0) for part in (values, old_values, returns))
    error = (values - returns).square()
    if clip is None:
        return error
    near = old + (values - old).clamp(-clip, clip)
    return torch.maximum(error, (near - returns).square())


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 - var(G - V) / var(G): 1 a perfect critic, 0 one that knows the mean alone, below 0 worse. [n] twice."""
    returns, values = returns.cpu().double(), values.cpu().double()  # Apple's GPU has no float64
    spread = float(returns.var()) if len(returns) > 1 else 0.0
    return 1 - float((returns - values).var()) / spread if spread > 0 else float("nan")
