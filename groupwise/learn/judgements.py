"""Pairs and labelled steps as readings of a classifier: what a reward model learns from, and is measured by."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from groupwise.config import ExamplesConfig, RewardModelConfig
from groupwise.data import Pair, Stepped
from groupwise.datasets.labelled_steps import each_judgement
from groupwise.datasets.sources import load_apart
from groupwise.datasets.stored import kept
from groupwise.errors import ConfigError, DataError
from groupwise.learn.examples import check_enough
from groupwise.model.policy import Policy
from groupwise.model.reading import Reading, by_steps, padding_of, whole
from groupwise.model.reward_model import SEQUENCES, TOKENS, Kind, values
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.objective.reward_loss import bradley_terry, centring, step_cross_entropy, two_classes
from groupwise.statistics.intervals import bootstrap, calibration, wilson

BINS = 10


@dataclass(frozen=True)
class Case:
    """What was judged. readings: the chosen and the rejected answer, or one read at each step.

    right: what was said of each step. margin: by how much the chosen answer is better.
    """

    where: str
    readings: tuple[Reading, ...]
    right: tuple[bool, ...] = ()
    margin: float = 0.0

    @property
    def judgements(self) -> int:
        """Pairs or steps, of which the loss is a mean."""
        return len(self.right) or 1


@dataclass(frozen=True)
class Judged:
    """What one kind of example teaches. kind: of the classifier that learns it.

    encode: (example, tokenizer, separator, limit) -> its case at any length, steps past the limit left out.
    losses: (logits, cases, centre_coef) -> [judgements] nats. metrics: of a step. figures: of what is held out, from
    the logits of each case. cuts: True if an example too long may lose its end. unread: keys of the recipe's section
    `reward_model` that it does not read.
    """

    kind: Kind
    encode: Callable[[Any, ChatTokenizer, str, int], Case]
    losses: Callable[[Tensor, Sequence[Case], float], Tensor]
    metrics: Callable[[Tensor, Sequence[Case]], dict[str, float]]
    figures: Callable[[Sequence[Tensor], Sequence[Case]], dict[str, Any]]
    cuts: bool
    unread: tuple[str, ...]
    noun: str


@dataclass(frozen=True)
class Judgements:
    """What is learned from, and what is only measured."""

    rules: Judged
    train: Sequence[Case]
    heldout: tuple[Case, ...]


def load_judgements(
    config: ExamplesConfig, tokenizer: ChatTokenizer, *, reward_model: RewardModelConfig, seed: int
) -> Judgements:
    """The pairs or labelled steps that a recipe asks for, as readings. Raises DataError or ConfigError."""
    train, heldout = load_apart(config, seed=seed, kind=cast(Any, object), read=each_judgement)
    rules = _rules(config, [*train[:1], *heldout[:1]])  # a source has one kind
    for name in rules.unread:
        value = getattr(reward_model, name)
        if value != RewardModelConfig.model_fields[name].default:
            raise ConfigError(
                f"reward_model.{name} = {value!r}: nothing reads it where {rules.noun}s are learned", hint="drop it"
            )
    parts = (_cases(part, rules, config, tokenizer, reward_model.separator) for part in (train, heldout))
    found = Judgements(rules, kept(next(parts)), tuple(next(parts)))
    check_enough(found.train, config)
    return found


def heldout_figures(policy: Policy, found: Judgements, *, tokens: int) -> dict[str, Any]:
    """How well held-out judgements are met, with 95 % intervals; {} if none is held out."""
    if not found.heldout:
        return {}
    outputs = values(policy, [case.readings for case in found.heldout], tokens=tokens)
    losses = [found.rules.losses(logits, [case], 0.0) for logits, case in zip(outputs, found.heldout, strict=True)]
    loss = bootstrap([float(each.mean()) for each in losses])
    return {
        "loss": {"value": loss.value, "low": loss.low, "high": loss.high, "unit": f"nats a {found.rules.noun}"},
        **found.rules.figures(outputs, found.heldout),
    }


def _rules(config: ExamplesConfig, examples: Sequence[Any]) -> Judged:
    """What all of the examples teach. Raises ConfigError if that is not the same, or nothing that is known here."""
    kinds = list(dict.fromkeys(type(example) for example in examples))
    if len(kinds) == 1 and kinds[0] in JUDGEMENT_RULES:
        return JUDGEMENT_RULES[kinds[0]]
    noun = " and ".join(sorted(kind.__name__.lower() for kind in kinds))
    raise ConfigError(
        f"examples.source = {config.source!r}: {noun} rows; stage 'reward_model' learns from pairs or labelled steps",
        hint="give one kind, held out and learned from",
    )


def _cases(
    examples: Iterable[Any], rules: Judged, config: ExamplesConfig, tokenizer: ChatTokenizer, separator: str
) -> Iterator[Case]:
    if config.too_long == "cut" and not rules.cuts:
        raise ConfigError(
            "examples.too_long = 'cut': an answer without its end is not the one that was judged",
            hint="set it to drop, or raise examples.max_tokens",
        )
    limit = min(config.max_tokens, tokenizer.context)
    for example in examples:
        case = rules.encode(example, tokenizer, separator, 2**31)
        length = max(len(reading.tokens) for reading in case.readings)
        if length > limit and config.too_long == "refuse":
            raise DataError(
                f"{case.where}: {length} tokens, more than {limit} (examples.max_tokens, the model's context of "
                f"{tokenizer.context})",
                hint="raise examples.max_tokens, or set examples.too_long to drop" + " or cut" * rules.cuts,
            )
        if length > limit and config.too_long == "drop":
            continue
        if length > limit:
            case = rules.encode(example, tokenizer, separator, limit)
        if all(reading.places for reading in case.readings):  # else its first step is past the limit
            yield case


def _pair(pair: Pair, tokenizer: ChatTokenizer, separator: str, limit: int) -> Case:
    padding = padding_of(tokenizer)
    readings = tuple(whole(tokenizer, pair.prompt, text, padding=padding) for text in (pair.chosen, pair.rejected))
    if readings[0] == readings[1]:
        raise DataError(
            f"{pair.where}: chosen and rejected are the same {len(readings[0].tokens)} tokens",
            hint="the tokenizer or its chat template does not tell them apart: drop the row",
        )
    return Case(pair.where, readings, margin=pair.margin or 0.0)


def _stepped(example: Stepped, tokenizer: ChatTokenizer, separator: str, limit: int) -> Case:
    steps = example.steps if example.verbatim else [ended(step, separator) for step in example.steps]
    reading = by_steps(tokenizer, example.prompt, steps, rest=example.rest, limit=limit)
    return Case(example.where, (reading,), right=example.right[: len(reading.places)])


def ended(step: str, separator: str) -> str:
    """A step with the separator behind it."""
    return step if step.endswith(separator) else step + separator


def _sides(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Rewards of the chosen and the rejected answers, [P] each, of logits [2 P, 1]."""
    chosen, rejected = logits[:, 0].view(-1, 2).unbind(1)
    return chosen, rejected


