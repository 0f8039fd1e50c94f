"""From a batch to new weights: micro-batches forward and backward, the gradient's norm bounded, one optimizer step."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, isfinite, pi

import numpy as np
import torch
from torch import Tensor

from groupwise import registry
from groupwise.batch import Batch, Rollouts, microbatches
from groupwise.config import ObjectiveConfig, UpdateConfig
from groupwise.data import Sampling
from groupwise.errors import RunError
from groupwise.model.policy import Policy
from groupwise.objective.losses import Denominators
from groupwise.objective.surrogate import Objective, Terms, policy_loss


def resolve(config: ObjectiveConfig) -> Objective:
    """The functions and coefficients behind a recipe's objective: the preset's row with what the recipe replaces.

    Raises ConfigError for an unknown name, or bounds that the loss cannot use.
    """
    row = registry.load(registry.PRESETS, config.preset, "objective.preset")

    def column(name: str) -> object:
        own = getattr(config, name)
        return getattr(row, name) if own is None else own

    objective = Objective(
        advantage=registry.load(registry.ADVANTAGES, str(column("advantage")), "objective.advantage"),
        loss=registry.load(registry.LOSSES, str(column("loss")), "objective.loss"),
        aggregate=registry.load(registry.AGGREGATES, str(column("aggregate")), "objective.aggregate"),
        kl=registry.load(registry.KL_ESTIMATORS, str(column("kl_estimator")), "objective.kl_estimator"),
        clip_low=float(column("clip_low")),  # type: ignore[arg-type]
        clip_high=float(column("clip_high")),  # type: ignore[arg-type]
        kl_coef=float(column("kl_coef")),  # type: ignore[arg-type]
        entropy_coef=float(column("entropy_coef")),  # type: ignore[arg-type]
    )
    nothing = torch.zeros(1, 1)  # a loss refuses bounds that it cannot use here, before the model is loaded
    objective.loss(nothing, nothing, nothing, nothing == 0, objective.clip_low, objective.clip_high)
    return objective


def make_optimizer(policy: Policy, config: UpdateConfig) -> torch.optim.AdamW:
    """AdamW with all its memory taken at once: gradients and moments between activations would tear the heap apart."""
    parameters = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def learning_rate(config: UpdateConfig, step: int) -> float:
    """The rate of a step, from 0: a linear rise over warmup_steps, then constant or down to 0 after the last."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    share = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1 + cos(pi * done))}[config.schedule]
    return config.learning_rate * share


@dataclass
class Tally:
    """Sums over the tokens of a step's updates, from which its metrics are means."""

    tokens: int = 0
    objective: float = 0.0
    entropy: float = 0.0
    kl: float = 0.0
    ratio: float = 0.0
    ratio_max: float = 0.0
    clipped_low: float = 0.0
    clipped_high: float = 0.0
    gap: float = 0.0
    gap_max: float = 0.0
    grad_norm: float = 0.0
    updates: int = 0

    def add(self, terms: Terms, *, entropies: Tensor, gap: Tensor, mask: Tensor) -> None:
        """gap: |log pi of the sampler - log pi of the policy|, [B, T] nats."""
        self.tokens += int(mask.sum())
        self.objective -= float(terms.loss.detach())
        self.entropy += float(torch.where(mask, entropies, 0.0).sum())
        self.kl += float(terms.kl.sum())
        self.ratio += float(torch.where(mask, terms.ratio, 0.0).sum())
        self.ratio_max = max(self.ratio_max, float(torch.where(mask, terms.ratio, 0.0).max()))
        self.clipped_low += float(terms.clipped_low.sum())
        self.clipped_high += float(terms.clipped_high.sum())
        gap = torch.where(mask, gap, 0.0)
        self.gap += float(gap.sum())
        self.gap_max = max(self.gap_max, float(gap.max()))

    def metrics(self, *, with_kl: bool) -> dict[str, float]:
        """Means over tokens; nothing of what was not computed, since a 0 would be read as measured."""
        if not self.tokens:
            return {"grad_norm": 0.0}
        per_token = {
            "entropy": self.entropy,
            "ratio/mean": self.ratio,
            "clip/low": self.clipped_low,
            "clip/high": self.clipped_high,
            "sampler/gap_mean": self.gap,
            **({"kl": self.kl} if with_kl else {}),
        }
        return {name: total / self.tokens for name, total in per_token.items()} | {
            "objective": self.objective / self.updates,
            "ratio/max": self.ratio_max,
            "sampler/gap_max": self.gap_max,
            "grad_norm": self.grad_norm / self.updates,
        }


def make_batch(
    policy: Policy,
    rollouts: Rollouts,
    *,
    objective: Objective,
    reference: Policy | None,
    sampling: Sampling,
    truncated: Tensor,
    exact_engine: bool,
    config: UpdateConfig,
) -> Batch:
    """The rollouts with their advantages, and log-probabilities under pi_old and pi_ref where the update needs them.

    truncated: [B], outputs to leave out of the update; they stay in their group's mean.
    With one update per rollout pi_old is pi and the ratio is 1 by construction; with more, an exact engine's own
    log-probabilities are pi_old's, and any other's are computed here.
    """
    advantages = objective.advantage(rollouts.rewards, rollouts.group, rollouts.output_mask)
    mask = rollouts.output_mask & ~(rollouts.rewards.isnan() | truncated)[:, None]
    on_policy = config.updates_per_rollout == 1 and (config.outputs_per_update or len(mask)) >= len(mask)
    old_logprobs = None if on_policy else rollouts.sampled_logprobs
    if not on_policy and not exact_engine:
        old_logprobs = logprobs(policy, rollouts, mask, sampling=sampling, tokens=microbatch_tokens(policy, config))
    return Batch(
        rollouts=rollouts,
        mask=mask,
        advantages=torch.where(mask, advantages, 0.0),
        old_logprobs=old_logprobs,
        ref_logprobs=None
        if reference is None
        else logprobs(reference, rollouts, mask, sampling=sampling, tokens=microbatch_tokens(policy, config)),
    )


