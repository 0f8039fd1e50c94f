"""A recipe and its sections."""

from groupwise.config.base import Recipe
from groupwise.config.model_sections import LoraConfig, ModelConfig, TrainedPartsConfig
from groupwise.config.preference import PreferenceRecipe
from groupwise.config.questions import QuestionsConfig
from groupwise.config.recipe import RECIPES, dump_recipe, read_recipe, recipe_from
from groupwise.config.rejection import RejectionRecipe
from groupwise.config.reward_model import RewardModelRecipe
from groupwise.config.rl import RLRecipe
from groupwise.config.sections import (
    EvaluateConfig,
    GroupsConfig,
    LearningConfig,
    RewardConfig,
    RolloutConfig,
    RunConfig,
    SamplingConfig,
    UpdateConfig,
)
from groupwise.config.sft import SFTRecipe
from groupwise.config.stage_sections import (
    CriticConfig,
    CurriculumConfig,
    ExamplesConfig,
    MixConfig,
    ObjectiveConfig,
    PreferenceConfig,
    RejectionConfig,
    RewardModelConfig,
    TeacherConfig,
)

__all__ = [
    "RECIPES",
    "CriticConfig",
    "CurriculumConfig",
    "EvaluateConfig",
    "ExamplesConfig",
    "GroupsConfig",
    "LearningConfig",
    "LoraConfig",
    "MixConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "PreferenceConfig",
    "PreferenceRecipe",
    "QuestionsConfig",
    "RLRecipe",
    "Recipe",
    "RejectionConfig",
    "RejectionRecipe",
    "RewardConfig",
    "RewardModelConfig",
    "RewardModelRecipe",
    "RolloutConfig",
    "RunConfig",
    "SFTRecipe",
    "SamplingConfig",
    "TeacherConfig",
    "TrainedPartsConfig",
    "UpdateConfig",
    "dump_recipe",
    "read_recipe",
    "recipe_from",
]
