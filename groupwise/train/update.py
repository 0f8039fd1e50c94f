"""From a batch to new weights: micro-batches forward and backward, the gradient's norm bounded, one optimizer step."""

from collections.abc import Callable, Iterator
from math import cos, isfinite, pi

import numpy as np
import torch
from torch import Tensor

from groupwise.batch import Batch, microbatches
from groupwise.config import UpdateConfig
from groupwise.data import Sampling
from groupwise.errors import RunError
from groupwise.model.checkpoint import load_optimizer
from groupwise.model.critic import Critic
from groupwise.model.policy import Policy
from groupwise.objective.losses import Denominators
from groupwise.objective.surrogate import Objective, Terms, policy_loss
from groupwise.objective.value import value_loss
from groupwise.train.agreement import Agreement
from groupwise.train.make_batch import microbatch_tokens
from groupwise.train.run import Run
from groupwise.train.tally import Tally


def make_optimizer(policy: Policy, config: UpdateConfig, critic: Critic | None = None) -> torch.optim.AdamW:
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
    return optimizer


def resume_optimizer(run: Run, optimizer: torch.optim.Optimizer) -> None:
    """Puts what the run's last checkpoint holds into its optimizer; a new run's stays as it is."""
    if run.resumed_from is None:
        return
    load_optimizer(run.resumed_from, optimizer, model=run.policy.model, beside=run.beside)
    for group in optimizer.param_groups:  # the recipe's, which may have changed since
        group |= {"betas": run.recipe.update.betas, "weight_decay": run.recipe.update.weight_decay}


def learning_rate(config: UpdateConfig, step: int, peak: float | None = None) -> float:
    """The rate of a step, from 0: a linear rise over warmup_steps, then constant or down to 0 after the last.

    peak: the rate after the rise; None: the policy's.
    """
    peak = config.learning_rate if peak is None else peak
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    share = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1 + cos(pi * done))}[config.schedule]
    return peak * share


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
    critic: Critic | None = None,
    agreement: Agreement | None = None,
) -> Tally:
    """mu passes over the batch, one optimizer step per `outputs_per_update` outputs at most (Algorithm 1, lines 10-11).

    The gradient does not depend on how an update is cut into micro-batches: sums are divided by the whole update's
    denominators. Outputs whose every term is 0 (no advantage, no KL or entropy term, no critic) are left out of the
    passes but keep their place in the denominators. critic: learns from the same micro-batches, by the same optimizer;
    during its warm-up the policy's own terms are left out. agreement: what the first optimizer step is held to
    before it is taken; the later ones are of a policy that has moved. Raises RunError.
    """
    set_rates(optimizer, config, critic, step=step)
    warming = critic is not None and step < critic.config.warmup_steps
    tally = Tally()
    for rows in _updates(len(batch), config, seed=seed, step=step):
        update = batch[rows.to(batch.rollouts.lengths.device)]
        denominators = Denominators.of(update.mask, sampling.max_new_tokens)
        tokens = microbatch_tokens(policy, config)
        once = policy.question_once and (critic is None or critic.trunk.question_once)
        pieces = list(_pieces(update, objective, critic, tokens=tokens, question_once=once))
        if not pieces:
            continue  # no output with a gradient: an optimizer step would only apply stale momentum
        optimizer.zero_grad(set_to_none=False)
        for piece in pieces:
            value = None if critic is None else _value_of(critic, piece, objective, denominators, tally)
            if not warming:
                also = critic.on_states(piece.mask, value) if critic and value and critic.shared else None
                scored = _backward(policy, piece, objective, sampling, denominators, tally, also)
                if agreement is not None and tally.updates == 0:
                    agreement.add(piece.rollouts, scored, piece.mask)
            if critic and value and (warming or not critic.shared):
                critic.backward(piece.rollouts, piece.mask, loss=value)
        if agreement is not None and tally.updates == 0:
            agreement.require()
        bounded_step(optimizer, config, tally, step=step, still=warming)
    return tally


