"""Proximal Policy Optimization with a critic (arXiv:1707.06347; for language models 2203.02155), a step to a page.

Where it differs from stages/grpo.py: a critic V_psi is the baseline, in place of an output's siblings, and each token
has an advantage of its own, from rewards r_t that hold the KL to the reference (`objective.kl_in: reward`).
"""

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
    """Trains the recipe's model and a critic in a run directory, and says what became of it. Raises GroupwiseError."""
    objective = resolve_recipe(recipe)
    with open_run(recipe, folder, resume=resume, objective=objective) as run:
        auxiliary = load_auxiliary(run, objective, critic=recipe.critic)
        optimizer = make_optimizer(run.policy, recipe.update, auxiliary.critic)
        resume_optimizer(run, optimizer)
        return run_steps(
            run,
            optimizer,
            lambda stop: ppo_step(run, stop, objective, auxiliary, optimizer),
            progress=of_rollouts(recipe),
        )


def ppo_step(
    run: Run, stop: Stop, objective: Objective, auxiliary: AuxiliaryModels, optimizer: torch.optim.Optimizer
) -> dict[str, float]:
    """Sample, reward, value each state by the critic as it is, take advantages and returns from that, update both."""
    recipe = run.recipe
    objective = with_coefficients(objective, recipe.objective, run.coefficients)
    rollout = sample_step(run)
    with stop.guarded(f"step {run.step + 1}"):
        started = time.perf_counter()
        # r_t, V(s_t), A_t and the targets G_t = A_t + V(s_t): fixed here for all of the step's updates
        with stop.abandonable():
            batch = batch_of(run, rollout, objective=objective, auxiliary=auxiliary)
        tally = update_policy(  # K epochs of shuffled minibatches: L = L_policy + c1 L_value - c2 H
            run.policy,
            optimizer,
            batch=batch,
            objective=objective,
            sampling=recipe.rollout.sampling(),
            config=recipe.update,
            seed=recipe.seed,
            step=run.step,
            critic=auxiliary.critic,
            agreement=agreement_of(run, rollout.groups),
            stop=stop,
        )
        if auxiliary.reference is not None and reference_is_due(recipe, step=run.step + 1):
            renew_reference(auxiliary.reference.model, run.policy.model, mix=recipe.objective.reference_mix)
        seconds = time.perf_counter() - started
        return finish_step(run, rollout, batch, tally, objective=objective, update_seconds=seconds)
