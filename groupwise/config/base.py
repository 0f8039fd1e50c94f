"""What the recipes of all stages have, and the checks that several share. A stage's own recipe is in its own file."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from groupwise import registry
from groupwise.config.model_sections import ModelConfig
from groupwise.config.questions import QuestionsConfig
from groupwise.config.sections import EvaluateConfig, RewardConfig, Section

if TYPE_CHECKING:
    from groupwise.config.sections import LearningConfig, SamplingConfig
    from groupwise.config.stage_sections import CriticConfig, ExamplesConfig, TeacherConfig

ABSENT: dict[str, Any] = {
    **dict.fromkeys(("examples", "questions", "rollout", "objective", "critic", "teacher", "update", "evaluate")),
    **dict.fromkeys(("reward_model", "preference", "rejection")),
    "rewards": (),
}
"""The sections that only some stages have, and how one reads that a stage does not have."""


class Recipe(Section):
    """A whole run: `groupwise train recipe.yaml`. A stage's recipe adds the sections that the stage reads."""

    stage: str
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of sampling, of the order of questions and of a built-in random model."""
    model: ModelConfig

    fixed: ClassVar[tuple[str, ...]] = ("stage", "seed", "model.path", "model.chat_template")
    """Keys that a resumed run must have as it began: with another value its earlier steps would mean something else."""
    adapters: ClassVar[tuple[int, float]] = (8, 1e-5)
    """Rank and learning rate of a recipe that trains adapters and does not say them."""

    # What code that serves every stage may ask for.
    if TYPE_CHECKING:
        examples: ExamplesConfig | None = None
        questions: QuestionsConfig | None = None
        rewards: tuple[RewardConfig, ...] = ()
        rollout: SamplingConfig | None = None
        update: LearningConfig
        critic: CriticConfig | None = None
        teacher: TeacherConfig | None = None
        evaluate: Any
        run: Any
    else:

        def __getattr__(self, name: str) -> Any:
            return ABSENT[name] if name in ABSENT else super().__getattr__(name)

    @property
    def correct_label(self) -> str:
        """The reward function that says whether an answer is right."""
        return str(self.evaluate.correct or self.rewards[0].label)

    @model_validator(mode="before")
    @classmethod
    def _adapters_have_defaults_of_their_own(cls, tree: Any) -> Any:
        # Ten times the rate of all weights, and so in fine-tuning, where 1e-5 is usual (arXiv:2106.09685; Schulman,
        # "LoRA Without Regret", 2025: the best rate hardly depends on the rank, and rewards teach few bits).
        model, update = (tree.get("model"), tree.get("update")) if isinstance(tree, dict) else (None, None)
        lora = model.get("lora") if isinstance(model, dict) else None
        if not isinstance(model, dict) or not isinstance(lora, dict) or not isinstance(update, dict):
            return tree
        rank, rate = cls.adapters
        own = {"model": {**model, "lora": {"rank": rank, **lora}}, "update": {"learning_rate": rate, **update}}
        return {**tree, **own}


class Judged(Recipe):
    """A recipe whose outputs are judged by reward functions."""

    @model_validator(mode="after")
    def _rewards_can_judge(self) -> Self:
        labels = [reward.label for reward in self.rewards]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        taken = sorted({"mean", "std"} & set(labels))
        if taken:
            raise ValueError(f"rewards: the name {taken[0]!r} is taken by the metric reward/{taken[0]}; choose another")
        if twice:
            raise ValueError(f"rewards: {', '.join(twice)} used twice; give each its own `name`")
        if self.rewards and not any(reward.weight for reward in self.rewards):
            raise ValueError("rewards: every weight is 0, so no output would be better than another; set one to 1")
        if self.questions is not None and not self.rewards:
            raise ValueError("rewards = []: a run needs at least one reward function")
        for field in ("correct", "format"):
            wanted = getattr(self.evaluate, field)
            if wanted is not None and wanted not in labels:
                raise ValueError(
                    f"evaluate.{field} = {wanted!r}: no reward of that name; {registry.nearest(wanted, labels)}"
                )
        _check_gates(self.rewards)
        running = next((reward.label for reward in self.rewards if reward.normalise == "running"), None)
        if running is not None and self.stage != "rl":
            raise ValueError(
                f"rewards: normalise = 'running' of {running!r} needs steps that learn from rewards, which the stage "
                f"{self.stage} does not have; use group or none"
            )
        return self


def _check_gates(rewards: Sequence[RewardConfig]) -> None:
    """Raises ValueError if a gate names no other reward, or waits for itself by way of others."""
    behind = {reward.label: reward.gate.reward for reward in rewards if reward.gate is not None}
    labels = [reward.label for reward in rewards]
    for index, reward in enumerate(rewards):
        if reward.gate is None:
            continue
        place = f"rewards[{index}].gate.reward = {reward.gate.reward!r}"
        if reward.gate.reward not in labels:
            raise ValueError(f"{place}: no reward of that name; {registry.nearest(reward.gate.reward, labels)}")
        seen = [reward.label]
        while seen[-1] in behind:
            seen.append(behind[seen[-1]])
            if seen[-1] in seen[:-1]:
                raise ValueError(f"{place}: gates that wait for each other ({' -> '.join(seen)}); drop one of them")


class Measured(Judged):
    """A recipe that learns from examples, and may measure the policy's outputs for questions."""

    @model_validator(mode="before")
    @classmethod
    def _questions_are_sampled(cls, tree: Any) -> Any:
        if isinstance(tree, dict) and tree.get("questions") is not None and tree.get("rollout") is None:
            return {**tree, "rollout": {}}
        return tree

    @model_validator(mode="after")
    def _nothing_is_measured_without_questions(self) -> Self:
        if self.questions is not None:
            return self
        if self.rewards:
            raise ValueError("rewards without questions: there is nothing to measure; add questions, or drop them")
        if self.rollout is not None:
            raise ValueError("rollout without questions: nothing is sampled; add questions and rewards, or drop it")
        config: EvaluateConfig = self.evaluate
        if config.samples:
            raise ValueError(f"evaluate.samples = {config.samples} without questions: nothing is sampled; drop it")
        return self
