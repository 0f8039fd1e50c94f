"""Sections that some stages alone read; the file of each stage, as `groupwise.config.rl`, declares those it has."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from groupwise.config.questions import PicturesConfig
from groupwise.config.sections import Section
from groupwise.parameters import parameter


class ExamplesConfig(PicturesConfig):
    """What a stage learns from that does not sample: conversations, completions, text, pairs, labelled steps."""

    source: str
    """A .jsonl, .json, .csv, .tsv or .parquet file, a pattern of files, a folder that `datasets` reads, a data set on
    the hub, or generated examples (`groupwise list examples`). The columns determine the kind."""
    subset: str | None = None
    """Subset of a data set on the hub."""
    split: str | None = None
    """Split of a folder or a data set on the hub; None: train, or the only split."""
    ignore_columns: tuple[str, ...] | None = None
    """Columns to ignore, or keys of the objects in a column (`messages.name`)."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters of generated examples."""
    size: int | None = Field(default=None, ge=1, le=100_000_000)
    """Number of examples to generate or read; None: the source's default, or the whole file."""
    per_step: int = Field(default=32, ge=1, le=1_000_000)
    """Examples per optimizer step."""
    max_tokens: int = Field(default=1024, ge=2, le=100_000_000)
    """Maximum tokens of an example."""
    too_long: Literal["refuse", "drop", "cut"] = "refuse"
    """What to do with longer examples: refuse the run, leave them out, or cut off their ends."""
    shuffle: bool = True
    """Shuffle anew for each epoch, by the seed; False: keep the file's order."""
    heldout: str | None = None
    """File of held-out examples; None: set them aside from the source."""
    heldout_split: str | None = None
    """Split with the held-out examples (test), of `heldout` or, if that is null, of the source."""
    heldout_size: int | None = Field(default=None, ge=0, le=100_000_000)
    """Number of held-out examples, whose loss is measured and which are never learned from; None: 100, or a fifth of
    fewer than 500. With `heldout`, a limit on that file; None: 100."""


class CurriculumConfig(Section):
    """Which questions are asked less often than others (docs/questions.md)."""

    band: tuple[float, float] | None = (0.2, 0.8)
    """Solve rates between which a question is asked whenever it comes up; outside it is asked less, and least where no
    output or every output is right. null: the solve rate does not count."""
    floor: float = Field(default=0.1, gt=0, le=1)
    """Probability that a question which is never or always solved is asked when it comes up."""
    memory: float = Field(default=0.7, ge=0, lt=1)
    """Share of a question's running solve rate that the next group of its outputs keeps."""
    weights: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = Field(default_factory=dict)
    """How often a part of a mixture is asked relative to the others (1 for a part that is not named)."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.band is None:
            unread = sorted({"floor", "memory"} & self.model_fields_set)
            if unread:
                raise ValueError(f"{unread[0]} with band = null: it is not read; drop it, or set a band")
            if not self.weights:
                raise ValueError("neither band nor weights: nothing would change; set one, or drop curriculum")
            return self
        low, high = self.band
        if not 0 <= low < high <= 1:
            raise ValueError(f"band = {[low, high]}: give two solve rates, the lower first, between 0 and 1")
        return self


class ObjectiveConfig(Section):
    """The objective: a preset is a row; what is set here replaces a column of it."""

    preset: str = "grpo"
    """Published method (`groupwise list presets`); the keys below override its parts."""
    advantage: str | None = None
    """How outputs are compared (`groupwise list advantages`); None: the preset's."""
    loss: str | None = None
    """Loss per token (`groupwise list losses`); None: the preset's."""
    aggregate: str | None = None
    """Mean over tokens and outputs (`groupwise list aggregates`); None: the preset's."""
    clip_low: float | None = parameter("clip_low")
    clip_high: float | None = parameter("clip_high")
    dual_clip: float | None = parameter("dual_clip")
    tau_pos: float | None = parameter("tau_pos")
    tau_neg: float | None = parameter("tau_neg")
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters of your own functions, as name: value."""
    kl_coef: float | None = Field(default=None, ge=0, le=1e38)
    """beta, weight of the KL to the reference; 0: load no reference model."""
    kl_estimator: str | None = None
    """KL estimator (`groupwise list kl_estimators`); None: the preset's."""
    kl_in: Literal["loss", "reward"] | None = None
    """Where the KL counts: added to each token's loss, or subtracted from each token's reward. None: the preset's."""
    kl_target: float | None = Field(default=None, gt=0, le=1e6)
    """Target of the KL in nats per token, to which kl_coef is adjusted; None: kl_coef is constant."""
    kl_horizon: float = Field(default=10_000, gt=0, le=1e12)
    """With kl_target: number of outputs over which kl_coef changes by at most a fifth."""
    entropy_coef: float | None = Field(default=None, ge=-1e9, le=1e9)
    """Weight of the entropy bonus, subtracted from the loss."""
    entropy_target: float | None = Field(default=None, gt=0, le=1e6)
    """Target of the entropy in nats per token. The bonus counts only while the entropy is below it; entropy_step
    adjusts its weight."""
    entropy_step: float = Field(default=0.005, gt=0, le=1e6)
    """With entropy_target: change of entropy_coef per step."""
    correction: str | None = None
    """Importance weights for a sampler that differs from the policy; None: none for an exact engine, else
    token_truncated."""
    correction_low: float | None = parameter("correction_low")
    correction_high: float | None = parameter("correction_high")
    reference_every: int = Field(default=0, ge=0, le=1_000_000_000)
    """Iterative GRPO: steps after which the reference is replaced by the policy; 0: it stays the initial model."""
    reference_mix: float = Field(default=1.0, gt=0, le=1)
    """Share of the policy in the new reference; the rest is the old reference. 1: the policy itself."""