def microbatch_tokens(policy: Policy, config: UpdateConfig) -> int:
    """Tokens of a forward-backward pass. A CPU's products are at full speed with 500 rows, a GPU's with many more."""
    return config.tokens_per_microbatch or (1536 if policy.device.type == "cpu" else 16384)


@torch.no_grad()
def logprobs(policy: Policy, rollouts: Rollouts, mask: Tensor, *, sampling: Sampling, tokens: int) -> Tensor:
    """log pi of the masked tokens, [B, T] nats, without gradient, so many tokens at a time."""
    result = torch.zeros(mask.shape, dtype=policy.model.dtype, device=mask.device)
    for rows in microbatches(rollouts, tokens, question_once=policy.question_once):
        piece = rollouts[rows]
        width = piece.tokens.shape[1]
        result[rows, :width] = policy.logprobs(piece, mask[rows, :width], sampling=sampling).logprobs
    return result


def update_policy(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    *,
    batch: Batch,
    objective: Objective,
    sampling: Sampling,
    config: UpdateConfig,
    seed: int,
    step: int,
) -> Tally:
    """mu passes over the batch, one optimizer step per `outputs_per_update` outputs (Algorithm 1, lines 10 and 11).

    The gradient does not depend on how an update is cut into micro-batches: sums are divided by the whole update's
    denominators. Outputs whose every term is 0 (no advantage, no KL or entropy term) are left out of the passes but
    keep their place in the denominators.
    """
    rate = learning_rate(config, step)
    for group in optimizer.param_groups:
        group["lr"] = rate
    tally = Tally()
    for rows in _updates(len(batch), config, seed=seed, step=step):
        update = batch[rows.to(batch.rollouts.lengths.device)]
        denominators = Denominators.of(update.mask, sampling.max_new_tokens)
        pieces = list(
            _pieces(update, objective, tokens=microbatch_tokens(policy, config), question_once=policy.question_once)
        )
        if not pieces:
            continue  # no output with a gradient: an optimizer step would only apply stale momentum
        optimizer.zero_grad(set_to_none=False)
        for piece in pieces:
            _backward(policy, piece, objective, sampling, denominators, tally, config.recompute_layers)
        norm = float(torch.nn.utils.clip_grad_norm_(policy.model.parameters(), config.max_grad_norm))
        if not isfinite(norm):
            raise RunError(
                f"step {step}: the gradient's norm is {norm}; the weights were left as they were",
                hint="go back to an earlier checkpoint with a lower update.learning_rate",
            )
        optimizer.step()
        tally.grad_norm += norm
        tally.updates += 1
    return tally


def _updates(outputs: int, config: UpdateConfig, *, seed: int, step: int) -> Iterator[Tensor]:
    """Rows of each optimizer step: mu shuffled passes, cut into `outputs_per_update`."""
    size = config.outputs_per_update or outputs
    for number in range(config.updates_per_rollout):
        order = np.random.default_rng([seed, step, number]).permutation(outputs)
        for start in range(0, outputs, size):
            yield torch.from_numpy(order[start : start + size])


def _pieces(update: Batch, objective: Objective, *, tokens: int, question_once: bool) -> Iterator[Batch]:
    """The micro-batches of an update, without the outputs that would add exactly 0 to the loss."""
    needed = update.mask.any(1)
    if objective.kl_coef == 0 and objective.entropy_coef == 0:
        needed = needed & (update.advantages != 0).any(1)
    rows = needed.nonzero()[:, 0]
    if len(rows):
        chosen = update[rows]
        for piece in microbatches(chosen.rollouts, tokens, question_once=question_once):
            yield chosen[piece]


def _backward(
    policy: Policy,
    piece: Batch,
    objective: Objective,
    sampling: Sampling,
    denominators: Denominators,
    tally: Tally,
    recompute_layers: bool,
) -> None:
    """Adds the gradient of the micro-batch's share of the loss to the weights' gradients; its figures to the tally."""
    mask = piece.mask

    def terms(logprobs: Tensor, entropies: Tensor) -> Terms:
        return policy_loss(
            objective,
            logprobs,
            old_logprobs=logprobs.detach() if piece.old_logprobs is None else piece.old_logprobs,
            ref_logprobs=piece.ref_logprobs,
            entropies=entropies,
            advantages=piece.advantages,
            mask=mask,
            denominators=denominators,
        )

    scored = policy.backward(
        piece.rollouts,
        mask,
        sampling=sampling,
        loss=lambda logprobs, entropies: terms(logprobs, entropies).loss,
        per_token=objective.per_token,
        entropy_gradient=objective.entropy_coef != 0,
        recompute_layers=recompute_layers,
    )
    gap = (piece.rollouts.sampled_logprobs - scored.logprobs).abs()
    tally.add(terms(*scored), entropies=scored.entropies, gap=gap, mask=mask)
