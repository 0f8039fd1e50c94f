"""Sections that some stages alone read; the file of each stage, as `groupwise.config.rl`, declares those it has."""

from typing import Any, Literal

from pydantic import Field

from groupwise.config.sections import Section
from groupwise.parameters import parameter


class ExamplesConfig(Section):
    """What a stage learns from that does not sample: conversations, completions, text, pairs, labelled steps."""

    source: str
    """A .jsonl, .json, .csv, .tsv or .parquet file, files by a pattern, a folder that `datasets` reads or a data set on
    the hub, whose columns tell the kind; or examples made on the spot (`groupwise list examples`)."""
    subset: str | None = None
    """The subset of a data set on the hub."""
    split: str | None = None
    """The split of a folder or a data set on the hub; None: train, or the only one there is."""
    ignore_columns: tuple[str, ...] | None = None
    """Columns, or keys of the objects in one (`messages.name`), that are left out."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Of examples made on the spot."""
    size: int | None = Field(default=None, ge=1, le=100_000_000)
    """Examples to make or to read; None: the default of what makes them, or the whole file."""
    per_step: int = Field(default=32, ge=1, le=1_000_000)
    """Examples of one optimizer step."""
    max_tokens: int = Field(default=1024, ge=2, le=100_000_000)
    """Tokens that an example may have."""
    too_long: Literal["refuse", "drop", "cut"] = "refuse"
    """What becomes of a longer one: the run is refused, it is left out, or its end is."""
    shuffle: bool = True
    """A new order each epoch, drawn from the seed; False: the file's order."""
    heldout: str | None = None
    """A file of held-out examples; None: they are set aside from the source."""
    heldout_split: str | None = None
    """A split of `heldout`, or where that is None of the source, that holds the held-out examples (test)."""
    heldout_size: int | None = Field(default=None, ge=0, le=100_000_000)
    """Examples whose loss is measured and never learned from; None: 100, of fewer than 500 a fifth. With `heldout` a
    limit on that file; None: 100."""


class ObjectiveConfig(Section):
    """The objective: a preset is a row; what is set here replaces a column of it."""

    preset: str = "grpo"
    """The published method (`groupwise list presets`), a row of which the keys below replace a column."""
    advantage: str | None = None
    """How an output is compared with its group (`groupwise list advantages`); None: the preset's."""
    loss: str | None = None
    """The loss of a token (`groupwise list losses`); None: the preset's."""
    aggregate: str | None = None
    """The mean over tokens and outputs (`groupwise list aggregates`); None: the preset's."""
    clip_low: float | None = parameter("clip_low")
    clip_high: float | None = parameter("clip_high")
    dual_clip: float | None = parameter("dual_clip")
    tau_pos: float | None = parameter("tau_pos")
    tau_neg: float | None = parameter("tau_neg")
    params: dict[str, Any] = Field(default_factory=dict)
    """Further parameters, of functions of your own: name: value."""
    kl_coef: float | None = Field(default=None, ge=0, le=1e38)
    """beta, weight of the KL to the reference; 0: no reference model is loaded."""
    kl_estimator: str | None = None
    """How the KL is estimated (`groupwise list kl_estimators`); None: the preset's."""
    kl_in: Literal["loss", "reward"] | None = None
    """Where the KL counts: added to each token's loss, or taken off each token's reward. In one place only."""
    kl_target: float | None = Field(default=None, gt=0, le=1e6)
    """Nats a token; kl_coef is steered towards the coefficient that holds the KL there; None: kl_coef stays."""
    kl_horizon: float = Field(default=10_000, gt=0, le=1e12)
    """Outputs over which kl_coef may change by a fifth at most, with kl_target."""
    entropy_coef: float | None = Field(default=None, ge=-1e9, le=1e9)
    """Weight of the entropy bonus, subtracted from the loss."""
    entropy_target: float | None = Field(default=None, gt=0, le=1e6)
    """Nats a token; the bonus counts only while the entropy is under it, and its weight is steered by entropy_step."""
    entropy_step: float = Field(default=0.005, gt=0, le=1e6)
    """By how much a step raises or lowers entropy_coef, with entropy_target."""
    correction: str | None = None
    """Weights for a sampler that is not quite the policy; None: uncorrected for an exact engine, else
    token_truncated."""
    correction_low: float | None = parameter("correction_low")
    correction_high: float | None = parameter("correction_high")
    reference_every: int = Field(default=0, ge=0, le=1_000_000_000)
    """Iterative GRPO: steps after which the reference becomes the policy as it is; 0: it stays the starting model."""
    reference_mix: float = Field(default=1.0, gt=0, le=1)
    """Share of the policy in the new reference, the rest is the old one's; 1: the policy itself."""


