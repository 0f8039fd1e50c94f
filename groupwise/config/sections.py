"""Sections that several stages read, each as wide as a stage may need; a stage takes the one with what it reads."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from groupwise.data import Sampling

MAY_BE_EMPTY = ("system",)
"""Keys whose text may have no characters: an empty system message is one."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*")
    @classmethod
    def _not_empty(cls, value: Any, field: ValidationInfo) -> Any:
        """A path of no characters would be the working folder, and a name of none is no name."""
        if value == "" and field.field_name not in MAY_BE_EMPTY:
            raise ValueError("an empty text; give a value, or leave the key out")
        return value


Beta = Annotated[float, Field(ge=0, lt=1)]


MOST_OUTPUTS = 1_000_000


class SamplingConfig(Section):
    """How outputs are sampled from the policy as it is now."""

    engine: str = "local"
    """The sampler (`groupwise list engines`), or your own class, path/to/file.py:Class (docs/own_engine.md)."""
    environment: str = "single_turn"
    """What replies to the policy's turns (`groupwise list environments`), or your own class, path/to/file.py:Class
    (docs/own_environment.md). single_turn: no replies."""
    environment_params: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the environment's class."""
    environment_timeout_seconds: float = Field(default=60.0, ge=1e-3, le=86_400)
    """Time limit of one call of an environment. After it the episode ends (finish: error) and its output is marked as
    failed."""
    max_turns: int | None = Field(default=None, ge=1, le=1_000_000)
    """Maximum turns of the policy in an episode, which is then cut (finish: turns); None: no limit."""
    max_new_tokens: int = Field(default=256, ge=1, le=100_000_000)
    """Maximum sampled tokens of an output over all its turns, which is then cut (finish: length)."""
    temperature: float = Field(default=1.0, ge=1e-6, le=1e6)
    """Divides the logits, both in sampling and in training."""
    top_k: int = Field(default=0, ge=0, le=2**31 - 1)
    """Keep the k most likely tokens; 0: all."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Keep the smallest set of tokens with this much probability; 1: all."""
    min_p: float = Field(default=0.0, ge=0, lt=1)
    """Keep tokens at least this likely relative to the most likely one; 0: all."""
    stop: tuple[str, ...] = ()
    """Strings that end an output; they stay in it."""
    max_num_seqs: int = Field(default=256, ge=1, le=1_000_000)
    """Maximum outputs sampled at the same time; limits the memory of the KV cache without changing outputs."""
    precision: Literal["auto", "bf16"] = "auto"
    """Of the sampler's products; auto: model.precision. bf16 is faster, and `objective.correction` makes up for it."""

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


class GroupsConfig(SamplingConfig):
    """G outputs of each question."""

    questions_per_step: int = Field(default=8, ge=1, le=1_000_000)
    """Questions per step."""
    group_size: int = Field(default=8, ge=1, le=1_000_000)
    """G, outputs sampled per question; 1 only for an advantage that does not compare outputs of a group."""

    @model_validator(mode="after")
    def _a_step_can_be_held(self) -> "GroupsConfig":
        outputs = self.questions_per_step * self.group_size
        if outputs > MOST_OUTPUTS:
            raise ValueError(
                f"questions_per_step x group_size = {outputs:,} outputs per step; the most is {MOST_OUTPUTS:,}"
            )
        return self


class RolloutConfig(GroupsConfig):
    """G outputs of each question, from which the policy learns."""

    dynamic_sampling_rounds: int = Field(default=0, ge=0, le=1_000_000)
    """Dynamic sampling: drop groups whose outputs all have the same reward `evaluate.correct`, and sample others
    instead, in at most this many extra rounds per step. 0: keep all groups."""


class GateConfig(Section):
    """A condition on another reward function: where it is not met, the gated function is not called."""

    reward: str
    """Name of the other reward function, whose value is compared before its weight."""
    at_least: float = Field(default=1.0, ge=-1e9, le=1e9)
    """Smallest value of the other function that opens the gate."""
    otherwise: float | None = Field(default=0.0, ge=-1e9, le=1e9)
    """Value of the gated function where the gate is closed; None: it abstains."""


