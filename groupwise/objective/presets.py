"""Published methods as rows of names: advantage x loss x aggregate x KL. Knows names only; imports no torch.

The names are those of the tables ADVANTAGES, LOSSES, AGGREGATES and KL_ESTIMATORS in groupwise/registry.py.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A method's row; a recipe may replace any column of it."""

    advantage: str
    loss: str
    aggregate: str
    clip_low: float
    """epsilon below: the ratio's lower bound is 1 - clip_low."""
    clip_high: float
    """epsilon above: the ratio's upper bound is 1 + clip_high."""
    kl_coef: float
    """beta, weight of the KL to the reference in the loss."""
    kl_estimator: str
    entropy_coef: float
    """Weight of the entropy bonus, subtracted from the loss."""
    source: str
    equation: str
    """What is minimised, in one line."""


GRPO = Preset(
    advantage="group_relative",
    loss="clip",
    aggregate="per_output",
    clip_low=0.2,
    clip_high=0.2,
    kl_coef=0.04,
    kl_estimator="k3",
    entropy_coef=0.0,
    source="DeepSeekMath, arXiv:2402.03300, equation 3",
    equation="mean_i mean_t [-min(ratio A, clamp(ratio, 1-eps, 1+eps) A) + beta k3], A = (r - mean r) / std r",
)

DR_GRPO = Preset(
    advantage="group_centred",
    loss="clip",
    aggregate="fixed_length",
    clip_low=0.2,
    clip_high=0.2,
    kl_coef=0.0,
    kl_estimator="k3",
    entropy_coef=0.0,
    source="Understanding R1-Zero-Like Training (Dr. GRPO), arXiv:2503.20783",
    equation="mean_i (1/max_tokens) sum_t -min(ratio A, clamp(ratio, 1-eps, 1+eps) A), A = r - mean r",
)
