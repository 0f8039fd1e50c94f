"""How each decoder of the installed transformers is computed, and that it is right: `python -m tests.equality.walk`.

Prints the table of docs/models.md. Each small model's windows and chunks are shorter than what is tried, its weights
random and large. What is compared with: the model's own pass over one row, without padding, positions or cache.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import torch
import transformers
from torch import Tensor

from groupwise.data import Sampling
from groupwise.engines.base import Task, generate, stream
from groupwise.engines.choice import CACHES
from groupwise.engines.local import LocalEngine
from groupwise.errors import ModelError
from groupwise.model.batch import Rollouts
from groupwise.model.loading import prepare
from groupwise.model.policy import Policy
from tests.equality import decoders, families
from tests.model import build

SAMPLING = Sampling(max_new_tokens=12)
LENGTHS = (5, 1, 17)
NATS = 2e-3
GRADIENT = 1e-3
"""Most that log-probabilities may be off, and the gradient, relative to its norm; both in fp32."""


@dataclass(frozen=True)
class Way:
    """How a model is computed. training: stream, rows or whole. sampling: a row of engines.choice.CACHES."""

    training: str
    sampling: str

    def faster(self, other: "Way") -> bool:
        """True if it computes something in a faster way than the other."""
        caches = list(CACHES)
        quicker = caches.index(self.sampling) < caches.index(other.sampling)
        return quicker or (self.training == "stream" and other.training != "stream")

    @classmethod
    def of(cls, policy: Policy, engine: LocalEngine) -> "Way":
        kind = "stream" if policy.question_once else "rows, whole logits" if policy.whole_logits else "rows"
        return cls(kind, engine.cache)


@dataclass(frozen=True)
class Errors:
    """Largest errors of the sampler's and the trainer's log-probabilities, nats, and of the gradient, relative."""

    sampled: float
    trained: float
    gradient: float

    @property
    def small(self) -> bool:
        return max(self.sampled, self.trained) < NATS and self.gradient < GRADIENT


def loaded(config: Any, **settings: Any) -> tuple[Policy, LocalEngine]:
    """A small model as a run loads it. Raises ModelError if it is refused."""
    model = decoders.model(config, **settings)
    tokenizer = families.tokenizer(decoders.VOCABULARY)
    policy = prepare(model, tokenizer, device=torch.device("cpu"), precision=torch.float32)
    return policy, LocalEngine(families.ending_at(policy, *range(2, 97, 19)), max_num_seqs=4)


def errors(policy: Policy, engine: LocalEngine, lengths: Sequence[int] = LENGTHS) -> Errors:
    """What groups of three outputs show, of questions of so many tokens."""
    outputs = generate(engine, _tasks(lengths), SAMPLING)
    rollouts = Rollouts.of([build.group(own, [0.0] * len(own)) for own in outputs])
    mask = rollouts.output_mask
    weights = torch.rand(mask.shape, generator=torch.Generator().manual_seed(3)) - 0.5
    wanted, slope = _plain(policy, rollouts, weights)
    policy.model.zero_grad(set_to_none=True)
    scored = policy.backward(
        rollouts, mask, sampling=SAMPLING, loss=lambda logprobs, _: (weights * logprobs).sum()
    ).logprobs
    gradient = _gradient(policy.model)
    return Errors(
        sampled=float((rollouts.sampled_logprobs - wanted)[mask].abs().max()),
        trained=float((scored - wanted)[mask].abs().max()),
        gradient=float((gradient - slope).norm() / slope.norm()),
    )


def _tasks(lengths: Sequence[int]) -> list[Task]:
    generator = torch.Generator().manual_seed(2)
    questions = [tuple(torch.randint(3, decoders.VOCABULARY, (n,), generator=generator).tolist()) for n in lengths]
    return [Task(asked, tuple(stream(0, 0, str(n), i) for i in range(3))) for n, asked in enumerate(questions)]


def _plain(policy: Policy, rollouts: Rollouts, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities [B, T] of the sampled tokens row by row, and the gradient of their weighted sum."""
    model, rows = policy.model, []
    model.zero_grad(set_to_none=True)
    for row, length in enumerate(rollouts.lengths.tolist()):
        tokens = rollouts.tokens[row, :length]
        logits = model(tokens[None], use_cache=False).logits[0, :-1].float()
        own = torch.log_softmax(logits, -1).gather(-1, tokens[1:, None])[:, 0]
        placed = torch.zeros(rollouts.tokens.shape[1]).index_put((torch.arange(1, length),), own)
        placed = torch.where(rollouts.output_mask[row], placed, 0.0)
        (weights[row] * placed).sum().backward()
        rows.append(placed.detach())
    return torch.stack(rows), _gradient(model)


def _gradient(model: Any) -> Tensor:
    found = [torch.zeros_like(w) if w.grad is None else w.grad for w in model.parameters()]
    return torch.cat([gradient.flatten() for gradient in found])


@dataclass(frozen=True)
class Row:
    """A line of the table: a config, its model, how it is computed or why it is not."""

    config: str
    model: str
    way: Way | None
    note: str = ""


def rows(kinds: Sequence[type]) -> Iterator[Row]:
    """A line for each kind of config; what could not be made small, or is wrong, says so in its note."""
    for kind in kinds:
        name = named(kind)
        try:
            config = decoders.small(kind)
            with torch.no_grad():
                decoders.model(config)(torch.arange(3, 9)[None], use_cache=False)
        except Exception as error:  # whatever a class of transformers raises that wants other settings
            yield Row(name, "", None, f"not made small: {_line(error)}")
            continue
        yield _row(name, kind, config)


def _row(name: str, kind: type, config: Any) -> Row:
    model = type(decoders.model(config)).__name__
    try:
        policy, engine = loaded(config)
        found, way = errors(policy, engine), Way.of(policy, engine)
        # windows out of reach and weights as transformers draws them must not look as if more were allowed
        calm = Way.of(*loaded(decoders.small(kind, far=True), spread=0.0))
    except ModelError as error:
        return Row(name, model, None, f"refused: {error.message.partition(': ')[2]}")
    except Exception as error:
        return Row(name, model, None, f"WRONG: {_line(error)}")
    wrong = "" if found.small else f"WRONG: {found}"
    return Row(name, model, way, wrong or (f"WRONG: {calm} where weights are small" if calm.faster(way) else ""))


def _line(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:120]


def main(names: Sequence[str]) -> None:
    """Prints the table, of all or of the configs named. Exits 1 if a row is wrong."""
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    print(f"{date.today()}, transformers {transformers.__version__}, torch {torch.__version__}\n")
    print("| config | model | in training | in sampling | |\n|---|---|---|---|---|")
    wrong = False
    for row in rows([kind for kind in decoders.configs() if not names or named(kind) in names]):
        way = ("", "") if row.way is None else (row.way.training, row.way.sampling)
        print(f"| {row.config} | {row.model} | {way[0]} | {way[1]} | {row.note} |", flush=True)
        wrong = wrong or "WRONG" in row.note
    sys.exit(wrong)


def named(kind: type) -> str:
    return kind.__name__.removesuffix("Config")


if __name__ == "__main__":
    main(sys.argv[1:])
