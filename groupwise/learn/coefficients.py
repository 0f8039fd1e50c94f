"""Coefficients that follow a target: the KL's and the entropy bonus's, from one step to the next."""

from groupwise.config import ObjectiveConfig
from groupwise.objective.surrogate import Objective

LARGEST_CHANGE = 0.2
"""Bound on the KL's relative error in one step (Ziegler et al. 2019)."""


def coefficients_after(
    config: ObjectiveConfig,
    objective: Objective,
    held: dict[str, float],
    *,
    kl: float | None,
    entropy: float | None,
    outputs: int,
) -> dict[str, float]:
    """The coefficients for the next step; those without a target are not in it.

    held: what this did after the step before, {} at first. kl, entropy: nats a token, of this step; None: not measured
    (no output had an update), so nothing moves.
    """
    following = dict(held)
    if config.kl_target is not None and kl is not None:
        coef = objective.kl_coef
        following["kl_coef"] = kl_coef_after(coef, kl, config.kl_target, outputs=outputs, horizon=config.kl_horizon)
    if config.entropy_target is not None and entropy is not None:
        weight = held.get(WEIGHT, objective.entropy_coef)
        weight = entropy_coef_after(weight, entropy, config.entropy_target, step=config.entropy_step)
        following |= {WEIGHT: weight, "entropy_coef": weight if entropy <= config.entropy_target else 0.0}
    return following


WEIGHT = "entropy_weight"
"""The bonus's weight, kept while the bonus is off."""


def kl_coef_after(coef: float, kl: float, target: float, *, outputs: int, horizon: float) -> float:
    """beta (1 + clamp(kl / target - 1, -0.2, 0.2) outputs / horizon) (Ziegler et al. 2019, arXiv:1909.08593, 2.2).

    coef: beta now; kl, target: nats a token; outputs: sampled in the step; horizon: outputs.
    """
    error = min(max(kl / target - 1, -LARGEST_CHANGE), LARGEST_CHANGE)
    return coef * (1 + error * outputs / horizon)


def entropy_coef_after(coef: float, entropy: float, target: float, *, step: float) -> float:
    """The weight of the entropy bonus, one step up if the entropy is under its target, else one down, 0 at least.

    (Skywork-OR1, arXiv:2505.22312, section 4: adaptive entropy control.) entropy, target: nats a token.
    """
    return coef + step if entropy < target else max(0.0, coef - step)
