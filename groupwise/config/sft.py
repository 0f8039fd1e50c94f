"""The recipe of the stage sft: supervised fine-tuning, or continued pre-training."""

from typing import ClassVar, Literal

from groupwise.config.base import Measured, Recipe
from groupwise.config.questions import QuestionsConfig
from groupwise.config.sections import (
    EvaluateConfig,
    LearningConfig,
    RewardConfig,
    RunConfig,
    SamplingConfig,
)
from groupwise.config.stage_sections import ExamplesConfig


class SFTRecipe(Measured):
    """Learns to say what its examples say."""

    stage: Literal["sft"]
    """Kind of training (`groupwise list stages`)."""
    examples: ExamplesConfig
    questions: QuestionsConfig | None = None
    """What answers are measured on; None: the held-out loss alone is measured."""
    rewards: tuple[RewardConfig, ...] = ()
    """What judges these answers; at least one where there are questions."""
    rollout: SamplingConfig | None = None
    """How they are sampled, where there are questions."""
    update: LearningConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    run: RunConfig = RunConfig()

    fixed: ClassVar = (*Recipe.fixed, "model.chat_template_kwargs", "model.lora", "questions", "examples")
    adapters: ClassVar = (64, 1e-4)
