"""A recipe and its sections."""

from groupwise.config.recipe import Recipe, dump_recipe, read_recipe, recipe_from
from groupwise.config.sections import (
    EvaluateConfig,
    LoraConfig,
    ModelConfig,
    QuestionsConfig,
    RewardConfig,
    RolloutConfig,
    RunConfig,
    UpdateConfig,
)
from groupwise.config.stage_sections import (
    CriticConfig,
    ExamplesConfig,
    MixConfig,
    ObjectiveConfig,
    PreferenceConfig,
    RejectionConfig,
    RewardModelConfig,
    TeacherConfig,
)

__all__ = [
    "CriticConfig",
    "EvaluateConfig",
    "ExamplesConfig",
    "LoraConfig",
    "MixConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "PreferenceConfig",
    "QuestionsConfig",
    "Recipe",
    "RejectionConfig",
    "RewardConfig",
    "RewardModelConfig",
    "RolloutConfig",
    "RunConfig",
    "TeacherConfig",
    "UpdateConfig",
    "dump_recipe",
    "read_recipe",
    "recipe_from",
]
