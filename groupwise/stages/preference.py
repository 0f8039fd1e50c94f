"""Preferences: raise the outputs that were judged better, without leaving the reference (DPO, IPO, KTO)."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groupwise.config import LearningConfig, PreferenceRecipe
from groupwise.learn.examples import PLAIN
from groupwise.learn.finite import check_loss
from groupwise.learn.microbatches import NOTHING, counting, in_microbatches, microbatch_tokens
from groupwise.learn.optimizer import bounded_step, gradients_of, make_optimizer, set_rates
from groupwise.learn.preferences import (
    Method,
    Preferences,
    chosen_for,
    liked_of,
    load_preferences,
    one_before,
    reference_point_of_step,
    rollouts_of,
    summed_logprobs,
)
from groupwise.learn.ranks import ALONE, Ranks, total
from groupwise.learn.tally import Tally
from groupwise.model.batch import Rollouts, whole_groups
from groupwise.model.policy import Policy
from groupwise.objective.preference import agreement
from groupwise.run.journal import Learned, resume_optimizer
from groupwise.run.loop import Summary, finish_example_step, run_steps
from groupwise.run.open import Run, open_run
from groupwise.run.progress import Columns, of_examples
from groupwise.run.references import References, load_references
from groupwise.statistics.intervals import balanced, bootstrap, wilson
from groupwise.stop import Stop

COLUMNS: Columns = (
    ("loss", "loss", 7, "{:.4f}"),
    ("rightly", "preference/accuracy", 7, "{:.0%}"),
    ("margin", "preference/margin", 7, "{:.3f}"),
    ("chosen", "preference/chosen", 7, "{:.3f}"),
    ("rejected", "preference/rejected", 8, "{:.3f}"),
)


def train(recipe: PreferenceRecipe, folder: Path, *, resume: bool = False) -> Summary:
    """Preference learning from pairs or labels: DPO, IPO, KTO."""
    method, config = Method.of(recipe), recipe.examples
    with open_run(
        recipe,
        folder,
        resume=resume,
        read=lambda tokenizer: load_preferences(config, tokenizer, method=method, seed=recipe.seed),
    ) as run:
        found: Preferences = run.read
        references = load_references(
            run.journal,
            method,
            found,
            policy=run.policy,
            tokenizer=run.tokenizer,
            tokens=microbatch_tokens(run.policy, recipe.update),
        )
        learned = Learned(run.policy, run.tokenizer, make_optimizer(run.policy, recipe.update))
        resume_optimizer(run.journal, learned)
        count = len(found.train)
        what = f"{method.name}: {count} {'pairs' if method.of_pairs else 'judged outputs'}"
        return run_steps(
            run.journal,
            learned,
            lambda stop: preference_step(run, stop, method, references, learned.optimizer),
            engine=run.engine,
            evaluate=run.evaluate,
            progress=of_examples(recipe, what, count=count, columns=COLUMNS, tokens_are="read"),
            measure=lambda: measured(run, method, references),
        )


def preference_step(
    run: Run[PreferenceRecipe], stop: Stop, method: Method, references: References, optimizer: torch.optim.Optimizer
) -> dict[str, float]:
    """One optimizer step on the mean loss of the step's pairs or outputs, each question once for its outputs."""
    recipe, state, examples, policy = run.journal.recipe, run.journal.state, run.read.train, run.policy
    indices = chosen_for(recipe, state.step, count=len(examples))
    chosen = [examples[index] for index in indices]
    with stop.guarded(f"step {state.step + 1}"):
        started = time.perf_counter()
        rollouts, liked = rollouts_of(chosen, policy.device), liked_of(chosen, policy.device)
        of_reference, z0 = references.of(indices), torch.zeros((), device=policy.device)
        tally = Tally()
        set_rates(optimizer, recipe.update, None, step=state.step)
        with stop.abandonable():
            if method.reads_reference_point:
                others = summed_logprobs(policy, one_before(chosen), tokens=microbatch_tokens(policy, recipe.update))
                z0 = reference_point_of_step(others - references.mismatched[state.step])
            sums, loss, tally.halvings = gradient(
                policy,
                optimizer,
                method,
                rollouts=rollouts,
                liked=liked,
                of_reference=of_reference,
                z0=z0,
                units=len(chosen),
                config=recipe.update,
                step=state.step,
            )
        bounded_step(optimizer, recipe.update, tally, step=state.step, named=policy.model.named_parameters, stop=stop)
        read = sum(len(one.question) + sum(map(len, one.outputs)) for one in chosen)
        metrics = {
            "loss": loss,
            **figures_of_step(method, sums, sums - of_reference, liked, z0),
            "tokens/read": float(read),
        }
        return finish_example_step(run.journal, tally, metrics, started=started, tokens=read)


