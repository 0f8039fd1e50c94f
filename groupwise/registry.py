"""Names that a recipe may use, each a lazy "module:name" string, so that listing them imports nothing."""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from groupwise.errors import ConfigError
from groupwise.names import VALUES, folded

STAGES = {
    "rl": "groupwise.stages.rl:train",
    "sft": "groupwise.stages.sft:train",
    "reward_model": "groupwise.stages.reward_model:train",
    "preference": "groupwise.stages.preference:train",
    "rejection": "groupwise.stages.rejection:train",
}

PRESETS = {
    "grpo": "groupwise.objective.presets:GRPO",
    "dr_grpo": "groupwise.objective.presets:DR_GRPO",
    "reinforce": "groupwise.objective.presets:REINFORCE",
    "rloo": "groupwise.objective.presets:RLOO",
    "reinforce_pp": "groupwise.objective.presets:REINFORCE_PP",
    "reinforce_pp_baseline": "groupwise.objective.presets:REINFORCE_PP_BASELINE",
    "dapo": "groupwise.objective.presets:DAPO",
    "gspo": "groupwise.objective.presets:GSPO",
    "gspo_token": "groupwise.objective.presets:GSPO_TOKEN",
    "cispo": "groupwise.objective.presets:CISPO",
    "gmpo": "groupwise.objective.presets:GMPO",
    "sapo": "groupwise.objective.presets:SAPO",
    "maxrl": "groupwise.objective.presets:MAXRL",
    "online_rft": "groupwise.objective.presets:ONLINE_RFT",
    "r1": "groupwise.objective.presets:R1",
    "grpo_process": "groupwise.objective.presets:GRPO_PROCESS",
    "gdpo": "groupwise.objective.presets:GDPO",
    "distill": "groupwise.objective.presets:DISTILL",
    "ppo": "groupwise.objective.presets:PPO",
    "a2c": "groupwise.objective.presets:A2C",
}

ADVANTAGES = {
    "group_relative": "groupwise.objective.advantage:group_relative",
    "group_centred": "groupwise.objective.advantage:group_centred",
    "leave_one_out": "groupwise.objective.advantage:leave_one_out",
    "over_mean": "groupwise.objective.advantage:over_mean",
    "batch_normalised": "groupwise.objective.advantage:batch_normalised",
    "group_centred_batch_scaled": "groupwise.objective.advantage:group_centred_batch_scaled",
    "reward": "groupwise.objective.advantage:reward",
    "only_right": "groupwise.objective.advantage:only_right",
    "per_reward": "groupwise.objective.advantage:per_reward",
    "process_supervision": "groupwise.objective.token_advantage:process_supervision",
    "return_normalised": "groupwise.objective.token_advantage:return_normalised",
    "gae": "groupwise.objective.token_advantage:gae",
    "gae_whitened": "groupwise.objective.token_advantage:gae_whitened",
    "teacher_gap": "groupwise.objective.token_advantage:teacher_gap",
}

READ_VALUES = ("gae", "gae_whitened")
"""Advantages that read a critic's values: a recipe with one of them has a critic."""

LOSSES = {
    "clip": "groupwise.objective.losses:clip",
    "dual_clip": "groupwise.objective.losses:dual_clip",
    "reinforce": "groupwise.objective.losses:reinforce",
    "cispo": "groupwise.objective.losses:cispo",
    "soft_gate": "groupwise.objective.losses:soft_gate",
    "nll": "groupwise.objective.losses:nll",
    "sequence_clip": "groupwise.objective.sequence_losses:sequence_clip",
    "sequence_token_clip": "groupwise.objective.sequence_losses:sequence_token_clip",
    "geometric_clip": "groupwise.objective.sequence_losses:geometric_clip",
}

AGGREGATES = {
    "per_output": "groupwise.objective.losses:per_output",
    "per_token": "groupwise.objective.losses:per_token",
    "fixed_length": "groupwise.objective.losses:fixed_length",
}

KL_ESTIMATORS = {
    "k1": "groupwise.objective.logprobs:k1",
    "k2": "groupwise.objective.logprobs:k2",
    "k3": "groupwise.objective.logprobs:k3",
    "k3_plus": "groupwise.objective.logprobs:k3_plus",
    "k3_weighted": "groupwise.objective.logprobs:k3_weighted",
}

