"""A recipe: YAML read into frozen models, with dotted overrides. Knows names and ranges; loads nothing but text.

Every field has a unit and a reader. An unknown key is an error with the nearest name; all errors are told at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from groupwise import registry
from groupwise.config_errors import check_names, told
from groupwise.data import Sampling
from groupwise.errors import ConfigError
from groupwise.recipe_file import read_tree, write_tree


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class ModelConfig(Section):
    """The policy pi_theta, and how it is held in memory."""

    path: str
    """A local folder, a built-in name (`groupwise list models`) or a Hugging Face hub name."""
    device: str = "auto"
    """auto: CUDA where there is one, else the Apple GPU (mps), else cpu."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on CUDA, fp32 elsewhere."""
    products: Literal["auto", "torch", "onednn"] = "auto"
    """Library of the fp32 matrix products on a CPU; auto: oneDNN on AMD processors with AVX-512, else PyTorch's own."""
    chat_template: str | None = None
    """A file with a Jinja chat template, in place of the tokenizer's own."""


class QuestionsConfig(Section):
    """Where q ~ D comes from. Train and held-out questions never overlap; this is checked."""

    source: str
    """An environment (`groupwise list envs`), or a .jsonl, .json, .csv, .parquet file or a `datasets` folder."""
    params: dict[str, Any] = Field(default_factory=dict)
    """The environment's own parameters."""
    size: int | None = Field(default=None, ge=1)
    """Questions to make or to read; None: the environment's default, or the whole file."""
    prompt_column: str | None = None
    """The column with the question; None: `prompt`, `problem` or `question`, whichever is there."""
    answer_column: str | None = None
    """The column with the right answer; None: `answer`, `solution` or `ground_truth`, whichever is there."""
    system: str | None = None
    """A system prompt put before every question; None: leave the messages as they are."""
    template: str | None = None
    """Text around the question, with {question} where it goes; None: the question alone."""
    shuffle: bool = True
    """A new order each epoch, drawn from the seed; False: the file's order."""
    heldout: str | None = None
    """A file of held-out questions, in the same columns; None: they are set aside from the source."""
    heldout_size: int = Field(default=200, ge=0)
    """Questions set aside for evaluation, drawn from the seed; with `heldout` a limit on that file."""


class ExamplesConfig(Section):
    """What the stage `sft` learns from: conversations, prompts with completions, or plain text."""

    source: str
    """A .jsonl, .json, .csv, .parquet file or a `datasets` folder; its columns tell the kind."""
    size: int | None = Field(default=None, ge=1)
    """Examples to read; None: the whole file."""
    per_step: int = Field(default=32, ge=1)
    """Examples of one optimizer step."""
    max_tokens: int = Field(default=1024, ge=2)
    """Tokens that an example may have."""
    too_long: Literal["refuse", "drop", "cut"] = "refuse"
    """What becomes of a longer one: the run is refused, it is left out, or its end is."""
    shuffle: bool = True
    """A new order each epoch, drawn from the seed; False: the file's order."""
    heldout: str | None = None
    """A file of held-out examples; None: they are set aside from the source."""
    heldout_size: int = Field(default=100, ge=0)
    """Examples whose loss is measured and never learned from; with `heldout` a limit on that file."""