class WeightScheduleConfig(Section):
    """A factor on the weight that changes over the steps."""

    shape: Literal["linear", "steps"] = "linear"
    """Between two points: linear interpolates; steps keeps the factor of the earlier point."""
    points: tuple[tuple[Annotated[int, Field(ge=0, le=1_000_000_000)], Annotated[float, Field(ge=-1e6, le=1e6)]], ...]
    """[step, factor] pairs with rising steps, from 0; before the first and after the last point the factor is
    constant."""

    @field_validator("points")
    @classmethod
    def _steps_rise(cls, points: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
        steps = [step for step, _ in points]
        if not steps or any(after <= before for before, after in pairwise(steps)):
            raise ValueError(f"steps {steps} do not rise; write points as [[0, 1.0], [100, 0.2]]")
        return points


class RewardConfig(Section):
    """One reward function and its weight; the reward of an output is the weighted sum."""

    function: str
    """A built-in name (`groupwise list rewards`), "module:function" or "path/to/file.py:function"."""
    weight: float = Field(default=1.0, ge=-1e9, le=1e9)
    """Weight in the sum."""
    weight_schedule: WeightScheduleConfig | None = None
    """Change of the weight over the steps; None: constant."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments for the function."""
    name: str | None = None
    """Name in the record; None: the function's name."""
    parts: tuple[str, ...] = ()
    """Parts of a mixture whose questions the function scores; it abstains from the others. []: all questions."""
    sources: tuple[str, ...] = ()
    """Values of the column data_source whose questions the function scores; it abstains from the others. []: all."""
    gate: GateConfig | None = None
    """Condition on another reward function; None: always called."""
    normalise: Literal["none", "group", "running"] = "none"
    """Scale of the values in the sum. group: centred and divided by the standard deviation in each question's group;
    running: by mean and standard deviation of all training outputs so far."""
    timeout_seconds: float = Field(default=30.0, ge=1e-3, le=86_400)
    """Time limit of one call. After it, the child process is killed and the call's outputs are marked as failed. For
    judges at an endpoint: limit of one request."""
    workers: int = Field(default=1, ge=1, le=256)
    """Number of parallel processes for the function, which share the questions."""
    concurrency: int = Field(default=16, ge=1, le=10_000)
    """Calls of an async function, or requests of a judge, that each process awaits at the same time."""

    @property
    def label(self) -> str:
        return self.name or self.function.rpartition(":")[2]


class LearningConfig(Section):
    """The optimizer steps."""

    steps: int = Field(ge=1, le=1_000_000_000)
    """Steps of the run; in a stage that samples, a step is a rollout and its updates."""
    learning_rate: float = Field(default=1e-6, gt=0, le=10)
    """AdamW's learning rate after the warm-up; with model.lora the default is 1e-5, in the stage sft 1e-4."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Decay of the learning rate after the warm-up, to 0 at the end of the run; constant: no decay."""
    warmup_steps: int = Field(default=0, ge=0, le=1_000_000_000)
    """Steps over which the learning rate rises linearly from 0."""
    weight_decay: float = Field(default=0.0, ge=0, le=100)
    """AdamW's weight decay: share of each weight that a step with learning rate 1 would remove."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """AdamW's betas: how much of its two moving averages a step keeps."""
    max_grad_norm: float = Field(default=1.0, gt=0, le=1e18)
    """Maximum Euclidean norm of the gradient, which is scaled down to it."""
    tokens_per_microbatch: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """Tokens per forward-backward pass, including questions; limits memory without changing gradients. None: 1536 on a
    CPU, 16384 on a GPU, or as many as fit."""
    activation_checkpointing: Literal["nothing", "cheap", "layers"] | None = None
    """What a backward pass computes again instead of having kept it (activation checkpointing): "nothing"; "cheap", all
    but matrix products and attention; "layers", everything between a layer's input and the next one's. None: "cheap" on
    a CPU, "nothing" on a GPU or with adapters. It is read when a run opens (`groupwise.model.policy.Policy`)."""


class UpdateConfig(LearningConfig):
    """The optimizer steps made from each rollout."""

    updates_per_rollout: int = Field(default=1, ge=1, le=1_000_000)
    """mu, passes over the outputs of one rollout."""
    outputs_per_update: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """Maximum outputs per optimizer step; the steps of a pass differ by at most one output. None: the whole rollout in
    one step."""
    mask_truncated: bool = False
    """Leave outputs that hit max_new_tokens out of the update; they still count in their group's mean."""


class HeldoutConfig(Section):
    """When what is held out is measured."""

    every: int = Field(default=0, ge=0, le=1_000_000_000)
    """Steps between evaluations; 0: only before and after training."""


class RightConfig(Section):
    """Which reward functions say what is right, and what is well formed."""

    correct: str | None = None
    """Reward function that decides whether an answer is right; None: the first one."""
    format: str | None = None
    """Reward function that decides whether an answer is well formed; None: show no such figure."""


class EvaluateConfig(RightConfig, HeldoutConfig):
    """Evaluation on held-out questions before, during and after training."""

    samples: int = Field(default=0, ge=0, le=100_000)
    """Sampled outputs per question for mean@k, pass@k and maj@k, in addition to the greedy one; 0: only greedy."""


class RecordConfig(Section):
    """Where the run is kept, and what of it."""

    root: str = "runs"
    """Folder in which runs are created if --run does not name one."""
    record: Literal["full", "texts", "scores"] = "full"
    """What the record keeps of an output. full: everything; texts: no tokens and log-probabilities; scores: no text
    either."""
    stall_seconds: int = Field(default=1800, ge=0, le=86_400)
    """Seconds without a finished step or evaluation after which the run prints the stacks of its threads, on stderr and
    in stacks.txt, and continues. 0: never."""
    failed_rewards_limit: float = Field(default=0.05, ge=0, le=1)
    """Maximum share of a step's outputs whose reward may fail before the run stops."""


class RunConfig(RecordConfig):
    """Where the run is kept, and how often it is saved."""

    checkpoint_every: int = Field(default=50, ge=0, le=1_000_000_000)
    """Steps between checkpoints; 0: only at the end."""
    keep_checkpoints: int = Field(default=2, ge=1, le=1_000_000_000)
    """Number of checkpoints to keep, the newest ones."""
    keep_best: str | None = None
    """Evaluation figure by which the best checkpoint is also kept, for example `accuracy`; `-loss`: the lowest."""