CORRECTIONS = {
    "uncorrected": "groupwise.objective.correction:uncorrected",
    "token_truncated": "groupwise.objective.correction:token_truncated",
    "token_masked": "groupwise.objective.correction:token_masked",
    "sequence_truncated": "groupwise.objective.correction:sequence_truncated",
    "sequence_masked": "groupwise.objective.correction:sequence_masked",
}

PREFERENCES = {
    "dpo": "groupwise.objective.preference:dpo",
    "ipo": "groupwise.objective.preference:ipo",
    "kto": "groupwise.objective.preference:kto",
}

ENVIRONMENTS = {
    "single_turn": "groupwise.envs.episode:SingleTurn",
    "tools": "groupwise.envs.tools:Tools",
    "guess_number": "groupwise.envs.games:GuessNumber",
    "maze": "groupwise.envs.games:Maze",
    "textarena": "groupwise.envs.textarena:TextArena",
    "openenv": "groupwise.envs.openenv:OpenEnv",
    "agent": "groupwise.envs.agent:Agent",
    "verifiers": "groupwise.envs.verifiers:Verifiers",
}

TOOLS = {
    "calculator": "groupwise.envs.tools:calculator",
    "python": "groupwise.envs.python_tool:PythonTool",
    "mcp": "groupwise.envs.mcp_tools:McpTools",
    "search": "groupwise.envs.search:Search",
}

ENGINES = {"local": "groupwise.engines.local:LocalEngine"}

SEARCHES = {"mcts": "groupwise.evaluation.guided:mcts"}

REWARDS = {
    "math": "groupwise.rewards.answer:math",
    "exact": "groupwise.rewards.answer:exact",
    "number": "groupwise.rewards.answer:number",
    "reasoning_gym": "groupwise.rewards.answer:reasoning_gym",
    "think_answer": "groupwise.rewards.format:think_answer",
    "answer_tag": "groupwise.rewards.format:answer_tag",
    "boxed": "groupwise.rewards.format:boxed",
    "pattern": "groupwise.rewards.format:pattern",
    "equations": "groupwise.rewards.equations:equations",
    "soft_overlong": "groupwise.rewards.length:soft_overlong",
    "model": "groupwise.rewards.model:Model",
    "process_model": "groupwise.rewards.model:ProcessModel",
    "language": "groupwise.rewards.language:language",
    "code": "groupwise.rewards.code:Code",
    "multiple_choice": "groupwise.rewards.choice:multiple_choice",
    "captured": "groupwise.rewards.nearness:captured",
    "edit_similarity": "groupwise.rewards.nearness:EditSimilarity",
    "json_schema": "groupwise.rewards.schema:JsonSchema",
    "cosine_length": "groupwise.rewards.length:cosine_length",
    "repetition": "groupwise.rewards.repetition:repetition",
    "judge": "groupwise.rewards.judging.judge:Judge",
    "pairwise_judge": "groupwise.rewards.judging.judge:PairwiseJudge",
    "local_judge": "groupwise.rewards.judging.local:LocalJudge",
    "local_pairwise_judge": "groupwise.rewards.judging.local:LocalPairwiseJudge",
    "environment": "groupwise.rewards.episode:environment",
}

ENVS = {
    "arithmetic": "groupwise.datasets.arithmetic:questions",
    "reasoning_gym": "groupwise.datasets.reasoning_gym:questions",
    "words": "groupwise.datasets.words:questions",
    "shapes": "groupwise.datasets.shapes:questions",
    "requests": "groupwise.datasets.requests:questions",
    "verifiers": "groupwise.datasets.verifiers:questions",
    "mixture": "groupwise.datasets.mixture:questions",
    "guess_number": "groupwise.datasets.games:guess_number",
    "maze": "groupwise.datasets.games:maze",
    "textarena": "groupwise.datasets.textarena:questions",
}

EXAMPLES: dict[str, str] = {
    "worked": "groupwise.datasets.worked:examples",
    "answered": "groupwise.datasets.answered:examples",
    "helpful_pairs": "groupwise.datasets.preferred:helpful_pairs",
    "harmless_pairs": "groupwise.datasets.preferred:harmless_pairs",
}

