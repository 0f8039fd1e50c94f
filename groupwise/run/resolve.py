"""From a recipe to its objective, and what cannot work together is refused, before a model is loaded."""

import math
from dataclasses import fields, replace
from typing import Any

import torch

from groupwise import registry
from groupwise.config import ObjectiveConfig, RLRecipe
from groupwise.engines.factory import capabilities_of
from groupwise.errors import ConfigError
from groupwise.model.device import pick_device, pick_precision
from groupwise.objective.presets import Preset
from groupwise.objective.surrogate import Objective, reads, settings_of
from groupwise.run.chosen import TABLES, check_own, functions_of, parameters_of

INEXACT = "token_truncated"
"""The correction of an engine whose log-probabilities are not the policy's own, unless the recipe names another."""


def resolve(config: ObjectiveConfig, *, exact_engine: bool = True) -> Objective:
    """The functions, parameters and coefficients behind a recipe's objective: the preset's row with what it replaces.

    Raises ConfigError for an unknown name, a parameter that nothing reads or that is missing, or a function of the
    user's that does not keep to its contracts.
    """
    row = registry.load(registry.PRESETS, config.preset, "objective.preset")
    own = {column.name: value for column in fields(row) if (value := getattr(config, column.name, None)) is not None}
    correction = {} if exact_engine else {"correction": INEXACT}
    row = replace(row, **correction | own)
    objective = objective_of(row)
    objective = replace(
        objective,
        parameters=parameters_of(config, row, {kind: getattr(objective, kind) for kind in TABLES}),
        measures_all=config.kl_target is not None or config.entropy_target is not None,
    )
    check_own(row, objective)
    return objective


def objective_of(row: Preset) -> Objective:
    """The functions that a row names, with its parameters and coefficients. Raises ConfigError for an unknown name."""
    functions: dict[str, Any] = {**functions_of(row)}
    return Objective(
        **functions,
        parameters=row.parameters,
        kl_coef=row.kl_coef,
        entropy_coef=row.entropy_coef,
        kl_in=row.kl_in,
    )


def resolve_recipe(recipe: RLRecipe) -> Objective:
    """The recipe's objective. Raises ConfigError if its parts cannot work together, or not in its stage; ModelError if
    there is no such device."""
    engine = capabilities_of(recipe.rollout)
    if not engine.logprobs:
        raise ConfigError(
            f"rollout.engine = {recipe.rollout.engine!r}: it reports no log-probabilities, which learning from rewards "
            "needs",
            hint="choose another engine; or stage = 'rejection', which needs none",
        )
    fp32 = pick_precision(recipe.model.precision, pick_device(recipe.model.device)) == torch.float32
    objective = resolve(recipe.objective, exact_engine=engine.exact and fp32)
    _check_critic(recipe, objective)
    _check_teacher(recipe, objective)
    _check_groups(recipe, objective)
    _check_coefficients(recipe, objective)
    return objective


def with_coefficients(objective: Objective, config: ObjectiveConfig, held: dict[str, float]) -> Objective:
    """The objective with the coefficients that follow a target, as the last step left them (learn/coefficients.py)."""
    followed = (("kl_coef", config.kl_target), ("entropy_coef", config.entropy_target))
    own = {name: held[name] for name, target in followed if target is not None and name in held}
    return replace(objective, **own)  # type: ignore[arg-type]


def _check_critic(recipe: RLRecipe, objective: Objective) -> None:
    named, with_critic = _text(recipe, "advantage", objective.advantage), recipe.critic is not None
    if "values" in reads(objective.advantage) and not with_critic:
        raise ConfigError(
            f"{named} reads a critic's values, and the recipe has no section critic",
            hint="add `critic: {}`, or set objective.preset to one without a critic, for example grpo",
        )
    if with_critic and "values" not in reads(objective.advantage):
        raise ConfigError(
            f"critic: {named} reads no values, so a critic would be trained and never asked",
            hint="set objective.preset to ppo or a2c, or drop the section",
        )
    if recipe.critic is not None and recipe.critic.warmup_steps >= recipe.update.steps:
        raise ConfigError(
            f"critic.warmup_steps = {recipe.critic.warmup_steps} of update.steps = {recipe.update.steps}: the policy "
            "would never learn",
            hint="leave steps for it",
        )
    if recipe.critic is not None and recipe.critic.trunk == "shared" and recipe.critic.path is not None:
        raise ConfigError(
            f"critic.path = {recipe.critic.path!r}: a shared trunk is the policy's, and no other model is read",
            hint="drop critic.path, or set critic.trunk to own",
        )


def _check_teacher(recipe: RLRecipe, objective: Objective) -> None:
    named, wanted = _text(recipe, "advantage", objective.advantage), "teacher_logprobs" in reads(objective.advantage)
    if wanted and recipe.teacher is None:
        raise ConfigError(
            f"{named} reads a teacher's log-probabilities, and the recipe names no teacher",
            hint="add a section teacher with its path",
        )
    if recipe.teacher is not None and not wanted:
        raise ConfigError(
            f"teacher.path = {recipe.teacher.path!r}: {named} reads no teacher",
            hint="set objective.preset to distill, or drop the section teacher",
        )