class RolloutConfig(Section):
    """Sampling: G outputs of each question from the policy as it is now."""

    engine: str = "local"
    questions_per_step: int = Field(default=8, ge=1)
    """Questions sampled before each update phase."""
    group_size: int = Field(default=8, ge=1)
    """G, outputs sampled per question; 1 only for an advantage that compares with no sibling."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Tokens after which an output is cut (finish: length)."""
    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits, in sampling and in training alike."""
    top_k: int = Field(default=0, ge=0)
    """Keep the k most likely tokens; 0: all."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Keep the smallest set of tokens with this much probability; 1: all."""
    min_p: float = Field(default=0.0, ge=0, lt=1)
    """Keep tokens at least this likely relative to the most likely one; 0: all."""
    stop: tuple[str, ...] = ()
    """Strings that end an output, kept in it."""
    refill_rounds: int = Field(default=0, ge=0)
    """Dynamic sampling: groups in which the reward `evaluate.correct` is the same throughout are dropped and others
    sampled in their place, in at most so many further rounds a step; 0: none is dropped."""
    max_rows: int = Field(default=256, ge=1)
    """Outputs sampled side by side at most; bounds the memory of the KV cache, changes no output."""

    def sampling(self, *, greedy: bool = False) -> Sampling:
        """The distribution that sampler and trainer share."""
        return Sampling(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            stop=self.stop,
            greedy=greedy,
        )

    @field_validator("stop")
    @classmethod
    def _no_empty_stop(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("an empty stop string would end every output at once")
        return stop


class RewardConfig(Section):
    """One reward function and its weight; the reward of an output is the weighted sum."""

    function: str
    """A built-in name (`groupwise list rewards`), "module:function" or "path/to/file.py:function"."""
    weight: float = 1.0
    params: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments bound to the function; a built-in's own settings."""
    name: str | None = None
    """What the record calls it; None: the function's own name."""
    timeout_seconds: float = Field(default=30.0, gt=0)
    """Limit of one call; past it the child process is killed and the outputs of that call are marked failed."""

    @property
    def label(self) -> str:
        return self.name or self.function.rpartition(":")[2]


class ObjectiveConfig(Section):
    """The objective: a preset is a row; what is set here replaces a column of it."""

    preset: str = "grpo"
    advantage: str | None = None
    loss: str | None = None
    aggregate: str | None = None
    clip_low: float | None = Field(default=None, ge=0)
    """The loss's `low`: for `clip`, epsilon below (the ratio's lower bound is 1 - clip_low)."""
    clip_high: float | None = Field(default=None, ge=0)
    """The loss's `high`: for `clip`, epsilon above (the ratio's upper bound is 1 + clip_high)."""
    kl_coef: float | None = Field(default=None, ge=0)
    """beta, weight of the KL to the reference; 0: no reference model is loaded."""
    kl_estimator: str | None = None
    kl_in: Literal["loss", "reward"] | None = None
    """Where the KL counts: added to each token's loss, or taken off each token's reward. In one place only."""
    kl_target: float | None = Field(default=None, gt=0)
    """Nats a token; kl_coef is steered towards the coefficient that holds the KL there; None: kl_coef stays."""
    kl_horizon: float = Field(default=10_000, gt=0)
    """Outputs over which kl_coef may change by a fifth at most, with kl_target."""
    entropy_coef: float | None = None
    """Weight of the entropy bonus, subtracted from the loss."""
    entropy_target: float | None = Field(default=None, gt=0)
    """Nats a token; the bonus counts only while the entropy is under it, and its weight is steered by entropy_step."""
    entropy_step: float = Field(default=0.005, gt=0)
    """By how much a step raises or lowers entropy_coef, with entropy_target."""
    correction: str | None = None
    """Weights for a sampler that is not quite the policy; None: uncorrected for an exact engine, else
    token_truncated."""
    correction_low: float = Field(default=0.0, ge=0)
    """The correction's lower bound, of a weight pi / sampler."""
    correction_high: float = Field(default=2.0, gt=0)
    """The correction's upper bound."""
    reference_every: int = Field(default=0, ge=0)
    """Iterative GRPO: steps after which the reference becomes the policy as it is; 0: it stays the starting model."""
    reference_mix: float = Field(default=1.0, gt=0, le=1)
    """Share of the policy in the new reference, the rest is the old one's; 1: the policy itself."""


class CriticConfig(Section):
    """V_psi, for the stage `ppo`: what a state is worth, and what advantages are made of it."""

    trunk: Literal["own", "shared"] = "own"
    """own: a decoder of its own below the scalar head; shared: the policy's, with both losses in one backward pass."""
    path: str | None = None
    """The model that a trunk of its own begins with; None: the policy's."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Of the critic's own weights, on the policy's schedule."""
    discount: float = Field(default=1.0, gt=0, le=1)
    """gamma, what a reward one token later is worth."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """lambda of the advantage: 0 the one-step error, 1 the return less the value."""
    value_coef: float = Field(default=0.5, gt=0)
    """c1, weight of the value loss."""
    clip_value: float | None = Field(default=0.2, gt=0)
    """How far a value may move from that of sampling before its gradient ends, in reward units; None: no bound."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps at the beginning in which the critic alone learns; on the policy's trunk, its head."""


class TeacherConfig(Section):
    """What on-policy distillation learns from; held in memory as the policy is."""

    path: str
    """A local folder, a built-in name or a hub name, with the policy's vocabulary."""


class UpdateConfig(Section):
    """The optimizer steps made from each rollout."""

    steps: int = Field(ge=1)
    """Rollouts in the run (each followed by its updates)."""
    learning_rate: float = Field(default=1e-6, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Of the learning rate after the warm-up, falling to 0 at the end of the run; constant: no decay."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float = Field(default=1.0, gt=0)
    """The gradient is scaled down to this Euclidean norm if it is longer."""
    updates_per_rollout: int = Field(default=1, ge=1)
    """mu, passes over the outputs of one rollout."""
    outputs_per_update: int | None = Field(default=None, ge=1)
    """Outputs per optimizer step; None: all of the rollout's in one."""
    tokens_per_microbatch: int | None = Field(default=None, ge=1)
    """Tokens (questions included) per forward-backward pass; bounds memory, changes no gradient; None: 1536 on a CPU,
    16384 on a GPU."""
    recompute_layers: bool = False
    """Keep one state per layer and token instead of all that the backward pass needs, and compute each layer twice
    (activation checkpointing): less memory, an update takes a quarter more time."""
    mask_truncated: bool = False
    """Leave outputs that hit max_new_tokens out of the update (they keep their place in the group's mean)."""


class EvaluateConfig(Section):
    """Evaluation on held-out questions before, during and after training."""

    every: int = Field(default=0, ge=0)
    """Steps between evaluations; 0: only before and after."""
    samples: int = Field(default=0, ge=0)
    """Sampled outputs per question (for mean@k, pass@k, maj@k) beside the greedy one; 0: greedy only."""
    correct: str | None = None
    """The reward function whose value says that an answer is right; None: the first one."""
    formed: str | None = None
    """The reward function whose value says that an answer is well formed; None: the second one, if any."""


class RunConfig(Section):
    """Where the run is kept, and how often it is saved."""

    root: str = "runs"
    """Folder under which a run directory is made when --run does not name one."""
    checkpoint_every: int = Field(default=50, ge=0)
    """Steps between checkpoints; 0: only at the end."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Checkpoints kept, newest first."""
    failed_rewards_limit: float = Field(default=0.05, ge=0, le=1)
    """Share of a step's outputs whose reward may fail; past it the run stops."""


class Recipe(Section):
    """A whole run: `groupwise train recipe.yaml`."""

    stage: str = "grpo"
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of sampling, of the order of questions and of a model made on the spot."""
    model: ModelConfig
    examples: ExamplesConfig | None = None
    """For the stage `sft`."""
    questions: QuestionsConfig | None = None
    """For every other stage; in `sft` they are what answers are measured on."""
    rewards: tuple[RewardConfig, ...] = ()
    """At least one where there are questions."""
    rollout: RolloutConfig = RolloutConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    critic: CriticConfig | None = None
    """None: the stage has none."""
    teacher: TeacherConfig | None = None
    update: UpdateConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="before")
    @classmethod
    def _critic_of_its_stage(cls, tree: Any) -> Any:
        if isinstance(tree, dict) and tree.get("stage") in registry.WITH_CRITIC and tree.get("critic") is None:
            return {**tree, "critic": {}}
        return tree

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


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file with `a.b=c` overrides applied. Raises ConfigError for whatever is wrong with it."""
    return recipe_from(read_tree(Path(path), overrides), where=str(path))


def recipe_from(tree: dict[str, Any], where: str = "recipe") -> Recipe:
    """The recipe in a tree of plain values; every name in it is checked against its table."""
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{where}: {'; '.join(told(item, Recipe) for item in error.errors())}") from None
    check_names(recipe)
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML: every field with the value that the run uses."""
    return write_tree(recipe.model_dump(mode="json"))
