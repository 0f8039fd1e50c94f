"""The recipe of the stage reward_model: a scorer of outputs from pairs, or of their steps from labels."""

from typing import ClassVar, Literal

from groupwise.config.base import Recipe
from groupwise.config.model_sections import WholeModelConfig
from groupwise.config.sections import HeldoutConfig, LearningConfig, RunConfig
from groupwise.config.stage_sections import ExamplesConfig, RewardModelConfig


class RewardModelRecipe(Recipe):
    """Learns which of two outputs is better, or how good each step of an output is."""

    stage: Literal["reward_model"]
    """Kind of training (`groupwise list stages`)."""
    model: WholeModelConfig
    examples: ExamplesConfig
    reward_model: RewardModelConfig = RewardModelConfig()
    update: LearningConfig
    evaluate: HeldoutConfig = HeldoutConfig()
    run: RunConfig = RunConfig()

    fixed: ClassVar = (*Recipe.fixed, "model.chat_template_kwargs", "examples", "reward_model.separator")