class CriticConfig(Section):
    """V_psi, for the stage `ppo`: what a state is worth, and what advantages are made of it."""

    trunk: Literal["own", "shared"] = "own"
    """own: a decoder of its own below the scalar head; shared: the policy's, which follows both losses, each gradient
    bounded by itself."""
    path: str | None = None
    """The model that a trunk of its own begins with; None: the policy's."""
    learning_rate: float = Field(default=1e-5, gt=0, le=10)
    """Of the critic's own weights, on the policy's schedule."""
    discount: float = Field(default=1.0, gt=0, le=1)
    """gamma, what a reward one token later is worth."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """lambda of the advantage: 0 the one-step error, 1 the return less the value."""
    value_coef: float = Field(default=0.5, gt=0, le=1e9)
    """c1, weight of the value loss."""
    clip_value: float | None = Field(default=0.2, gt=0, le=1e9)
    """How far a value may move from that of sampling before its gradient ends, in reward units; None: no bound."""
    warmup_steps: int = Field(default=0, ge=0, le=1_000_000_000)
    """Steps at the beginning in which the critic alone learns; on the policy's trunk, its head."""


class TeacherConfig(Section):
    """What on-policy distillation learns from; held in memory as the policy is."""

    path: str
    """A local folder, a built-in name or a hub name, with the policy's vocabulary."""


class RewardModelConfig(Section):
    """What the stage `reward_model` makes: a scorer of whole outputs from pairs, or of their steps from labels."""

    separator: str = Field(default="\n", min_length=1)
    """What ends a step of a reasoning: between the steps of an example, and where outputs are cut when it scores."""
    centre_coef: float = Field(default=0.0, ge=0, le=1e9)
    """Weight of (r_chosen + r_rejected)^2, which holds the rewards around 0; 0: they float."""


class PreferenceConfig(Section):
    """What the stage `preference` learns from pairs, or from outputs liked and disliked."""

    loss: str = "dpo"
    """The loss of a pair or an output (`groupwise list preferences`)."""
    beta: float = Field(default=0.1, gt=0, le=1e9)
    """How dearly the policy pays for leaving the reference; 1 / beta for ipo is the margin aimed at, twice."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the pairs that may be labelled the wrong way round."""
    desirable_weight: float = Field(default=1.0, gt=0, le=1e9)
    """Of an output that was liked, for `kto`."""
    undesirable_weight: float = Field(default=1.0, gt=0, le=1e9)
    """Of an output that was disliked, for `kto`."""


class MixConfig(Section):
    """Other examples that are put among the kept outputs."""

    source: str
    """A file of examples, or examples made on the spot, as in `examples.source`."""
    ignore_columns: tuple[str, ...] | None = None
    """As in `examples`."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Of examples made on the spot."""
    weight: float = Field(gt=0, le=1e9)
    """How many of these to one kept output; as many as there are, if there are not so many."""


class RejectionConfig(Section):
    """Rejection sampling: which of the G outputs of a question are kept as examples, and what is put beside them."""

    keep: str = "right"
    """The rule (`groupwise list keeps`): which outputs may be kept, and which of them first."""
    per_question: int = Field(default=1, ge=1, le=1_000_000)
    """Outputs kept of one question at most."""
    by: str | None = None
    """The reward function that a rule such as `best` goes by; None: the sum of all."""
    require: dict[str, float] = Field(default_factory=dict)
    """Reward functions with the least value that a kept output has of each: well formed, of one language."""
    min_tokens: int = Field(default=1, ge=1, le=100_000_000)
    """Tokens of a kept output at least."""
    max_tokens: int | None = Field(default=None, ge=1, le=100_000_000)
    """Tokens of a kept output at most; None: any number that did not hit the limit."""
    max_repetition: float = Field(default=1.0, ge=0, le=1)
    """Share of an output's sequences of four words that it has said before; above it is not kept."""
    balance: bool = False
    """Keep as many of hard questions as of easy ones: equal numbers from each quarter of the share that was right."""
    size: int | None = Field(default=None, ge=1, le=100_000_000)
    """Kept outputs at most, drawn by the seed; None: all."""
    mix: tuple[MixConfig, ...] = ()
    """Other examples put among them, in an order drawn by the seed."""
    against: tuple[str, ...] = ()
    """Files of evaluation questions that nothing may be learned from, beside the recipe's own held-out questions."""
    ngram: int = Field(default=13, ge=1, le=10_000)
    """Words in a row that an example may not share with a held-out question (or that whole question, if shorter)."""
    contaminated: Literal["refuse", "drop"] = "refuse"
    """What becomes of an example from `mix` that does; a kept output that does is always left out."""
