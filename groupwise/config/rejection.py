"""The recipe of the stage rejection: sampled, selected, written as examples. No weights change."""

from typing import ClassVar, Literal

from pydantic import Field

from groupwise.config.base import Judged, Recipe
from groupwise.config.model_sections import WholeModelConfig
from groupwise.config.questions import QuestionsConfig
from groupwise.config.sections import (
    GroupsConfig,
    RecordConfig,
    RewardConfig,
    RightConfig,
)
from groupwise.config.stage_sections import RejectionConfig


class RejectionRecipe(Judged):
    """Samples every training question once, and keeps the good outputs as a file of examples."""

    stage: Literal["rejection"]
    """Kind of training (`groupwise list stages`)."""
    model: WholeModelConfig
    questions: QuestionsConfig
    rewards: tuple[RewardConfig, ...] = Field(min_length=1)
    """At least one."""
    rollout: GroupsConfig = GroupsConfig()
    rejection: RejectionConfig = RejectionConfig()
    evaluate: RightConfig = RightConfig()
    run: RecordConfig = RecordConfig()

    fixed: ClassVar = (*Recipe.fixed, "questions", "rewards", "rollout")