KEEPS = {
    "right": "groupwise.selection.keeps:right",
    "shortest_right": "groupwise.selection.keeps:shortest_right",
    "best": "groupwise.selection.keeps:best",
    "best_right": "groupwise.selection.keeps:best_right",
    "every": "groupwise.selection.keeps:every",
}

MODELS = {
    "smollm2-135m-instruct": "groupwise.model.builtin:smollm2_135m_instruct",
    "small": "groupwise.model.builtin:small",
    "tiny": "groupwise.model.builtin:tiny",
    "tiny_tools": "groupwise.model.builtin:tiny_tools",
    "tiny_vision": "groupwise.model.builtin_vision:tiny_vision",
}

TABLES: dict[str, Mapping[str, str]] = {
    "advantages": ADVANTAGES,
    "aggregates": AGGREGATES,
    "corrections": CORRECTIONS,
    "engines": ENGINES,
    "environments": ENVIRONMENTS,
    "envs": ENVS,
    "examples": EXAMPLES,
    "keeps": KEEPS,
    "kl_estimators": KL_ESTIMATORS,
    "losses": LOSSES,
    "models": MODELS,
    "preferences": PREFERENCES,
    "presets": PRESETS,
    "rewards": REWARDS,
    "searches": SEARCHES,
    "stages": STAGES,
    "tools": TOOLS,
}

SET_BY = {
    "presets": "objective.preset",
    "preferences": "stage=preference preference.loss",
    "stages": "stage",
    "models": "model.path",
    "envs": "questions.source",
    "examples": "examples.source",
    "rewards": "rewards.0.function",
    "engines": "rollout.engine",
    "environments": "rollout.environment",
    "advantages": "objective.advantage",
    "losses": "objective.loss",
    "aggregates": "objective.aggregate",
    "kl_estimators": "objective.kl_estimator",
    "corrections": "objective.correction",
    "keeps": "stage=rejection rejection.keep",
    "searches": "--search",
    "tools": "rollout.environment_params.tools",
}
"""By table: what its names are the value of."""


def nearest(name: str, names: Iterable[str]) -> str:
    """`did you mean 'x'?` for the name most like this one, or the whole list if none is."""
    names = list(names)
    close = closest(name, names, cutoff=0.5)
    return f"did you mean {close!r}?" if close else f"choose from: {', '.join(sorted(names))}"


def closest(name: str, names: Iterable[str], *, cutoff: float) -> str | None:
    """The name most like this one, whatever their letters' case and hyphens; None if none is as like as the cutoff."""
    by_folded = {folded(known): known for known in names}
    close = difflib.get_close_matches(folded(name), by_folded, n=1, cutoff=cutoff)
    return by_folded[close[0]] if close else None


def check(table: Mapping[str, str], name: str, where: str) -> None:
    """Raises ConfigError naming the place, the value and the nearest name if the table has no such name."""
    if name not in table:
        raise ConfigError(f"{where} = {name!r}: no such name", hint=instead(table, name, where))


def instead(table: Mapping[str, str], name: str, where: str) -> str:
    """What to write in place of a name that the table lacks: the nearest, or what it is here, and what is known."""
    hint = _elsewhere(table, name, where) or nearest(name, table)
    return hint + (f"; known: {', '.join(sorted(table))}" if hint.startswith("did") else "")


def _elsewhere(table: Mapping[str, str], name: str, where: str) -> str:
    """What a name is that another trainer uses, or that is in another table; "" if it is in none."""
    own = VALUES.get(where, {}).get(folded(name))
    if own in table:
        return f"did you mean {own!r}?"
    if closest(name, table, cutoff=0.9):  # a slip of the pen
        return ""
    others = (SET_BY[title] for title, names in TABLES.items() if names is not table and folded(name) in names)
    return next((f"did you mean {key}={folded(name)}?" for key in others if not key.endswith(where)), "")


def check_source(table: Mapping[str, str], source: str, where: str) -> None:
    """As `check`, unless the source is a path: with a slash or an ending, or of something that is there."""
    if "/" not in source and not Path(source).suffix and not Path(source).exists():
        check(table, source, where)


def load(table: Mapping[str, str], name: str, where: str = "name") -> Any:
    """The object behind a name; imports its module only now."""
    check(table, name, where)
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