def _pair_losses(logits: Tensor, cases: Sequence[Case], centre_coef: float) -> Tensor:
    chosen, rejected = _sides(logits)
    margin = torch.tensor([case.margin for case in cases], dtype=logits.dtype, device=logits.device)
    losses = bradley_terry(chosen, rejected, margin)
    return losses + centre_coef * centring(chosen, rejected) if centre_coef else losses


def _pair_metrics(logits: Tensor, cases: Sequence[Case]) -> dict[str, float]:
    chosen, rejected = _sides(logits)
    return {
        "reward_model/accuracy": float(torch.heaviside(chosen - rejected, torch.full_like(chosen, 0.5)).mean()),
        "reward_model/margin": float((chosen - rejected).mean()),
        "reward_model/mean": float(logits.mean()),
    }


def _pair_figures(outputs: Sequence[Tensor], cases: Sequence[Case]) -> dict[str, Any]:
    """preferred: pairs whose chosen answer has the higher reward, a tie counts half. calibration: in equal bins.

    A pair's confidence is sigmoid(|r_chosen - r_rejected|), from 1/2 to 1, in the side that the model prefers.
    """
    chosen, rejected = _sides(torch.cat(list(outputs)))
    ahead = (chosen - rejected).double()
    right = torch.heaviside(ahead, torch.tensor(0.5, dtype=ahead.dtype)).tolist()
    return {
        "preferred": wilson(sum(right), len(right))._asdict(),
        "calibration": calibration(ahead.abs().sigmoid().tolist(), right, low=0.5, bins=BINS),
    }


def _step_losses(logits: Tensor, cases: Sequence[Case], centre_coef: float) -> Tensor:
    return step_cross_entropy(logits, _labels(cases).to(logits.device))


def _step_metrics(logits: Tensor, cases: Sequence[Case]) -> dict[str, float]:
    verdict = two_classes(logits).argmax(1).bool()
    right = _labels(cases).to(logits.device)
    return {
        "reward_model/accuracy": float((verdict == right).float().mean()),
        "reward_model/right": float(right.float().mean()),
    }


def _step_figures(outputs: Sequence[Tensor], cases: Sequence[Case]) -> dict[str, Any]:
    """steps: mean over answers of the share of their steps that are judged rightly, by bootstrap over answers.

    calibration: of P(right) in bins of equal width from 0 to 1. right: share of the steps that were called right.
    """
    shares = [
        float((two_classes(logits).argmax(1).bool() == torch.tensor(case.right)).double().mean())
        for logits, case in zip(outputs, cases, strict=True)
    ]
    figure, labels = bootstrap(shares), _labels(cases).tolist()
    probability = two_classes(torch.cat(list(outputs)))[:, 1].exp().tolist()
    return {
        "steps": {**figure._asdict(), "n": len(labels)},
        "calibration": calibration(probability, labels, low=0.0, bins=BINS),
        "right": sum(labels) / len(labels),
    }


def _labels(cases: Sequence[Case]) -> Tensor:
    return torch.tensor([right for case in cases for right in case.right], dtype=torch.bool)


JUDGEMENT_RULES: dict[type, Judged] = {
    Pair: Judged(
        SEQUENCES, _pair, _pair_losses, _pair_metrics, _pair_figures, cuts=False, unread=("separator",), noun="pair"
    ),
    Stepped: Judged(
        TOKENS, _stepped, _step_losses, _step_metrics, _step_figures, cuts=True, unread=("centre_coef",), noun="step"
    ),
}
