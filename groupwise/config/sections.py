"""Sections that several stages read, each as wide as a stage may need; a stage takes the one with what it reads."""

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


class LoraConfig(Section):
    """Low-rank adaptation (arXiv:2106.09685): W + alpha / rank B A, of which A and B alone are trained."""

    rank: int = Field(default=8, ge=1, le=65_536)
    """Rows of A and columns of B; in a recipe 8 by default, 16 in the stage preference, 64 in sft."""
    alpha: float = Field(default=32.0, gt=0, le=1e6)
    """alpha / rank scales what the adapters add."""
    targets: tuple[str, ...] = Field(default=("all-linear",), min_length=1)
    """Names of linear layers, or ends of them (q_proj); all-linear: all of the decoder, without the last layer."""

    @field_validator("targets", mode="before")
    @classmethod
    def _one_name_is_a_list(cls, targets: Any) -> Any:
        return [targets] if isinstance(targets, str) else targets


class ModelConfig(Section):
    """The policy pi_theta, and how it is held in memory."""

    path: str
    """A run's folder (its newest checkpoint), a model's folder, an adapter's, a .gguf file, a built-in name (`groupwise
    list models`) or a Hugging Face hub name."""
    device: str = "auto"
    """auto: CUDA where there is one, else the Apple GPU (mps), else cpu."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on CUDA, fp32 elsewhere."""
    matmul_backend: Literal["auto", "torch", "onednn"] = "auto"
    """Library of the fp32 matrix products on a CPU; auto: oneDNN on AMD processors with AVX-512, else PyTorch's own."""
    fast_paths: bool = True
    """Compute a question once for its outputs and keep keys and values, where the model allows it; False: neither."""
    chat_template: str | None = None
    """A file with a Jinja chat template, in place of the tokenizer's own."""
    chat_template_kwargs: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    """Variables of the chat template and their values, such as enable_thinking: false; saved with the tokenizer."""
    resize_embeddings: bool = False
    """Add rows to the embedding for tokens that it lacks, each the mean of the others; False: refuse such a model."""
    trust_remote_code: bool | None = None
    """Code in the model's folder (auto_map): True runs it, False takes transformers' own class; None: refuse it."""
    lora: LoraConfig | None = None
    """Train adapters and freeze the model's own weights; None: train all weights."""


class WholeModelConfig(ModelConfig):
    """A model all of whose weights are trained, or none."""

    lora: None = None
    """Nothing: this stage trains no adapters."""


class QuestionsConfig(Section):
    """Where q ~ D comes from. Train and held-out questions never overlap; this is checked."""

    source: str
    """An environment (`groupwise list envs`); or a .jsonl, .json, .csv, .tsv or .parquet file, files by a pattern
    (`data/*.jsonl`), a folder that `datasets` reads, or a data set on the hub (openai/gsm8k)."""
    subset: str | None = None
    """The subset of a data set on the hub (main)."""
    split: str | None = None
    """The split of a folder or a data set on the hub; None: train, or the only one there is."""
    params: dict[str, Any] = Field(default_factory=dict)
    """The environment's own parameters."""
    size: int | None = Field(default=None, ge=1, le=100_000_000)
    """Questions to make or to read; None: the environment's default, or the whole file."""
    prompt_column: str | None = None
    """The column with the question; None: `prompt`, `problem` or `question`, whichever is there."""
    answer_column: str | None = None
    """The column with the right answer; None: `answer`, `solution` or `ground_truth`, whichever is there."""
    ignore_columns: tuple[str, ...] | None = None
    """Columns, or keys of the objects in one (`extra_info.tools_kwargs`), whose usual meaning does not count; rewards
    still get the columns."""
    system: str | None = None
    """A system prompt put before every question; None: leave the messages as they are."""
    template: str | None = None
    """Text around the question, with {question} where it goes; None: the question alone."""
    shuffle: bool = True
    """A new order each epoch, drawn from the seed; False: the file's order."""
    heldout: str | None = None
    """A file of held-out questions, in the same columns; None: they are set aside from the source."""
    heldout_split: str | None = None
    """A split of `heldout`, or where that is None of the source, that holds the held-out questions (test)."""
    heldout_size: int | None = Field(default=None, ge=0, le=100_000_000)
    """Questions set aside for evaluation, drawn from the seed; None: 200, of fewer than 1,000 a fifth. With `heldout` a
    limit on that file; None: 200."""


