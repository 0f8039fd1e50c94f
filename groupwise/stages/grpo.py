"""Group Relative Policy Optimization (DeepSeekMath, arXiv:2402.03300, Algorithm 1), one step to a page."""

import time
from pathlib import Path

import torch

from groupwise.batch import Rollouts
from groupwise.config import Recipe
from groupwise.envs.base import batch as questions_of_step
from groupwise.model.checkpoint import load_optimizer
from groupwise.model.policy import Policy, load_policy
from groupwise.model.tokenizer import load_tokenizer
from groupwise.objective.surrogate import Objective
from groupwise.train.loop import Summary, check_rewards, finish_step, run_steps
from groupwise.train.rollout import sample_groups
from groupwise.train.run import Run, open_run
from groupwise.train.stop import Stop
from groupwise.train.update import make_batch, make_optimizer, resolve, update_policy


def train(recipe: Recipe, folder: Path, *, resume: bool = False) -> Summary:
    """Trains the recipe's model in a run directory, and says what became of it. Raises GroupwiseError."""
    objective = resolve(recipe.objective)
    with open_run(recipe, folder, resume=resume, with_reference=objective.kl_coef > 0) as run:
        optimizer = make_optimizer(run.policy, recipe.update)
        if run.resumed_from is not None:
            load_optimizer(run.resumed_from, optimizer, model=run.policy.model)
            for group in optimizer.param_groups:  # the recipe's, which may have changed since
                group |= {"betas": recipe.update.betas, "weight_decay": recipe.update.weight_decay}
        reference = None
        if objective.kl_coef > 0:  # pi_ref is the model that the run began with, also after a resume
            reference = load_policy(recipe.model, load_tokenizer(recipe.model, seed=recipe.seed))
            reference.model.requires_grad_(False)
        return run_steps(run, optimizer, lambda stop: grpo_step(run, stop, objective, reference, optimizer))


def grpo_step(
    run: Run, stop: Stop, objective: Objective, reference: Policy | None, optimizer: torch.optim.Optimizer
) -> dict[str, float]:
    """Sample a group per question, reward it, compare each output with its siblings, update the policy."""
    recipe, rollout_config = run.recipe, run.recipe.rollout
    sampling = rollout_config.sampling()
    questions = questions_of_step(
        run.questions.train,
        run.step,
        questions_per_step=rollout_config.questions_per_step,
        seed=recipe.seed,
        shuffle=recipe.questions.shuffle,
    )
    rollout = sample_groups(
        run.tokenizer,
        questions,
        engine=run.engine,
        rewards=run.rewards,
        sampling=sampling,
        group_size=rollout_config.group_size,
        seed=recipe.seed,
        step=run.step,
        policy_version=run.policy_version,
    )
    check_rewards(run, rollout)
    truncated = [
        recipe.update.mask_truncated and s.output.finish == "length" for g in rollout.groups for s in g.samples
    ]
    with stop.guarded():
        started = time.perf_counter()
        batch = make_batch(
            run.policy,
            Rollouts.of(rollout.groups, run.policy.device),
            objective=objective,
            reference=reference,
            sampling=sampling,
            truncated=torch.tensor(truncated, device=run.policy.device),
            exact_engine=run.engine.exact,
            config=recipe.update,
        )
        tally = update_policy(
            run.policy,
            optimizer,
            batch=batch,
            objective=objective,
            sampling=sampling,
            config=recipe.update,
            seed=recipe.seed,
            step=run.step,
        )
        return finish_step(run, rollout, batch, tally, update_seconds=time.perf_counter() - started)
