"""Examples as tensors, and the plain loss on them: what supervised fine-tuning learns from and is measured by."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from groupwise.activity import counted
from groupwise.config import ExamplesConfig
from groupwise.data import Example, Sampling
from groupwise.datasets.examples import each_example
from groupwise.datasets.sources import load_apart
from groupwise.datasets.stored import kept
from groupwise.errors import ConfigError, DataError
from groupwise.model.batch import Rollouts, microbatches
from groupwise.model.policy import Policy
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.statistics.intervals import bootstrap

PLAIN = Sampling(max_new_tokens=1)
"""The model's own distribution, at temperature 1: what is imitated was not sampled from it."""


@dataclass(frozen=True)
class Encoded:
    """An example's token ids, and which of them are learned."""

    tokens: tuple[int, ...]
    learned: tuple[bool, ...]


@dataclass(frozen=True)
class Examples:
    """What is learned from, and what only the loss is measured on."""

    train: Sequence[Encoded]
    heldout: tuple[Encoded, ...]


def load_examples(config: ExamplesConfig, tokenizer: ChatTokenizer, *, seed: int) -> Examples:
    """The examples that a recipe asks for, as token ids. Raises DataError or ConfigError with file and line."""
    train, heldout = load_apart(config, seed=seed, kind=Example, read=each_example)
    found = Examples(kept(_encoded(train, config, tokenizer)), tuple(_encoded(heldout, config, tokenizer)))
    check_enough(found.train, config)
    return found


def check_enough(train: Sequence[object], config: ExamplesConfig, *, what: str = "examples") -> None:
    """Raises ConfigError if a step wants more of what is learned from than there is, once the long ones are gone."""
    if len(train) < config.per_step:
        raise ConfigError(
            f"examples.per_step = {config.per_step}, but there are {len(train)} {what} to learn from",
            hint=f"set it to {len(train)} or less, or give more examples",
        )


def _encoded(examples: Sequence[Example], config: ExamplesConfig, tokenizer: ChatTokenizer) -> Iterator[Encoded]:
    limit = min(config.max_tokens, tokenizer.context)
    for example, (tokens, learned) in ((one, taught) for one in examples for taught in tokenizer.encode_example(one)):
        if len(tokens) > limit and config.too_long == "refuse":
            raise DataError(
                f"{example.where}: {len(tokens)} tokens, more than {limit} (examples.max_tokens, the model's context "
                f"of {tokenizer.context})",
                hint="raise examples.max_tokens, or set examples.too_long to drop or cut",
            )
        if len(tokens) > limit and config.too_long == "drop":
            continue
        tokens, learned = tokens[:limit], learned[:limit]
        if any(learned[1:]):  # nothing predicts the first token
            yield Encoded(tuple(tokens), (False, *learned[1:]))


def rollouts_of(examples: Sequence[Encoded], device: torch.device) -> Rollouts:
    """Examples as rows of their own, without rewards; `output_mask` is what is learned."""
    return Rollouts.of_rows(
        [example.tokens for example in examples],
        masks=[example.learned for example in examples],
        question_lengths=[1] * len(examples),
        group=range(len(examples)),
        device=device,
    )


def negative_log_likelihood(mask: Tensor, tokens: float) -> Callable[[Tensor], Tensor]:
    """log pi [B, T] -> -sum log pi / tokens over the mask [B, T]; tokens: those of the whole optimizer step. Nats."""
    return lambda logprobs: -torch.where(mask, logprobs, 0.0).sum() / tokens


def heldout_loss(policy: Policy, examples: Sequence[Encoded], *, tokens: int) -> dict[str, float]:
    """Mean over examples of the mean loss a token, with its 95 % interval by bootstrap over examples. Nats a token."""
    rollouts = rollouts_of(examples, policy.device)
    means = torch.zeros(len(examples))
    pieces = list(microbatches(rollouts, tokens, question_once=policy.question_once))
    for rows in counted(pieces, "held-out loss", "micro-batches"):
        piece = rollouts[rows]
        scored = policy.logprobs(piece, piece.output_mask, sampling=PLAIN).logprobs
        means[rows.cpu()] = (-scored.sum(1) / piece.output_mask.sum(1)).float().cpu()
    figure = bootstrap(means.tolist())
    return {"value": figure.value, "low": figure.low, "high": figure.high}
