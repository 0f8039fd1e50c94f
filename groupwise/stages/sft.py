"""Supervised fine-tuning: learn to say what the examples say. Continued pre-training, where they are plain text."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groupwise.config import LearningConfig, SFTRecipe
from groupwise.datasets.base import following
from groupwise.learn.examples import (
    PLAIN,
    Examples,
    heldout_loss,
    load_examples,
    negative_log_likelihood,
    rollouts_of,
)
from groupwise.learn.finite import check_loss
from groupwise.learn.microbatches import NOTHING, counting, in_microbatches, microbatch_tokens
from groupwise.learn.optimizer import bounded_step, gradients_of, make_optimizer, set_rates
from groupwise.learn.ranks import ALONE, Ranks, total
from groupwise.learn.tally import Tally
from groupwise.model.batch import Rollouts, microbatches
from groupwise.model.policy import Policy
from groupwise.run.journal import Learned, resume_optimizer
from groupwise.run.loop import Summary, finish_example_step, run_steps
from groupwise.run.open import Run, open_run
from groupwise.run.progress import Columns, of_examples
from groupwise.stop import Stop

COLUMNS: Columns = (
    ("loss", "loss", 7, "{:.4f}"),
    ("learned", "tokens/learned", 8, "{:.0f}"),
    ("read", "tokens/read", 8, "{:.0f}"),
)


def train(recipe: SFTRecipe, folder: Path, *, resume: bool = False) -> Summary:
    """Supervised fine-tuning on examples."""
    config = recipe.examples
    with open_run(
        recipe, folder, resume=resume, read=lambda tokenizer: load_examples(config, tokenizer, seed=recipe.seed)
    ) as run:
        examples: Examples = run.read
        learned = Learned(run.policy, run.tokenizer, make_optimizer(run.policy, recipe.update))
        resume_optimizer(run.journal, learned)
        count = len(examples.train)
        return run_steps(
            run.journal,
            learned,
            lambda stop: sft_step(run, stop, learned.optimizer),
            engine=run.engine,
            evaluate=run.evaluate,
            progress=of_examples(recipe, f"sft: {count} examples", count=count, columns=COLUMNS, tokens_are="learned"),
            measure=lambda: measured(run),
        )


def sft_step(run: Run[SFTRecipe], stop: Stop, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """One optimizer step on -mean log pi of the learned tokens, in a stream without padding."""
    recipe, state, examples, policy = run.journal.recipe, run.journal.state, run.read, run.policy
    config, update = recipe.examples, recipe.update
    chosen = following(
        examples.train, state.step * config.per_step, config.per_step, seed=recipe.seed, shuffle=config.shuffle
    )
    with stop.guarded(f"step {state.step + 1}"):
        started = time.perf_counter()
        rollouts, tally = rollouts_of(chosen, policy.device), Tally()
        learned = int(rollouts.output_mask.sum())
        set_rates(optimizer, update, None, step=state.step)
        with stop.abandonable():
            loss = gradient(policy, optimizer, rollouts, tally, config=update, step=state.step)
        bounded_step(optimizer, update, tally, step=state.step, named=policy.model.named_parameters, stop=stop)
        metrics = {
            "loss": loss,
            "tokens/learned": float(learned),
            "tokens/read": float(rollouts.lengths.sum()),
        }
        return finish_example_step(run.journal, tally, metrics, started=started, tokens=learned)


def gradient(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    rollouts: Rollouts,
    tally: Tally,
    *,
    config: LearningConfig,
    step: int,
    ranks: Ranks = ALONE,
) -> float:
    """Puts the gradient of -mean log pi of the learned tokens into the weights'; returns that loss, nats a token.

    The mean is over the tokens of all ranks.
    """
    learned, shares = total(ranks, int(rollouts.output_mask.sum())), list[float]()

    def begin() -> None:
        optimizer.zero_grad(set_to_none=False)
        shares.clear()

    def do(part: tuple[Tensor, float]) -> None:
        rows, factor = part
        piece = rollouts[rows]
        own = negative_log_likelihood(piece.output_mask, learned * factor)
        scored = policy.backward(
            piece, piece.output_mask, sampling=PLAIN, loss=lambda logprobs, _: own(logprobs)
        ).logprobs
        shares.append(float(own(scored)))
        check_loss(shares[-1], step=step, of={"log-probabilities": scored})

    tally.halvings += in_microbatches(
        policy,
        config,
        cut=lambda tokens: counting(microbatches(rollouts, tokens, question_once=policy.question_once)),
        units=lambda part: len(part[0]),
        begin=begin,
        do=do,
        what="example",
        ranks=ranks,
        idle=(torch.zeros(1, dtype=torch.long, device=policy.device), NOTHING),
    )
    ranks.sum_gradients(gradients_of(optimizer))
    return total(ranks, sum(shares))


def measured(run: Run[SFTRecipe]) -> dict[str, Any]:
    """The held-out loss as it is, if examples are held out."""
    if not run.read.heldout:
        return {}
    tokens = microbatch_tokens(run.policy, run.journal.recipe.update)
    return {"loss": heldout_loss(run.policy, run.read.heldout, tokens=tokens)}
