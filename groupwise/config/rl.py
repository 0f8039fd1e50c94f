"""The recipe of the stage rl: a policy gradient, by any preset of `groupwise list presets`."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from groupwise import registry
from groupwise.config.base import Judged, Recipe
from groupwise.config.questions import QuestionsConfig
from groupwise.config.sections import (
    EvaluateConfig,
    RewardConfig,
    RolloutConfig,
    RunConfig,
    UpdateConfig,
)
from groupwise.config.stage_sections import CriticConfig, CurriculumConfig, ObjectiveConfig, TeacherConfig


class RLRecipe(Judged):
    """Learns from the rewards of its own outputs."""

    stage: Literal["rl"] = "rl"
    """Kind of training (`groupwise list stages`)."""
    questions: QuestionsConfig
    rewards: tuple[RewardConfig, ...] = Field(min_length=1)
    """At least one."""
    rollout: RolloutConfig = RolloutConfig()
    curriculum: CurriculumConfig | None = None
    """Ask questions less often by their solve rate or their source; None: all equally often."""
    objective: ObjectiveConfig = ObjectiveConfig()
    critic: CriticConfig | None = None
    """There by default where the advantage reads a critic's values (the presets ppo and a2c); None elsewhere."""
    teacher: TeacherConfig | None = None
    """Needed where the advantage reads a teacher's log-probabilities (the preset distill); None elsewhere."""
    update: UpdateConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    run: RunConfig = RunConfig()

    fixed: ClassVar = (
        *(*Recipe.fixed, "model.chat_template_kwargs", "model.lora", "questions", "teacher", "curriculum"),
        *("objective.reference_every", "critic.trunk", "critic.path"),
    )

    @model_validator(mode="before")
    @classmethod
    def _values_have_a_critic(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or tree.get("critic") is not None:
            return tree
        objective = tree.get("objective") or {}
        objective = objective if isinstance(objective, dict) else {}
        preset = objective.get("preset") or ObjectiveConfig.model_fields["preset"].default
        if preset not in registry.PRESETS:
            return tree
        advantage = objective.get("advantage") or registry.load(registry.PRESETS, preset).advantage
        return {**tree, "critic": {}} if advantage in registry.READ_VALUES else tree

    @model_validator(mode="after")
    def _adapters_are_no_trunk(self) -> Self:
        if self.model.lora is not None and self.critic is not None and self.critic.trunk == "shared":
            raise ValueError("model.lora: adapters of the policy are no trunk for a critic; set critic.trunk to own")
        return self
