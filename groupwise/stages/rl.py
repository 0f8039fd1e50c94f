"""Reinforcement learning by a policy gradient, one step to a page (DeepSeekMath, arXiv:2402.03300, Algorithm 1).

Which gradient is a preset (`groupwise list presets`): GRPO and its family compare an output with its siblings; PPO and
A2C (arXiv:1707.06347; for language models 2203.02155) with a critic V_psi, and have an advantage for each token.
"""

import time
from pathlib import Path

import torch
from torch.optim import Optimizer

from groupwise.config import RLRecipe
from groupwise.learn.agreement import expected_agreement
from groupwise.learn.auxiliary import AuxiliaryModels, reference_is_due, renew_reference
from groupwise.learn.make_batch import make_batch
from groupwise.learn.optimizer import make_optimizer
from groupwise.learn.update import update_policy
from groupwise.model.batch import Rollouts
from groupwise.objective.surrogate import Objective, reads_rewards
from groupwise.rollout.curriculum import Curriculum, curriculum_of
from groupwise.rollout.groups import Rollout, sample_step
from groupwise.run.auxiliary import kept, load_auxiliary
from groupwise.run.journal import Learned, resume_optimizer
from groupwise.run.judged import Judged, check_rewards
from groupwise.run.loop import Summary, finish_step, run_steps
from groupwise.run.open import Run, open_run
from groupwise.run.progress import of_rollouts
from groupwise.run.resolve import resolve_recipe, with_coefficients
from groupwise.stop import Stop


def train(recipe: RLRecipe, folder: Path, *, resume: bool = False) -> Summary:
    """Reinforcement learning from rewards: GRPO, PPO and their variants. Raises GroupwiseError."""
    objective = resolve_recipe(recipe)
    with open_run(recipe, folder, resume=resume, objective=objective) as run:
        models = load_auxiliary(run.journal, objective, run.policy, run.tokenizer)
        optimizer = make_optimizer(run.policy, recipe.update, models.critic)
        learned = Learned(run.policy, run.tokenizer, optimizer, kept(recipe, models))
        resume_optimizer(run.journal, learned)
        judged = Judged(learns=reads_rewards(objective.advantage))
        curriculum = curriculum_of(recipe, run.questions.train, folder, step=run.journal.state.step)
        return run_steps(
            run.journal,
            learned,
            lambda stop: rl_step(run, stop, objective, models, optimizer, judged, curriculum),
            engine=run.engine,
            evaluate=run.evaluate,
            progress=of_rollouts(recipe),
        )


def rl_step(
    run: Run[RLRecipe],
    stop: Stop,
    objective: Objective,
    models: AuxiliaryModels,
    optimizer: Optimizer,
    judged: Judged,
    curriculum: Curriculum | None,
) -> dict[str, float]:
    """Sample a group per question, reward it, take the advantages, update the policy; the critic, where there is one.

    models: pi_ref, a teacher, V_psi; each None where the objective reads none.
    """
    recipe, state, policy, exact = run.journal.recipe, run.journal.state, run.policy, run.engine.capabilities.exact
    sampling = recipe.rollout.sampling()
    objective = with_coefficients(objective, recipe.objective, state.coefficients)
    # Sampling and rewards: q ~ D, o_1 .. o_G ~ pi_old(. | q), r_i = R(q, o_i)
    rollout = _sampled(run, curriculum)
    check_rewards(run.journal, judged, rollout.groups)
    with stop.guarded(f"step {state.step + 1}"):
        started = time.perf_counter()
        with stop.abandonable():
            # log pi_old, log pi_ref, V(s_t) and the advantages: fixed here for all of the step's updates
            batch = make_batch(
                policy,
                Rollouts.of(rollout.taught, policy.device, labels=[reward.label for reward in recipe.rewards]),
                objective=objective,
                auxiliary=models,
                sampling=sampling,
                truncated=torch.tensor(rollout.left_out(truncated=recipe.update.mask_truncated), device=policy.device),
                exact_engine=exact,
                config=recipe.update,
                reward_weights=run.rewards.weights(state.step),
            )
        # L = L_policy + beta KL - c2 H (+ c1 L_value): mu passes, micro-batches, one bounded optimizer step for each
        tally = update_policy(
            policy,
            optimizer,
            batch=batch,
            objective=objective,
            sampling=sampling,
            config=recipe.update,
            seed=recipe.seed,
            step=state.step,
            critic=models.critic,
            agreement=expected_agreement(
                policy, rollout.groups, sampling, exact_engine=exact, step=state.step, decode=run.tokenizer.decode
            ),
            stop=stop,
        )
        if models.reference is not None and reference_is_due(recipe, step=state.step + 1):
            renew_reference(models.reference.model, policy.model, mix=recipe.objective.reference_mix)
        seconds = time.perf_counter() - started
        metrics = finish_step(run.journal, rollout, batch, tally, objective=objective, update_seconds=seconds)
    if curriculum is not None:
        curriculum.learn(rollout.groups)
    return metrics


def _sampled(run: Run[RLRecipe], curriculum: Curriculum | None) -> Rollout:
    """The next step's groups, rewarded. curriculum: passes over some questions; None: none."""
    return sample_step(
        run.journal.recipe,
        run.questions.train,
        tokenizer=run.tokenizer,
        engine=run.engine,
        rewards=run.rewards,
        step=run.journal.state.step,
        drawn=run.journal.state.drawn,
        running=run.journal.state.running(),
        curriculum=curriculum,
    )
