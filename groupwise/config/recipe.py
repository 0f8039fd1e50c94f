"""A recipe: YAML read into frozen models, with dotted overrides. Knows names and ranges; loads nothing but text.

Every field has a unit and a reader. An unknown key is an error with the nearest name; all errors are told at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from groupwise import registry
from groupwise.config.errors import check_names, told
from groupwise.config.sections import (
    EvaluateConfig,
    ModelConfig,
    QuestionsConfig,
    RewardConfig,
    RolloutConfig,
    RunConfig,
    Section,
    UpdateConfig,
)
from groupwise.config.stage_sections import (
    CriticConfig,
    ExamplesConfig,
    ObjectiveConfig,
    PreferenceConfig,
    RejectionConfig,
    RewardModelConfig,
    TeacherConfig,
)
from groupwise.errors import ConfigError
from groupwise.recipe_file import read_tree, write_tree


class Recipe(Section):
    """A whole run: `groupwise train recipe.yaml`."""

    stage: str = "grpo"
    """The kind of training (`groupwise list stages`)."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of sampling, of the order of questions and of a model made on the spot."""
    model: ModelConfig
    examples: ExamplesConfig | None = None
    """For the stages that learn from examples (`registry.FROM_EXAMPLES`)."""
    questions: QuestionsConfig | None = None
    """For every other stage; where a policy learns from examples they are what its answers are measured on."""
    rewards: tuple[RewardConfig, ...] = ()
    """At least one where there are questions."""
    rollout: RolloutConfig = RolloutConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    critic: CriticConfig | None = None
    """None: the stage has none."""
    teacher: TeacherConfig | None = None
    reward_model: RewardModelConfig | None = None
    """None: the stage makes none."""
    preference: PreferenceConfig | None = None
    """None: the stage learns from no preferences."""
    rejection: RejectionConfig | None = None
    """None: the stage selects no outputs."""
    update: UpdateConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="before")
    @classmethod
    def _sections_of_its_stage(cls, tree: Any) -> Any:
        """A stage has the sections and the preset that are its own, with their defaults if they are left out."""
        if not isinstance(tree, dict):
            return tree
        stage = tree.get("stage")
        own: dict[str, Any] = {
            name: {} for name, stages in registry.SECTIONS.items() if stage in stages and tree.get(name) is None
        }
        update = {} if tree.get("update") is None else tree["update"]
        if stage in registry.WITHOUT_UPDATE and isinstance(update, dict):
            own["update"] = {"steps": 1, **update}  # nothing reads it
        objective = {} if tree.get("objective") is None else tree["objective"]
        if stage in registry.PRESET_OF and isinstance(objective, dict) and objective.get("preset") is None:
            own["objective"] = {**objective, "preset": registry.PRESET_OF[stage]}
        return {**tree, **own, **_with_adapters({**tree, **own}, stage)}

    @model_validator(mode="after")
    def _no_section_of_another_stage(self) -> "Recipe":
        for name, stages in registry.SECTIONS.items():
            if getattr(self, name) is not None and self.stage in registry.STAGES and self.stage not in stages:
                raise ValueError(
                    f"{name}: stage {self.stage!r} has none; set stage to {' or '.join(stages)}, or drop the section"
                )
        return self

    @model_validator(mode="after")
    def _adapters_can_be_trained(self) -> "Recipe":
        if self.model.lora is None or self.stage not in registry.STAGES:
            return self
        if self.stage not in registry.WITH_LORA:
            able = ", ".join(registry.WITH_LORA)
            raise ValueError(f"model.lora: stage {self.stage!r} trains no adapters ({able} do); drop it")
        if self.critic is not None and self.critic.trunk == "shared":
            raise ValueError("model.lora: adapters of the policy are no trunk for a critic; set critic.trunk to own")
        return self

    @model_validator(mode="after")
    def _has_what_it_learns_from(self) -> "Recipe":
        if self.stage in registry.FROM_EXAMPLES:
            if self.examples is None:
                raise ValueError("examples: missing; add examples.source, a file of conversations, completions or text")
            if self.rewards and self.questions is None:
                raise ValueError("rewards without questions: there is nothing to measure; add questions, or drop them")
        elif self.questions is None:
            raise ValueError("questions: missing; add it to the recipe")
        elif self.examples is not None:
            raise ValueError(f"examples: stage {self.stage!r} learns from none; set stage to sft, or drop the section")
        if self.questions is not None and not self.rewards:
            raise ValueError("rewards = []: a run needs at least one reward function")
        return self

    @model_validator(mode="after")
    def _rewards_can_teach(self) -> "Recipe":
        labels = [reward.label for reward in self.rewards]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        taken = sorted({"mean", "std"} & set(labels))
        if taken:
            raise ValueError(f"rewards: the name {taken[0]!r} is taken by the metric reward/{taken[0]}; choose another")
        if twice:
            raise ValueError(f"rewards: {', '.join(twice)} used twice; give each its own `name`")
        if self.rewards and not any(reward.weight for reward in self.rewards):
            raise ValueError("rewards: every weight is 0, so no output would be better than another; set one to 1")
        for field in ("correct", "formed"):
            wanted = getattr(self.evaluate, field)
            if wanted is not None and wanted not in labels:
                raise ValueError(
                    f"evaluate.{field} = {wanted!r}: no reward of that name; {registry.nearest(wanted, labels)}"
                )
        return self


def _with_adapters(tree: dict[str, Any], stage: Any) -> dict[str, Any]:
    """The sections of a recipe that trains adapters whose defaults are others then: the rank, and the learning rate."""
    model, update = tree.get("model"), tree.get("update")
    lora = model.get("lora") if isinstance(model, dict) else None
    if not isinstance(lora, dict) or not isinstance(model, dict) or not isinstance(update, dict):
        return {}
    # Ten times the rate of all weights, and so in fine-tuning, where 1e-5 is usual (arXiv:2106.09685; Schulman, "LoRA
    # Without Regret", 2025: the best rate hardly depends on the rank, and rewards teach few bits, so need few ranks).
    rate, rank = {"sft": (1e-4, 64), "preference": (1e-5, 16)}.get(stage, (1e-5, 8))
    return {
        "model": {**model, "lora": {"rank": rank, **lora}},
        "update": {"learning_rate": rate, **update},
    }


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file with `a.b=c` overrides applied. Raises ConfigError for whatever is wrong with it."""
    return recipe_from(read_tree(Path(path), overrides), where=str(path))


def recipe_from(tree: dict[str, Any], where: str = "recipe") -> Recipe:
    """The recipe in a tree of plain values; every name in it is checked against its table."""
    if "stages" in tree:
        raise ConfigError(f"{where}: it has stages, so it is a pipeline", hint="use `groupwise pipeline`")
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{where}: {'; '.join(told(item, Recipe) for item in error.errors())}") from None
    check_names(recipe)
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML: every field with the value that the run uses."""
    return write_tree(recipe.model_dump(mode="json"))
