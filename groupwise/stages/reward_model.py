"""Reward models: r_phi of whole answers from pairs (Bradley-Terry), or of the steps of an answer from their labels."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from groupwise.config import RewardModelRecipe
from groupwise.datasets.base import following
from groupwise.learn.finite import check_loss
from groupwise.learn.judgements import Case, Judged, Judgements, heldout_figures, load_judgements
from groupwise.learn.microbatches import NOTHING, counting, in_microbatches, microbatch_tokens
from groupwise.learn.optimizer import bounded_step, gradients_of, make_optimizer, set_rates
from groupwise.learn.ranks import ALONE, Ranks, total
from groupwise.learn.tally import Tally
from groupwise.model.policy import Policy
from groupwise.model.reward_model import load_classifier, logits, pieces
from groupwise.model.template import audit_for_reading
from groupwise.run.journal import Learned, resume_optimizer
from groupwise.run.loop import Summary, finish_example_step, run_steps
from groupwise.run.open import Run, open_run
from groupwise.run.progress import Columns, of_examples
from groupwise.stop import Stop

COLUMNS: Columns = (
    ("loss", "loss", 7, "{:.4f}"),
    ("rightly", "reward_model/accuracy", 7, "{:.0%}"),
    ("margin", "reward_model/margin", 7, "{:.3f}"),
    ("read", "tokens/read", 8, "{:.0f}"),
)


def train(recipe: RewardModelRecipe, folder: Path, *, resume: bool = False) -> Summary:
    """Train a reward model on preference pairs or labelled steps."""
    config, settings = recipe.examples, recipe.reward_model
    with open_run(
        recipe,
        folder,
        resume=resume,
        read=lambda tokenizer: load_judgements(config, tokenizer, reward_model=settings, seed=recipe.seed),
        load=lambda model, tokenizer, judgements: load_classifier(
            model, tokenizer, kind=judgements.rules.kind, seed=recipe.seed
        ),
        audit=audit_for_reading,
    ) as run:
        judgements: Judgements = run.read
        learned = Learned(run.policy, run.tokenizer, make_optimizer(run.policy, recipe.update))
        resume_optimizer(run.journal, learned)
        count = len(judgements.train)
        what = f"reward_model: {judgements.rules.kind.noun} from {count} examples"
        return run_steps(
            run.journal,
            learned,
            lambda stop: reward_step(run, stop, learned.optimizer),
            engine=run.engine,
            evaluate=run.evaluate,
            progress=of_examples(recipe, what, count=count, columns=COLUMNS, tokens_are="read"),
            measure=lambda: heldout_figures(
                run.policy, judgements, tokens=microbatch_tokens(run.policy, recipe.update)
            ),
        )


def reward_step(run: Run[RewardModelRecipe], stop: Stop, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """One optimizer step on the mean loss of the step's pairs or steps, what a pair shares computed once."""
    recipe, state, policy = run.journal.recipe, run.journal.state, run.policy
    config, update, rules = recipe.examples, recipe.update, run.read.rules
    chosen = following(
        run.read.train, state.step * config.per_step, config.per_step, seed=recipe.seed, shuffle=config.shuffle
    )
    with stop.guarded(f"step {state.step + 1}"):
        started, tally = time.perf_counter(), Tally()
        set_rates(optimizer, update, None, step=state.step)
        with stop.abandonable():
            outputs, loss = gradient(policy, optimizer, rules, chosen, tally, recipe=recipe, step=state.step)
        bounded_step(optimizer, update, tally, step=state.step, named=policy.model.named_parameters, stop=stop)
        read = sum(len(reading.tokens) for case in chosen for reading in case.readings)
        metrics = {"loss": loss, **rules.metrics(outputs, chosen), "tokens/read": float(read)}
        return finish_example_step(run.journal, tally, metrics, started=started, tokens=read)


def gradient(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    rules: Judged,
    chosen: Sequence[Case],
    tally: Tally,
    *,
    recipe: RewardModelRecipe,
    step: int,
    ranks: Ranks = ALONE,
) -> tuple[Tensor, float]:
    """Puts the gradient of the mean loss over judgements into the weights'; returns our logits [N, K] and the loss.

    The mean is over the judgements of all ranks.
    """
    centre_coef, judged = recipe.reward_model.centre_coef, total(ranks, sum(case.judgements for case in chosen))
    groups, outputs, shares = [case.readings for case in chosen], dict[int, Tensor](), list[float]()

    def begin() -> None:
        optimizer.zero_grad(set_to_none=False)
        shares.clear()

    def do(part: tuple[list[int], float]) -> None:
        rows, factor = part
        cases = [chosen[row] for row in rows]
        with logits(policy, [groups[row] for row in rows]) as found:
            share = rules.losses(found, cases, centre_coef).sum() / (judged * factor)
            share.backward()
        shares.append(float(share.detach()))
        check_loss(shares[-1], step=step, of={"rewards": found})
        sizes = [sum(len(reading.places) for reading in groups[row]) for row in rows]
        outputs.update(zip(rows, found.detach().split(sizes), strict=True))

    tally.halvings += in_microbatches(
        policy,
        recipe.update,
        cut=lambda tokens: counting(pieces(groups, tokens, question_once=policy.question_once)),
        units=lambda part: len(part[0]),
        begin=begin,
        do=do,
        what="example",
        ranks=ranks,
        idle=([0], NOTHING),
    )
    ranks.sum_gradients(gradients_of(optimizer))
    return torch.cat([outputs[row] for row in range(len(chosen))]), total(ranks, sum(shares))
