"""From a batch to new weights: micro-batches forward and backward, the gradient's norm bounded, one optimizer step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groupwise.config import UpdateConfig
from groupwise.data import Sampling
from groupwise.errors import RunError
from groupwise.learn.agreement import Agreement
from groupwise.learn.finite import check_loss
from groupwise.learn.microbatches import in_microbatches
from groupwise.learn.optimizer import bounded_step, gradients_of, set_rates
from groupwise.learn.ranks import ALONE, Ranks
from groupwise.learn.tally import Tally
from groupwise.model.batch import Batch, microbatches
from groupwise.model.critic import Critic
from groupwise.model.policy import Policy
from groupwise.objective.losses import Denominators
from groupwise.objective.surrogate import Objective, diagnostics, policy_loss
from groupwise.objective.value import value_loss
from groupwise.stop import Stop


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
    ranks: Ranks = ALONE,
) -> Tally:
    """mu passes over the batch, one optimizer step per `outputs_per_update` outputs at most (Algorithm 1, lines 10-11).

    The gradient does not depend on how an update is cut into micro-batches: sums are divided by the whole update's
    denominators. Outputs whose every term is 0 (no advantage, no KL or entropy term, no critic) are left out of the
    passes but keep their place in the denominators. critic: learns from the same micro-batches, by the same optimizer;
    during its warm-up the policy's own terms are left out. agreement: what the first optimizer step is held to
    before it is taken; the later ones are of a policy that has moved. An error before the first optimizer step leaves
    all weights as they were; a later one ends the update with those taken, and is in the tally (`cut_short`). ranks:
    other processes that learn from other outputs of the step; the gradient, the norms and the tally are of all.
    """
    set_rates(optimizer, config, critic, step=step)
    tally, stop = Tally(), stop or Stop()
    learner = _Learner(policy, objective, sampling, config, step, critic, tally, agreement, ranks)
    for rows in _updates(len(batch), config, seed=seed, step=step, ranks=ranks):
        error: BaseException | None = None
        try:
            with stop.abandonable():
                learned = learner.gradient(optimizer, _part(batch, rows))
            if learned:  # else an optimizer step would only apply stale momentum
                learner.bounded_step(optimizer, stop)
        except BaseException as caught:
            error = caught
        if not ranks.most(error is not None):
            continue
        error = error or RunError("another rank failed in this update", hint="its own error says why")
        if stop.torn or not tally.updates:
            raise error
        tally.cut_short = error
        break
    return tally.over(ranks)


def _updates(outputs: int, config: UpdateConfig, *, seed: int, step: int, ranks: Ranks = ALONE) -> Iterator[Tensor]:
    """Rows of each optimizer step: mu shuffled passes, each in as few parts of at most `outputs_per_update` as can be.

    The parts are of like size, one output apart at most: a small rest would move the weights as far as a whole one.
    """
    everywhere = round(float(ranks.sum(torch.tensor(float(outputs)))))
    parts = -(-everywhere // (config.outputs_per_update or everywhere))
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
    ranks: Ranks = ALONE

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
        if not self.ranks.most(len(needed)):
            return False
        outputs, tokens = self.ranks.sum(Denominators.counts(update.mask)).tolist()
        denominators = Denominators(outputs, tokens, self.sampling.max_new_tokens)
        chosen = update[needed] if len(needed) else None
        sums = [self.tally] if self.agreement is None else [self.tally, self.agreement]
        before = [dict(vars(one)) for one in sums]

        def begin() -> None:
            optimizer.zero_grad(set_to_none=False)
            for gradient in self.apart:
                gradient.zero_()
            for one, own in zip(sums, before, strict=True):
                vars(one).update(own)

        def cut(tokens: int) -> list[Batch]:
            if chosen is None:
                return []
            return [chosen[piece] for piece in microbatches(chosen.rollouts, tokens, question_once=once)]

        self.tally.halvings += in_microbatches(
            self.policy,
            self.config,
            cut=cut,
            units=len,
            begin=begin,
            do=lambda piece: self._backward(piece, denominators),
            ranks=self.ranks,
            idle=_idle(update),
        )
        if self.agreement is not None and self.tally.updates == 0:
            self.agreement.require(self.ranks)
        self.ranks.sum_gradients([*gradients_of(optimizer), *self.apart])
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
        if not bool(mask.any()):
            return  # a pass that another rank had to make
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


def _part(batch: Batch, rows: Tensor) -> Batch:
    """The batch's rows of an update; of a rank that has none for it, an output with nothing to learn from."""
    return batch[rows.to(batch.rollouts.lengths.device)] if len(rows) else _idle(batch)


def _idle(update: Batch) -> Batch:
    """An output of the update with nothing to learn from: a pass over it that adds nothing."""
    one = update[torch.zeros(1, dtype=torch.long, device=update.mask.device)]
    nothing = torch.zeros_like(one.mask)
    return replace(one, mask=nothing, advantages=torch.zeros_like(one.advantages))


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