def _check_groups(recipe: RLRecipe, objective: Objective) -> None:
    rollout, compares = recipe.rollout, {"group", "rewards"} <= set(reads(objective.advantage))
    named = _text(recipe, "advantage", objective.advantage)
    if rollout.group_size == 1 and compares:
        raise ConfigError(
            f"rollout.group_size = 1: {named} compares an output with its siblings, and there are none",
            hint="a group needs at least 2 outputs to compare, try 8",
        )
    if not rollout.dynamic_sampling_rounds:
        return
    where = f"rollout.dynamic_sampling_rounds = {rollout.dynamic_sampling_rounds}"
    if not compares:
        raise ConfigError(
            f"{where}: {named} compares nothing inside a group, so groups whose rewards are equal teach too",
            hint="set it to 0, or choose an advantage that compares",
        )
    if rollout.top_k == 1:
        raise ConfigError(
            f"{where} with rollout.top_k = 1: all outputs of a question are the same, so no group could be kept",
            hint="set rollout.top_k to 0",
        )
    if rollout.group_size == 2:
        raise ConfigError(
            f"{where} with rollout.group_size = 2: two right-or-wrong outputs differ for half of the questions at "
            "best, 2 p (1 - p), so most of what is sampled would be dropped",
            hint="set rollout.group_size to 4 or more, or rollout.dynamic_sampling_rounds to 0",
        )


def _check_coefficients(recipe: RLRecipe, objective: Objective) -> None:
    config, wanted = recipe.objective, reads(objective.advantage)
    named = _text(recipe, "advantage", objective.advantage)
    outcome_alone = "rewards" in wanted and "reward_parts" not in wanted
    if objective.kl_coef == 0:
        for name in ("kl_target", "reference_every"):
            if getattr(config, name):
                raise ConfigError(
                    f"objective.{name} = {getattr(config, name):g} with kl_coef = 0: there is no KL and no reference",
                    hint="set objective.kl_coef above 0",
                )
    outputs = recipe.rollout.questions_per_step * recipe.rollout.group_size
    if config.kl_target is not None and config.kl_horizon < outputs:
        raise ConfigError(
            f"objective.kl_horizon = {config.kl_horizon:g} and a step has {outputs} outputs: kl_coef would jump, and "
            "below 0 too",
            hint="set it to ten times that or more; 10000 is usual",
        )
    _check_read(recipe, objective)
    if objective.kl_coef > 0 and objective.kl_in == "reward" and "token_rewards" not in wanted and not outcome_alone:
        raise ConfigError(
            f"objective.kl_in = 'reward': {named} reads neither the rewards nor the token_rewards that the KL is taken "
            "off, so it would count nowhere",
            hint="set objective.kl_in to loss",
        )
    bounds = settings_of("correction", objective.correction, objective.parameters)
    if bounds.get("correction_low", 0.0) > bounds.get("correction_high", math.inf):
        raise ConfigError(
            f"objective.correction_low = {bounds['correction_low']:g} is above correction_high = "
            f"{bounds['correction_high']:g}",
            hint="the weight 1 should lie between them, for example 0 and 2",
        )
    if "rewards" not in wanted and getattr(objective.loss, "one_advantage", False):
        raise ConfigError(
            f"{_text(recipe, 'loss', objective.loss)} has one ratio and one advantage for a whole output, and {named} "
            "gives each token its own",
            hint="set objective.loss to sequence_token_clip or clip",
        )


def _check_read(recipe: RLRecipe, objective: Objective) -> None:
    """Raises ConfigError for a setting that nothing would read."""
    scaled = [reward for reward in recipe.rewards if reward.normalise != "none"]
    if scaled and "reward_parts" in reads(objective.advantage):
        raise ConfigError(
            f"rewards: normalise = {scaled[0].normalise!r} of {scaled[0].label!r}: "
            f"{_text(recipe, 'advantage', objective.advantage)} reads each function's own values, before any scale",
            hint="drop normalise",
        )
    readers = {
        "reference_mix": ("reference_every = 0", bool(recipe.objective.reference_every)),
        "kl_horizon": ("no kl_target", recipe.objective.kl_target is not None),
        "entropy_step": ("no entropy_target", recipe.objective.entropy_target is not None),
    }
    for name, (missing, read) in readers.items():
        value = getattr(recipe.objective, name)
        if not read and value != type(recipe.objective).model_fields[name].default:
            raise ConfigError(
                f"objective.{name} = {value:g} with {missing}: nothing reads it", hint="set that, or drop it"
            )


def _text(recipe: RLRecipe, column: str, function: Any) -> str:
    own = getattr(recipe.objective, column)
    return f"objective.{column} = {function.__name__!r}" + ("" if own else f" (preset {recipe.objective.preset!r})")