def gradient(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    method: Method,
    *,
    rollouts: Rollouts,
    liked: Tensor,
    of_reference: Tensor,
    z0: Tensor,
    units: int,
    config: LearningConfig,
    step: int,
    ranks: Ranks = ALONE,
) -> tuple[Tensor, float, int]:
    """Puts the gradient of the step's mean loss into the weights'.

    liked, of_reference: [rows], the reference's sums in nats; z0: a scalar, of the whole step, so that neither the loss
    nor its gradient depends on how the step is cut; units: pairs, or single outputs, of our part of the step, of which
    the mean is over those of all ranks. Returns log pi of each output [rows], the loss, and how often micro-batches
    were halved.
    """
    everywhere = total(ranks, units)
    sums, shares = torch.zeros_like(of_reference), list[float]()

    def begin() -> None:
        optimizer.zero_grad(set_to_none=False)
        shares.clear()

    def do(part: tuple[Tensor, float]) -> None:
        rows, factor = part
        piece = rollouts[rows]
        given = {"liked": liked[rows], "of_reference": of_reference[rows], "z0": z0}
        share = _share(method, piece, **given, units=everywhere * factor)
        scored = policy.backward(
            piece,
            piece.output_mask,
            sampling=PLAIN,
            loss=lambda logprobs, _: share(logprobs),
            per_token=False,
        )
        sums[rows] = scored.logprobs.sum(1)
        shares.append(float(share(scored.logprobs)))
        parts = {"log-probabilities": scored.logprobs, "of the reference": of_reference[rows], "reference point": z0}
        check_loss(shares[-1], step=step, of=parts)

    halvings = in_microbatches(
        policy,
        config,
        cut=lambda tokens: counting(whole_groups(rollouts, tokens, question_once=policy.question_once)),
        units=lambda part: len(rollouts.group[part[0]].unique()),
        begin=begin,
        do=do,
        what="pair" if method.of_pairs else "output",
        ranks=ranks,
        idle=((rollouts.group == rollouts.group[0]).nonzero()[:, 0], NOTHING),
    )
    ranks.sum_gradients(gradients_of(optimizer))
    return sums, total(ranks, sum(shares)), halvings


def _share(
    method: Method, piece: Rollouts, *, liked: Tensor, of_reference: Tensor, z0: Tensor, units: float
) -> Callable[[Tensor], Tensor]:
    """log pi [b, T] of a micro-batch -> its share of the step's mean loss."""
    return lambda logprobs: method.losses(logprobs.sum(1) - of_reference, piece, liked, z0).sum() / units


def measured(run: Run[PreferenceRecipe], method: Method, references: References) -> dict[str, Any]:
    """Held-out loss and how many are preferred rightly, as the policy is, if examples are held out."""
    heldout, policy = run.read.heldout, run.policy
    if not heldout:
        return {}
    tokens = microbatch_tokens(policy, run.journal.recipe.update)
    liked, z0 = liked_of(heldout, policy.device), torch.zeros((), device=policy.device)
    log_ratios = summed_logprobs(policy, heldout, tokens=tokens) - references.heldout
    if method.reads_reference_point:
        others = summed_logprobs(policy, one_before(heldout), tokens=tokens)
        z0 = reference_point_of_step(others - references.heldout_mismatched)
    rollouts = rollouts_of(heldout, policy.device)
    loss = bootstrap(method.losses(log_ratios, rollouts, liked, z0).tolist())
    right = agreement(method.margins(log_ratios, liked, z0))
    if method.of_pairs:
        unit, preferred = "a pair", wilson(float(right.sum()), len(right))
    else:
        unit, preferred = "an output", balanced(right.tolist(), liked.tolist(), [one.question for one in heldout])
    return {
        "loss": {"value": loss.value, "low": loss.low, "high": loss.high, "unit": unit},
        "preferred": preferred._asdict(),
    }


def figures_of_step(method: Method, sums: Tensor, log_ratios: Tensor, liked: Tensor, z0: Tensor) -> dict[str, float]:
    """What a step tells of the policy that it began with; a kind of output that it has none of is left out."""
    beta, sides = method.settings["beta"], (("chosen", liked), ("rejected", ~liked))
    right, found = agreement(method.margins(log_ratios, liked, z0)), {}
    if method.of_pairs:
        found["preference/accuracy"] = float(right.mean())
    elif bool(liked.any()) and not bool(liked.all()):
        # The mean over all would call a policy that lowers every output right wherever most were disliked.
        found["preference/accuracy"] = 0.5 * float(right[liked].mean() + right[~liked].mean())
    for name, mask in sides:
        if bool(mask.any()):
            found[f"preference/{name}"] = beta * float(log_ratios[mask].mean())
            found[f"logprobs/{name}"] = float(sums[mask].mean())
    if bool(liked.any()) and not bool(liked.all()):
        found["preference/margin"] = found["preference/chosen"] - found["preference/rejected"]
    return found | ({"preference/reference_point": float(z0)} if method.reads_reference_point else {})
