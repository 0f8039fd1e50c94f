"""Names that a recipe may use, each a lazy "module:name" string, so that listing them imports nothing."""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from groupwise.errors import ConfigError

STAGES = {"grpo": "groupwise.stages.grpo:train"}

PRESETS = {
    "grpo": "groupwise.objective.presets:GRPO",
    "dr_grpo": "groupwise.objective.presets:DR_GRPO",
}

ADVANTAGES = {
    "group_relative": "groupwise.objective.advantage:group_relative",
    "group_centred": "groupwise.objective.advantage:group_centred",
}

LOSSES = {"clip": "groupwise.objective.losses:clip"}

AGGREGATES = {
    "per_output": "groupwise.objective.losses:per_output",
    "per_token": "groupwise.objective.losses:per_token",
    "fixed_length": "groupwise.objective.losses:fixed_length",
}

KL_ESTIMATORS = {
    "k1": "groupwise.objective.logprobs:k1",
    "k2": "groupwise.objective.logprobs:k2",
    "k3": "groupwise.objective.logprobs:k3",
}

ENGINES = {"local": "groupwise.engines.local:LocalEngine"}

REWARDS = {
    "math": "groupwise.rewards.answer:math",
    "exact": "groupwise.rewards.answer:exact",
    "number": "groupwise.rewards.answer:number",
    "reasoning_gym": "groupwise.rewards.answer:reasoning_gym",
    "think_answer": "groupwise.rewards.format:think_answer",
    "answer_tag": "groupwise.rewards.format:answer_tag",
    "boxed": "groupwise.rewards.format:boxed",
    "pattern": "groupwise.rewards.format:pattern",
}

ENVS = {
    "arithmetic": "groupwise.envs.arithmetic:questions",
    "reasoning_gym": "groupwise.envs.reasoning_gym:questions",
}

MODELS = {
    "smollm2-135m-instruct": "groupwise.model.builtin:smollm2_135m_instruct",
    "tiny": "groupwise.model.builtin:tiny",
}

TABLES: dict[str, Mapping[str, str]] = {
    "advantages": ADVANTAGES,
    "aggregates": AGGREGATES,
    "engines": ENGINES,
    "envs": ENVS,
    "kl_estimators": KL_ESTIMATORS,
    "losses": LOSSES,
    "models": MODELS,
    "presets": PRESETS,
    "rewards": REWARDS,
    "stages": STAGES,
}


def nearest(name: str, names: Iterable[str]) -> str:
    """`did you mean 'x'?` for the name most like this one, or the whole list if none is."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"choose from: {', '.join(sorted(names))}"


def check(table: Mapping[str, str], name: str, where: str) -> None:
    """Raises ConfigError naming the place, the value and the nearest name if the table has no such name."""
    if name not in table:
        close = nearest(name, table)
        known = f"; known: {', '.join(sorted(table))}" if close.startswith("did") else ""
        raise ConfigError(f"{where} = {name!r}: no such name", hint=close + known)


def load(table: Mapping[str, str], name: str, where: str = "name") -> Any:
    """The object behind a name; imports its module only now."""
    check(table, name, where)
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
