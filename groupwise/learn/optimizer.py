"""AdamW: its memory, its rates, and one step of it with the gradient's norm bounded."""

from collections.abc import Sequence
from math import cos, pi

import torch
from torch import Tensor

from groupwise.config import LearningConfig
from groupwise.learn.finite import Named, check_gradient
from groupwise.learn.tally import Tally
from groupwise.model.critic import Critic, gradients_in
from groupwise.model.policy import Policy
from groupwise.stop import Stop


def make_optimizer(policy: Policy, config: LearningConfig, critic: Critic | None = None) -> torch.optim.AdamW:
    """AdamW with all its memory taken at once: gradients and moments between activations would tear the heap apart.

    Its groups: the policy's parameters, and with a critic those that are the critic's alone.
    """
    modules = [policy.model] if critic is None else [policy.model, critic.module]
    groups = [[parameter for parameter in module.parameters() if parameter.requires_grad] for module in modules]
    optimizer = torch.optim.AdamW(
        [{"params": group} for group in groups],
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )
    for parameter in (parameter for group in groups for parameter in group):
        parameter.grad = torch.zeros_like(parameter)
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    if critic is not None and critic.shared:
        critic.of_trunk = [torch.zeros_like(parameter) for parameter in groups[0]]
    return optimizer


def learning_rate(config: LearningConfig, step: int, peak: float | None = None) -> float:
    """The rate of a step, from 0: a linear rise over warmup_steps, then constant or down to 0 after the last.

    peak: the rate after the rise; None: the policy's.
    """
    peak = config.learning_rate if peak is None else peak
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    share = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1 + cos(pi * done))}[config.schedule]
    return peak * share


def gradients_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    weights = (weight for group in optimizer.param_groups for weight in group["params"])
    return [weight.grad for weight in weights if weight.grad is not None]


def set_rates(optimizer: torch.optim.Optimizer, config: LearningConfig, critic: Critic | None, *, step: int) -> None:
    peaks = [config.learning_rate] + ([] if critic is None else [critic.config.learning_rate])
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["lr"] = learning_rate(config, step, peak)


def bounded_step(
    optimizer: torch.optim.Optimizer,
    config: LearningConfig,
    tally: Tally,
    *,
    step: int,
    named: Named,
    stop: Stop | None = None,
    still: bool = False,
    apart: Sequence[Tensor] = (),
    terms: str = "",
) -> None:
    """One optimizer step, the gradient of each group of parameters bounded by itself. still: the first stays.

    named: the parameters by their names, for an error. apart: the last group's share in the gradients of the first's
    parameters, bounded with its own and then added to theirs. terms: what an error says of the loss. Raises RunError
    for a gradient that is not finite, before anything has changed.
    """
    stop, groups = stop or Stop(), [group["params"] for group in optimizer.param_groups]
    gradients = [[parameter.grad for parameter in group if parameter.grad is not None] for group in groups]
    gradients[-1] = [*gradients[-1], *apart]
    norms = [torch.nn.utils.get_total_norm(own) for own in gradients]
    for number, norm in enumerate(norms):
        with gradients_in(groups[0], apart if number else ()):
            check_gradient(float(norm), named, step=step, terms=terms)
    if not any(float(norm) for norm in norms):
        return  # measured, and nothing to learn: a step would only apply stale momentum
    for own, norm in zip(gradients, norms, strict=True):
        for gradient in own:  # as torch's clip_grad_norm_ does
            gradient.mul_((config.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
    for gradient, more in zip(gradients[0], apart, strict=False):
        gradient.add_(more)
    with stop.changing():
        _step(optimizer, still=groups[0] if still else [])
    tally.grad_norm += float(norms[0])
    tally.critic_grad_norm += float(norms[-1])
    tally.updates += 1


def _step(optimizer: torch.optim.Optimizer, *, still: Sequence[torch.nn.Parameter]) -> None:
    """The optimizer's step, without the parameters that are to stay: no decay, no stale momentum."""
    gradients = [parameter.grad for parameter in still]
    for parameter in still:
        parameter.grad = None
    optimizer.step()
    for parameter, gradient in zip(still, gradients, strict=True):
        parameter.grad = gradient