MOST_OUTPUTS = 1_000_000


class SamplingConfig(Section):
    """How outputs are sampled from the policy as it is now."""

    engine: str = "local"
    """What samples (`groupwise list engines`), or a class of your own, path/to/file.py:Class (docs/own_engine.md)."""
    environment: str = "single_turn"
    """What replies to the policy's turns (`groupwise list environments`), or a class of your own, path/to/file.py:Class
    (docs/own_environment.md); single_turn: nothing does."""
    environment_params: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the environment's class."""
    max_turns: int | None = Field(default=None, ge=1, le=1_000_000)
    """Turns of the policy after which an episode is cut (finish: turns); None: no limit."""
    max_new_tokens: int = Field(default=256, ge=1, le=100_000_000)
    """Tokens sampled in an output, in all its turns, after which it is cut (finish: length)."""
    temperature: float = Field(default=1.0, ge=1e-6, le=1e6)
    """Divides the logits, in sampling and in training alike."""
    top_k: int = Field(default=0, ge=0, le=2**31 - 1)
    """Keep the k most likely tokens; 0: all."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Keep the smallest set of tokens with this much probability; 1: all."""
    min_p: float = Field(default=0.0, ge=0, lt=1)
    """Keep tokens at least this likely relative to the most likely one; 0: all."""
    stop: tuple[str, ...] = ()
    """Strings that end an output, kept in it."""
    max_num_seqs: int = Field(default=256, ge=1, le=1_000_000)
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


class GroupsConfig(SamplingConfig):
    """G outputs of each question."""

    questions_per_step: int = Field(default=8, ge=1, le=1_000_000)
    """Questions sampled in a step."""
    group_size: int = Field(default=8, ge=1, le=1_000_000)
    """G, outputs sampled per question; 1 only for an advantage that compares with no sibling."""

    @model_validator(mode="after")
    def _a_step_can_be_held(self) -> "GroupsConfig":
        outputs = self.questions_per_step * self.group_size
        if outputs > MOST_OUTPUTS:
            raise ValueError(
                f"questions_per_step x group_size = {outputs:,} outputs a step; the most is {MOST_OUTPUTS:,}"
            )
        return self


class RolloutConfig(GroupsConfig):
    """G outputs of each question, from which the policy learns."""

    dynamic_sampling_rounds: int = Field(default=0, ge=0, le=1_000_000)
    """Dynamic sampling: groups in which the reward `evaluate.correct` is the same throughout are dropped and others
    sampled in their place, in at most so many further rounds a step; 0: none is dropped."""


class RewardConfig(Section):
    """One reward function and its weight; the reward of an output is the weighted sum."""

    function: str
    """A built-in name (`groupwise list rewards`), "module:function" or "path/to/file.py:function"."""
    weight: float = Field(default=1.0, ge=-1e9, le=1e9)
    """Its weight in the sum."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments bound to the function; a built-in's own settings."""
    name: str | None = None
    """What the record calls it; None: the function's own name."""
    parts: tuple[str, ...] = ()
    """Parts of a mixture whose questions it scores, it abstains from the others; (): all questions."""
    timeout_seconds: float = Field(default=30.0, ge=1e-3, le=86_400)
    """Limit of one call; past it the child process is killed and the outputs of that call are marked failed."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes that the function runs in, side by side; calls of different questions are shared among them."""

    @property
    def label(self) -> str:
        return self.name or self.function.rpartition(":")[2]


