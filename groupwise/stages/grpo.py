"""Group Relative Policy Optimization (DeepSeekMath, arXiv:2402.03300, Algorithm 1), one step to a page."""

import time
from pathlib import Path

import torch

from groupwise.config import Recipe
from groupwise.learn.auxiliary import AuxiliaryModels, reference_is_due, renew_reference
from groupwise.learn.update import make_optimizer, update_policy
from groupwise.objective.surrogate import Objective
from groupwise.run.auxiliary import load_auxiliary
from groupwise.run.loop import Summary, finish_step, run_steps
from groupwise.run.open import Run, open_run, resume_optimizer
from groupwise.run.progress import of_rollouts
from groupwise.run.resolve import resolve_recipe, with_coefficients
from groupwise.run.step import agreement_of, batch_of, sample_step
from groupwise.stop import Stop


def train(recipe: Recipe, folder: Path, *, resume: bool = False) -> Summary:
    """Trains the recipe's model in a run directory, and says what became of it. Raises GroupwiseError."""
    objective = resolve_recipe(recipe)
    with open_run(recipe, folder, resume=resume, objective=objective) as run:
        auxiliary = load_auxiliary(run, objective)
        optimizer = make_optimizer(run.policy, recipe.update)
        resume_optimizer(run, optimizer)
        return run_steps(
            run,
            optimizer,
            lambda stop: grpo_step(run, stop, objective, auxiliary, optimizer),
            progress=of_rollouts(recipe),
        )


def grpo_step(
    run: Run, stop: Stop, objective: Objective, auxiliary: AuxiliaryModels, optimizer: torch.optim.Optimizer
) -> dict[str, float]:
    """Sample a group per question, reward it, compare each output with its siblings, update the policy."""
    recipe = run.recipe
    objective = with_coefficients(objective, recipe.objective, run.coefficients)
    rollout = sample_step(run)
    with stop.guarded(f"step {run.step + 1}"):
        started = time.perf_counter()
        with stop.abandonable():
            batch = batch_of(run, rollout, objective=objective, auxiliary=auxiliary)
        tally = update_policy(
            run.policy,
            optimizer,
            batch=batch,
            objective=objective,
            sampling=recipe.rollout.sampling(),
            config=recipe.update,
            seed=recipe.seed,
            step=run.step,
            agreement=agreement_of(run, rollout.groups),
            stop=stop,
        )
        if auxiliary.reference is not None and reference_is_due(recipe, step=run.step + 1):
            renew_reference(auxiliary.reference.model, run.policy.model, mix=recipe.objective.reference_mix)
        seconds = time.perf_counter() - started
        return finish_step(run, rollout, batch, tally, objective=objective, update_seconds=seconds)