class CriticConfig(Section):
    """V_psi, for the stage `ppo`: what a state is worth, and what advantages are made of it."""

    trunk: Literal["own", "shared"] = "own"
    """own: a separate decoder below the scalar head; shared: the policy's decoder, which follows both losses, with each
    gradient clipped separately."""
    path: str | None = None
    """Initial model of a separate trunk; None: the policy's."""
    learning_rate: float = Field(default=1e-5, gt=0, le=10)
    """Learning rate of the critic's weights, on the policy's schedule."""
    discount: float = Field(default=1.0, gt=0, le=1)
    """gamma, discount per token."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """lambda of the advantage; 0: the one-step error, 1: the return minus the value."""
    value_coef: float = Field(default=0.5, gt=0, le=1e9)
    """c1, weight of the value loss."""
    clip_value: float | None = Field(default=0.2, gt=0, le=1e9)
    """How far a value may move from its value at sampling before its gradient is 0, in reward units; None: no limit."""
    warmup_steps: int = Field(default=0, ge=0, le=1_000_000_000)
    """Initial steps in which only the critic learns (with a shared trunk, only its head)."""


class TeacherConfig(Section):
    """What on-policy distillation learns from; held in memory as the policy is."""

    path: str
    """A local folder, a built-in name or a hub name; needs the policy's vocabulary."""


class RewardModelConfig(Section):
    """What the stage `reward_model` makes: a scorer of whole outputs from pairs, or of their steps from labels."""

    separator: str = Field(default="\n", min_length=1)
    """Text that ends a reasoning step: it joins the steps of an example, and outputs are split at it for scoring."""
    centre_coef: float = Field(default=0.0, ge=0, le=1e9)
    """Weight of (r_chosen + r_rejected)^2, which keeps the rewards near 0; 0: no such term."""


class PreferenceConfig(Section):
    """What the stage `preference` learns from pairs, or from outputs liked and disliked."""

    loss: str = "dpo"
    """Loss of a pair or an output (`groupwise list preferences`)."""
    beta: float = Field(default=0.1, gt=0, le=1e9)
    """How strongly the loss keeps the policy near the reference; for ipo, the target margin is 1 / (2 beta)."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the pairs assumed to be labelled the wrong way round."""
    desirable_weight: float = Field(default=1.0, gt=0, le=1e9)
    """Weight of liked outputs, for `kto`."""
    undesirable_weight: float = Field(default=1.0, gt=0, le=1e9)
    """Weight of disliked outputs, for `kto`."""


class MixConfig(PicturesConfig):
    """Other examples that are put among the kept outputs."""

    source: str
    """A file of examples, or examples made on the spot, as in `examples.source`."""
    ignore_columns: tuple[str, ...] | None = None
    """As in `examples`."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters of generated examples."""
    weight: float = Field(gt=0, le=1e9)
    """How many of these to one kept output; as many as there are, if there are not so many."""


class RejectionConfig(Section):
    """Rejection sampling: which of the G outputs of a question are kept as examples, and what is put beside them."""

    keep: str = "right"
    """Rule that selects and orders the outputs to keep (`groupwise list keeps`)."""
    per_question: int = Field(default=1, ge=1, le=1_000_000)
    """Maximum outputs kept per question."""
    by: str | None = None
    """Reward function by which rules such as `best` order the outputs; None: the weighted sum."""
    require: dict[str, float] = Field(default_factory=dict)
    """Reward functions with the minimum value that a kept output needs."""
    min_tokens: int = Field(default=1, ge=1, le=100_000_000)
    """Minimum tokens of a kept output."""
    max_tokens: int | None = Field(default=None, ge=1, le=100_000_000)
    """Maximum tokens of a kept output; None: any length that did not hit the limit."""
    max_repetition: float = Field(default=1.0, ge=0, le=1)
    """Maximum share of repeated four-word sequences in a kept output."""
    balance: bool = False
    """Keep as many outputs of hard questions as of easy ones: equal numbers from each quarter of the questions'
    accuracy."""
    size: int | None = Field(default=None, ge=1, le=100_000_000)
    """Maximum number of kept outputs, drawn by the seed; None: all."""
    mix: tuple[MixConfig, ...] = ()
    """Other examples to mix in, in an order drawn by the seed."""
    against: tuple[str, ...] = ()
    """Files of further evaluation questions that no example may contain."""
    ngram: int = Field(default=13, ge=1, le=10_000)
    """Number of consecutive words that an example may not share with a held-out question (or the whole question, if
    shorter)."""
    contaminated: Literal["refuse", "drop"] = "refuse"
    """What to do with such an example from `mix`; such outputs are always left out."""
