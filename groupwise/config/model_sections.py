"""The section model: the policy, how it is held in memory, and which of its weights learn."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from groupwise.config.sections import Section


class LoraConfig(Section):
    """Low-rank adaptation (arXiv:2106.09685): W + alpha / rank B A, of which A and B alone are trained."""

    rank: int = Field(default=8, ge=1, le=65_536)
    """Rank of the adapters: rows of A, columns of B. Default 8; 16 in the stage preference, 64 in sft."""
    alpha: float = Field(default=32.0, gt=0, le=1e6)
    """The adapters' output is scaled by alpha / rank."""
    targets: tuple[str, ...] = Field(default=("all-linear",), min_length=1)
    """Names of linear layers or their endings (q_proj); all-linear: all of the decoder's but the last layer."""

    @field_validator("targets", mode="before")
    @classmethod
    def _one_name_is_a_list(cls, targets: Any) -> Any:
        return [targets] if isinstance(targets, str) else targets


class TrainedPartsConfig(Section):
    """The parts of a model that reads pictures which learn; what does not has no gradient and no optimizer state."""

    vision: bool = False
    """Train the vision tower; false: each picture goes through it once in a run, as far as memory lasts."""
    projector: bool = True
    """Train what maps the tower's states to the language part."""
    language: bool = True
    """Train the language part, its embeddings and its last layer included."""


class ModelConfig(Section):
    """The policy pi_theta, and how it is held in memory."""

    path: str
    """A run's folder (its newest checkpoint), a model or adapter folder, a .gguf file, a built-in name (`groupwise list
    models`) or a Hugging Face hub name."""
    device: str = "auto"
    """auto: CUDA if available, else the Apple GPU (mps), else the CPU."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on CUDA, fp32 elsewhere."""
    matmul_backend: Literal["auto", "torch", "packed", "onednn", "mixed"] = "auto"
    """Library for fp32 matrix products on a CPU. torch: PyTorch's choice; onednn: oneDNN; mixed: oneDNN, but PyTorch's
    choice for gradients of weights; packed: PyTorch's choice, and oneDNN with weights laid out for few rows while
    sampling. auto: the fastest of the last three, measured once (two seconds) for a processor and a model's shapes and
    kept, also by the run; for small models by the processor's maker; torch on a processor that is not x86."""
    fast_paths: bool = True
    """Compute each question once for all its outputs and cache keys and values, if the model allows it; False:
    neither."""
    chat_template: str | None = None
    """File with a Jinja chat template that replaces the tokenizer's."""
    chat_template_kwargs: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    """Variables for the chat template, such as enable_thinking: false; saved with the tokenizer."""
    resize_embeddings: bool = False
    """Add missing tokens to the embedding, each as the mean of the others; False: refuse a model that lacks tokens."""
    trust_remote_code: bool | None = None
    """Code in the model's folder (auto_map). true: run it; false: use transformers' class instead; None: refuse the
    folder."""
    lora: LoraConfig | None = None
    """Train adapters and freeze the model's weights; None: train all weights."""
    train: TrainedPartsConfig | None = None
    """Of a model that reads pictures, the parts that learn; None: projector and language part, or the adapters of
    lora."""
    min_pixels: int | None = Field(default=None, ge=1)
    """Least pixels (width times height) of a picture, which is scaled up to them; None: as the processor has it."""
    max_pixels: int | None = Field(default=None, ge=1)
    """Most pixels of a picture, which is scaled down to them; None: as the processor has it."""

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels = {self.min_pixels} is more than max_pixels = {self.max_pixels}")
        return self


class WholeModelConfig(ModelConfig):
    """A model all of whose weights are trained, or none."""

    lora: None = None
    """Nothing: this stage trains no adapters."""
    train: None = None
    """Nothing: this stage trains no parts of a model."""
