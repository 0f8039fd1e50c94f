"""From a batch to new weights: micro-batches forward and backward, the gradient's norm bounded, one optimizer step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groupwise.config import LearningConfig, UpdateConfig
from groupwise.data import Sampling
from groupwise.learn.agreement import Agreement
from groupwise.learn.finite import Named, check_gradient, check_loss
from groupwise.learn.microbatches import in_microbatches
from groupwise.learn.tally import Tally
from groupwise.model.batch import Batch, microbatches
from groupwise.model.critic import Critic, gradients_in
from groupwise.model.policy import Policy
from groupwise.objective.losses import Denominators
from groupwise.objective.surrogate import Objective, diagnostics, policy_loss
from groupwise.objective.value import value_loss
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
    stop: Stop | None = None,
) -> Tally:
    """mu passes over the batch, one optimizer step per `outputs_per_update` outputs at most (Algorithm 1, lines 10-11).

    The gradient does not depend on how an update is cut into micro-batches: sums are divided by the whole update's
    denominators. Outputs whose every term is 0 (no advantage, no KL or entropy term, no critic) are left out of the
    passes but keep their place in the denominators. critic: learns from the same micro-batches, by the same optimizer;
    during its warm-up the policy's own terms are left out. agreement: what the first optimizer step is held to
    before it is taken; the later ones are of a policy that has moved. An error before the first optimizer step leaves
    all weights as they were; a later one ends the update with those taken, and is in the tally (`cut_short`).
    """
    set_rates(optimizer, config, critic, step=step)
    tally, stop = Tally(), stop or Stop()
    learner = _Learner(policy, objective, sampling, config, step, critic, tally, agreement)
    for rows in _updates(len(batch), config, seed=seed, step=step):
        try:
            with stop.abandonable():
                learned = learner.gradient(optimizer, batch[rows.to(batch.rollouts.lengths.device)])
            if learned:  # else an optimizer step would only apply stale momentum
                learner.bounded_step(optimizer, stop)
        except BaseException as error:
            if stop.torn or not tally.updates:
                raise
            tally.cut_short = error
            break
    return tally


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


def _updates(outputs: int, config: UpdateConfig, *, seed: int, step: int) -> Iterator[Tensor]:
    """Rows of each optimizer step: mu shuffled passes, each in as few parts of at most `outputs_per_update` as can be.

    The parts are of like size, one output apart at most: a small rest would move the weights as far as a whole one.
    """
    parts = -(-outputs // (config.outputs_per_update or outputs))
    for number in range(config.updates_per_rollout):
        order = np.random.default_rng([seed, step, number]).permutation(outputs)
        yield from map(torch.from_numpy, np.array_split(order, parts))


@dataclass(frozen=True)
class _Learner:
    """What a step's updates have in common: who learns what, and where it is counted."""

    policy: Policy
    objective: Objective
    sampling: Sampling
    config: UpdateConfig
    step: int
    critic: Critic | None
    tally: Tally
    agreement: Agreement | None

    @property
    def warming(self) -> bool:
        """True while the critic alone learns."""
        return self.critic is not None and self.step < self.critic.config.warmup_steps

    @property
    def apart(self) -> list[Tensor]:
        """Where the critic's gradient of a shared trunk is kept; [] where there is none."""
        return self.critic.of_trunk if self.critic and self.critic.shared and not self.warming else []

    def gradient(self, optimizer: torch.optim.Optimizer, update: Batch) -> bool:
        """The gradient of an update in the weights' gradients; False if no output has one."""
        once = self.policy.question_once and (self.critic is None or self.critic.trunk.question_once)
        needed = _needed(update, self.objective, self.critic)
        if not len(needed):
            return False
        denominators, chosen = Denominators.of(update.mask, self.sampling.max_new_tokens), update[needed]
        sums = [self.tally] if self.agreement is None else [self.tally, self.agreement]
        before = [dict(vars(one)) for one in sums]

        def begin() -> None:
            optimizer.zero_grad(set_to_none=False)
            for gradient in self.apart:
                gradient.zero_()
            for one, own in zip(sums, before, strict=True):
                vars(one).update(own)

        def cut(tokens: int) -> list[Batch]:
            return [chosen[piece] for piece in microbatches(chosen.rollouts, tokens, question_once=once)]

        self.tally.halvings += in_microbatches(
            self.policy,
            self.config,
            cut=cut,
            units=len,
            begin=begin,
            do=lambda piece: self._backward(piece, denominators),
        )
        if self.agreement is not None and self.tally.updates == 0:
            self.agreement.require()
        return True

    def bounded_step(self, optimizer: torch.optim.Optimizer, stop: Stop) -> None:
        bounded_step(
            optimizer,
            self.config,
            self.tally,
            step=self.step,
            named=self._named,
            stop=stop,
            still=self.warming,
            apart=self.apart,
            terms=_terms(self.objective, self.tally),
        )

    def _named(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        yield from self.policy.model.named_parameters()
        if self.critic is not None:
            yield from ((f"critic.{name}", weight) for name, weight in self.critic.module.named_parameters())

    def _backward(self, piece: Batch, denominators: Denominators) -> None:
        """Adds the gradient of a micro-batch's share of the loss to the gradients; its figures to the tally."""
        if not self.warming:
            self._of_policy(piece, denominators)
        if self.critic is not None:
            loss = self._value_loss(self.critic, piece, denominators)
            self.critic.backward(piece.rollouts, piece.mask, loss=loss, apart=self.apart)

    def _of_policy(self, piece: Batch, denominators: Denominators) -> None:
        mask = piece.mask
        given: dict[str, Any] = {
            "ref_logprobs": piece.ref_logprobs,
            "advantages": piece.advantages,
            "mask": mask,
            "sampled_logprobs": piece.rollouts.sampled_logprobs,
        }

        def old(logprobs: Tensor) -> Tensor:
            return logprobs.detach() if piece.old_logprobs is None else piece.old_logprobs

        def loss(logprobs: Tensor, entropies: Tensor) -> Tensor:
            return policy_loss(
                self.objective,
                logprobs,
                old_logprobs=old(logprobs),
                entropies=entropies,
                denominators=denominators,
                **given,
            )

        scored = self.policy.backward(
            piece.rollouts,
            mask,
            sampling=self.sampling,
            loss=loss,
            per_token=self.objective.per_token,
            entropy_gradient=self.objective.entropy_coef != 0,
        )
        with torch.no_grad():
            total = float(loss(*scored))
        found = diagnostics(self.objective, scored.logprobs, old_logprobs=old(scored.logprobs), **given)
        parts = {
            "log-probabilities of the policy": scored.logprobs,
            "of the reference": piece.ref_logprobs,
            "of the policy that sampled": piece.old_logprobs,
            "advantages": piece.advantages,
            "ratio to the policy that sampled": found.ratio,
            "KL to the reference": found.kl,
        }
        check_loss(total, step=self.step, of=parts)
        gap = scored.logprobs - piece.rollouts.sampled_logprobs
        self.tally.add(found, loss=total, entropies=scored.entropies, gap=gap, mask=mask)
        if self.agreement is not None and self.tally.updates == 0:
            self.agreement.add(piece.rollouts, scored.logprobs, mask)

    def _value_loss(self, critic: Critic, piece: Batch, denominators: Denominators) -> Callable[[Tensor], Tensor]:
        """c1 L_value of a micro-batch as a function of the critic's values [B, T]; its figures go to the tally."""
        assert piece.values is not None
        assert piece.returns is not None
        old, returns = piece.values, piece.returns

        def loss(values: Tensor) -> Tensor:
            errors = value_loss(values, old, returns, piece.mask, critic.config.clip_value)
            total = float(errors.detach().sum())
            check_loss(total, step=self.step, of={"values of the critic": values, "returns": returns})
            self.tally.value_tokens += int(piece.mask.sum())
            self.tally.value_loss += total
            return critic.config.value_coef * self.objective.aggregate(errors, piece.mask, denominators)

        return loss


def _needed(update: Batch, objective: Objective, critic: Critic | None) -> Tensor:
    """Rows of an update without the outputs that would add exactly 0 to the loss."""
    needed = update.mask.any(1)
    if not (objective.kl_in_loss or objective.entropy_coef or objective.measures_all or critic is not None):
        needed = needed & (update.advantages != 0).any(1)
    return needed.nonzero()[:, 0]


def _terms(objective: Objective, tally: Tally) -> str:
    """The loss's terms a token, for an error."""
    tokens = max(1, tally.tokens)
    parts = {
        "loss": -tally.objective,
        "kl_coef KL": objective.kl_coef * tally.kl / tokens if objective.kl_in_loss else 0.0,
        "entropy_coef H": objective.entropy_coef * tally.entropy / tokens,
        "largest ratio": tally.ratio_max,
        "value loss": tally.value_loss / max(1, tally.value_tokens),
    }
    return "; " + ", ".join(f"{name} = {value:.3g}" for name, value in parts.items() if value)