def set_rates(optimizer: torch.optim.Optimizer, config: UpdateConfig, critic: Critic | None, *, step: int) -> None:
    peaks = [config.learning_rate] + ([] if critic is None else [critic.config.learning_rate])
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["lr"] = learning_rate(config, step, peak)


def bounded_step(
    optimizer: torch.optim.Optimizer, config: UpdateConfig, tally: Tally, *, step: int, still: bool
) -> None:
    """One optimizer step, the gradient of each group of parameters bounded by itself. still: the first stays."""
    groups = [group["params"] for group in optimizer.param_groups]
    norms = [float(torch.nn.utils.clip_grad_norm_(group, config.max_grad_norm)) for group in groups]
    if not all(isfinite(norm) for norm in norms):
        raise RunError(
            f"step {step}: the gradient's norm is {max(norms, key=lambda norm: not isfinite(norm))}; the weights were "
            "left as they were",
            hint="go back to an earlier checkpoint with a lower update.learning_rate",
        )
    if not any(norms):
        return  # measured, and nothing to learn: a step would only apply stale momentum
    gradients = [parameter.grad for parameter in groups[0]] if still else []
    for parameter, _ in zip(groups[0], gradients, strict=False):
        parameter.grad = None  # AdamW passes it over: no decay, no stale momentum
    optimizer.step()
    for parameter, gradient in zip(groups[0], gradients, strict=False):
        parameter.grad = gradient
    tally.grad_norm += norms[0]
    tally.critic_grad_norm += norms[-1]
    tally.updates += 1


def _updates(outputs: int, config: UpdateConfig, *, seed: int, step: int) -> Iterator[Tensor]:
    """Rows of each optimizer step: mu shuffled passes, each in as few parts of at most `outputs_per_update` as can be.

    The parts are of like size, one output apart at most: a small rest would move the weights as far as a whole one.
    """
    parts = -(-outputs // (config.outputs_per_update or outputs))
    for number in range(config.updates_per_rollout):
        order = np.random.default_rng([seed, step, number]).permutation(outputs)
        yield from map(torch.from_numpy, np.array_split(order, parts))


def _pieces(
    update: Batch, objective: Objective, critic: Critic | None, *, tokens: int, question_once: bool
) -> Iterator[Batch]:
    """The micro-batches of an update, without the outputs that would add exactly 0 to the loss."""
    needed = update.mask.any(1)
    if not (objective.kl_in_loss or objective.entropy_coef or objective.measures_all or critic is not None):
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
    also: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """Adds the gradient of the micro-batch's share of the loss to the weights' gradients; its figures to the tally.

    Returns the policy's log-probabilities, [B, T] nats."""
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
            sampled_logprobs=piece.rollouts.sampled_logprobs,
        )

    scored = policy.backward(
        piece.rollouts,
        mask,
        sampling=sampling,
        loss=lambda logprobs, entropies: terms(logprobs, entropies).loss,
        per_token=objective.per_token,
        entropy_gradient=objective.entropy_coef != 0,
        also=also,
    )
    gap = scored.logprobs - piece.rollouts.sampled_logprobs
    tally.add(terms(*scored), entropies=scored.entropies, gap=gap, mask=mask)
    return scored.logprobs


def _value_of(
    critic: Critic, piece: Batch, objective: Objective, denominators: Denominators, tally: Tally
) -> Callable[[Tensor], Tensor]:
    """c1 L_value of a micro-batch as a function of the critic's values [B, T]; its figures go to the tally."""
    assert piece.values is not None
    assert piece.returns is not None
    old, returns = piece.values, piece.returns

    def loss(values: Tensor) -> Tensor:
        errors = value_loss(values, old, returns, piece.mask, critic.config.clip_value)
        tally.value_tokens += int(piece.mask.sum())
        tally.value_loss += float(errors.detach().sum())
        return critic.config.value_coef * objective.aggregate(errors, piece.mask, denominators)

    return loss
