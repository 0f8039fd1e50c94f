"""Reward models: r_phi of whole answers from pairs (Bradley-Terry), or of the steps of an answer from their labels."""

import time
from pathlib import Path

import torch
from torch import Tensor

from groupwise.config import Recipe
from groupwise.envs.base import following
from groupwise.model.reward_model import load_classifier, logits, pieces
from groupwise.model.template import audit_for_reading
from groupwise.train.judgements import Judgements, heldout_figures, load_judgements
from groupwise.train.loop import Summary, finish_example_step, run_steps
from groupwise.train.make_batch import microbatch_tokens
from groupwise.train.progress import Columns, of_examples
from groupwise.train.run import Run, open_run
from groupwise.train.stop import Stop
from groupwise.train.tally import Tally
from groupwise.train.unread import BY_EXAMPLES, refuse_unread
from groupwise.train.update import bounded_step, make_optimizer, resume_optimizer, set_rates

COLUMNS: Columns = (
    ("loss", "loss", 7, "{:.4f}"),
    ("rightly", "reward_model/accuracy", 7, "{:.0%}"),
    ("margin", "reward_model/margin", 7, "{:.3f}"),
    ("read", "tokens/read", 8, "{:.0f}"),
)
UNREAD = (*BY_EXAMPLES, "questions", "rollout", "evaluate.samples", "evaluate.correct", "evaluate.formed")


def train(recipe: Recipe, folder: Path, *, resume: bool = False) -> Summary:
    """Trains a classifier on the recipe's judgements, in a run directory, and says what became of it."""
    refuse_unread(recipe, UNREAD)
    config, settings = recipe.examples, recipe.reward_model
    assert config is not None
    assert settings is not None
    with open_run(
        recipe,
        folder,
        resume=resume,
        read=lambda tokenizer: load_judgements(config, tokenizer, reward_model=settings, seed=recipe.seed),
        load=lambda model, tokenizer, judgements: load_classifier(
            model, tokenizer, kind=judgements.lesson.kind, seed=recipe.seed
        ),
        audit=audit_for_reading,
    ) as run:
        judgements: Judgements = run.read
        optimizer = make_optimizer(run.policy, recipe.update)
        resume_optimizer(run, optimizer)
        count = len(judgements.train)
        what = f"reward_model: {judgements.lesson.kind.told} from {count} examples"
        return run_steps(
            run,
            optimizer,
            lambda stop: reward_step(run, stop, optimizer),
            progress=of_examples(recipe, what, count=count, columns=COLUMNS, tokens_are="read"),
            measure=lambda: heldout_figures(
                run.policy, judgements, tokens=microbatch_tokens(run.policy, recipe.update)
            ),
        )


def reward_step(run: Run, stop: Stop, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """One optimizer step on the mean loss of the step's pairs or steps, what a pair shares computed once."""
    recipe, policy = run.recipe, run.policy
    config, settings, update, lesson = recipe.examples, recipe.reward_model, recipe.update, run.read.lesson
    assert config is not None
    assert settings is not None
    chosen = following(
        run.read.train, run.step * config.per_step, config.per_step, seed=recipe.seed, shuffle=config.shuffle
    )
    with stop.guarded():
        started = time.perf_counter()
        judged, loss, tally = sum(case.judgements for case in chosen), 0.0, Tally()
        made: dict[int, Tensor] = {}
        set_rates(optimizer, update, None, step=run.step)
        optimizer.zero_grad(set_to_none=False)
        groups = [case.readings for case in chosen]
        for rows in pieces(groups, microbatch_tokens(policy, update), question_once=policy.question_once):
            cases = [chosen[row] for row in rows]
            with logits(policy, [groups[row] for row in rows]) as found:
                share = lesson.losses(found, cases, settings.centre_coef).sum() / judged
                share.backward()
            loss += float(share.detach())
            sizes = [sum(len(reading.places) for reading in groups[row]) for row in rows]
            made |= dict(zip(rows, found.detach().split(sizes), strict=True))
        bounded_step(optimizer, update, tally, step=run.step, still=False)
        read = sum(len(reading.tokens) for group in groups for reading in group)
        metrics = {
            "loss": loss,
            **lesson.metrics(torch.cat([made[row] for row in range(len(chosen))]), chosen),
            "tokens/read": float(read),
        }
        return finish_example_step(run, tally, metrics, started=started, tokens=read)