class LearningConfig(Section):
    """The optimizer steps."""

    steps: int = Field(ge=1, le=1_000_000_000)
    """Steps of the run: of a stage that samples, each a rollout followed by its updates."""
    learning_rate: float = Field(default=1e-6, gt=0, le=10)
    """Of AdamW after the warm-up; with model.lora 1e-5 by default, 1e-4 in the stage sft."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Of the learning rate after the warm-up, falling to 0 at the end of the run; constant: no decay."""
    warmup_steps: int = Field(default=0, ge=0, le=1_000_000_000)
    """Steps over which the learning rate rises linearly from 0."""
    weight_decay: float = Field(default=0.0, ge=0, le=100)
    """AdamW's: share of each weight that a step of rate 1 would take off."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """AdamW's: how much of its two moving averages a step keeps."""
    max_grad_norm: float = Field(default=1.0, gt=0, le=1e18)
    """The gradient is scaled down to this Euclidean norm if it is longer."""
    tokens_per_microbatch: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """Tokens (questions included) per forward-backward pass; bounds memory, changes no gradient; None: 1536 on a CPU,
    16384 on a GPU, or as many as fit."""
    activation_checkpointing: Literal["nothing", "cheap", "layers"] | None = None
    """What a backward pass computes again instead of having kept it (activation checkpointing): "nothing"; "cheap", all
    but matrix products and attention; "layers", everything between a layer's input and the next one's. None: "cheap" on
    a CPU, "nothing" on a GPU or with adapters. It is read when a run opens (`groupwise.model.policy.Policy`)."""


class UpdateConfig(LearningConfig):
    """The optimizer steps made from each rollout."""

    updates_per_rollout: int = Field(default=1, ge=1, le=1_000_000)
    """mu, passes over the outputs of one rollout."""
    outputs_per_update: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """Outputs per optimizer step at most; steps of one pass differ by one output at most; None: all of the rollout's in
    one."""
    mask_truncated: bool = False
    """Leave outputs that hit max_new_tokens out of the update (they keep their place in the group's mean)."""


class HeldoutConfig(Section):
    """When what is held out is measured."""

    every: int = Field(default=0, ge=0, le=1_000_000_000)
    """Steps between evaluations; 0: only before and after."""


class RightConfig(Section):
    """Which reward functions say what is right, and what is well formed."""

    correct: str | None = None
    """The reward function whose value says that an answer is right; None: the first one."""
    format: str | None = None
    """The reward function whose value says that an answer is well formed; None: no figure of that name is shown."""


class EvaluateConfig(RightConfig, HeldoutConfig):
    """Evaluation on held-out questions before, during and after training."""

    samples: int = Field(default=0, ge=0, le=100_000)
    """Sampled outputs per question (for mean@k, pass@k, maj@k) beside the greedy one; 0: greedy only."""


class RecordConfig(Section):
    """Where the run is kept, and what of it."""

    root: str = "runs"
    """Folder under which a run directory is made when --run does not name one."""
    record: Literal["full", "texts", "scores"] = "full"
    """What the record keeps of an output: everything; no tokens and log-probabilities; no text either."""
    stall_seconds: int = Field(default=1800, ge=0, le=86_400)
    """Seconds without a finished step or evaluation after which the stacks of all threads are shown, on stderr and in
    stacks.txt; the run goes on. 0: never."""
    failed_rewards_limit: float = Field(default=0.05, ge=0, le=1)
    """Share of a step's outputs whose reward may fail; past it the run stops."""


class RunConfig(RecordConfig):
    """Where the run is kept, and how often it is saved."""

    checkpoint_every: int = Field(default=50, ge=0, le=1_000_000_000)
    """Steps between checkpoints; 0: only at the end."""
    keep_checkpoints: int = Field(default=2, ge=1, le=1_000_000_000)
    """Checkpoints kept, newest first."""
    keep_best: str | None = None
    """Figure of the evaluations by which the best checkpoint is kept too, `accuracy` for one; `-loss`: the lowest."""
