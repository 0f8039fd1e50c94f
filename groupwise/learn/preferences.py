"""Judged outputs as tensors, and what a preference loss is given of them. Knows no reference model and no files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from groupwise import registry
from groupwise.config import ExamplesConfig, PreferenceRecipe
from groupwise.data import Example, Judged, Message, Pair
from groupwise.datasets.base import following
from groupwise.datasets.pairs import each_judged, each_pair
from groupwise.datasets.sources import load_apart
from groupwise.datasets.stored import kept
from groupwise.errors import ConfigError, DataError
from groupwise.learn.examples import PLAIN, check_enough
from groupwise.learn.ranks import ALONE, Ranks
from groupwise.model.batch import Rollouts, whole_groups
from groupwise.model.policy import Policy
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.objective.preference import PreferenceLoss, of_pairs, reference_point
from groupwise.objective.surrogate import called, reads

AT_ONCE = 256
"""Questions made into one tensor where log-probabilities of a whole file are wanted."""


@dataclass(frozen=True)
class Compared:
    """A question and the outputs to it that were judged: a pair's two, the chosen one first, or a single one.

    question, outputs: token ids, each output with the token that ends it. where: its place in words.
    """

    where: str
    question: tuple[int, ...]
    outputs: tuple[tuple[int, ...], ...]
    liked: tuple[bool, ...]


@dataclass(frozen=True)
class Preferences:
    """What is learned from, and what is only measured."""

    train: Sequence[Compared]
    heldout: tuple[Compared, ...]


@dataclass(frozen=True)
class Method:
    """A preference loss with the recipe's settings of it."""

    name: str
    loss: PreferenceLoss
    settings: Mapping[str, float]

    @classmethod
    def of(cls, recipe: PreferenceRecipe) -> "Method":
        """The one a recipe names. Raises ConfigError for a setting that it does not read."""
        config = recipe.preference
        assert config is not None
        loss = registry.load(registry.PREFERENCES, config.loss, "preference.loss")
        settings = config.model_dump(exclude={"loss"})
        defaults = type(config)().model_dump()
        for name, value in settings.items():
            if name not in reads(loss) and value != defaults[name]:
                raise ConfigError(
                    f"preference.{name} = {value:g}: the loss {config.loss!r} does not read it",
                    hint="drop it, or choose another preference.loss",
                )
        return cls(config.loss, loss, settings)

    @property
    def of_pairs(self) -> bool:
        return of_pairs(self.loss)

    @property
    def reads_reference_point(self) -> bool:
        return "reference_point" in reads(self.loss)

    def losses(self, log_ratios: Tensor, rollouts: Rollouts, liked: Tensor, reference_point: Tensor) -> Tensor:
        """The loss of each pair, or of each output, [n]. log_ratios: [b] nats, of whole outputs; liked: [b]."""
        mean = log_ratios / rollouts.output_mask.sum(1)
        inputs: dict[str, Any] = {
            **self.settings,
            "log_ratios": log_ratios,
            "liked": liked,
            "reference_point": reference_point,
            "chosen": log_ratios[liked],
            "rejected": log_ratios[~liked],
            "chosen_mean": mean[liked],
            "rejected_mean": mean[~liked],
        }
        return called(self.loss, inputs)

    def margins(self, log_ratios: Tensor, liked: Tensor, reference_point: Tensor) -> Tensor:
        """How far the side that was judged better is ahead: of the other output, or of z0; [n] in implicit reward."""
        beta = self.settings["beta"]
        if self.of_pairs:
            return beta * (log_ratios[liked] - log_ratios[~liked])
        return beta * torch.where(liked, log_ratios - reference_point, reference_point - log_ratios)


def load_preferences(config: ExamplesConfig, tokenizer: ChatTokenizer, *, method: Method, seed: int) -> Preferences:
    """The examples of a recipe, of the kind that its loss learns from, as token ids.

    Raises DataError or ConfigError with file and line.
    """
    train: Iterable[Conversation]
    heldout: Iterable[Conversation]
    if method.of_pairs:
        pairs = load_apart(config, seed=seed, kind=Pair, read=each_pair)
        train, heldout = (map(_of_pair, part) for part in pairs)
    else:
        judged = load_apart(config, seed=seed, kind=Judged, read=each_judged)
        train, heldout = (map(_of_judged, part) for part in judged)
    found = Preferences(kept(_fitting(train, config, tokenizer)), tuple(_fitting(heldout, config, tokenizer)))
    check_enough(found.train, config, what="pairs" if method.of_pairs else "judged answers")
    if method.reads_reference_point:
        _check_other_questions(found, config, method)
    return found


def rollouts_of(compared: Sequence[Compared], device: torch.device) -> Rollouts:
    """Outputs of a group behind each other, without rewards; `output_mask` is what was judged."""
    rows = [(group, one.question, output) for group, one in enumerate(compared) for output in one.outputs]
    return Rollouts.of_rows(
        [question + output for _, question, output in rows],
        masks=[(False,) * len(question) + (True,) * len(output) for _, question, output in rows],
        question_lengths=[len(question) for _, question, _ in rows],
        group=[group for group, _, _ in rows],
        device=device,
    )


def liked_of(compared: Sequence[Compared], device: torch.device) -> Tensor:
    """[rows of `rollouts_of`] True for the chosen output of a pair, and for one that was liked."""
    return torch.tensor([liked for one in compared for liked in one.liked], device=device)


def reference_point_of_step(log_ratios: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """KTO's z0 (`groupwise.objective.preference.reference_point`) over the outputs of all ranks.

    log_ratios: [N] nats, of this rank's outputs behind questions that are not theirs.
    """
    if ranks.count == 1:
        return reference_point(log_ratios)
    sums = ranks.sum(torch.stack([log_ratios.detach().sum().double(), torch.tensor(float(len(log_ratios))).double()]))
    return reference_point((sums[0] / sums[1])[None]).to(log_ratios.dtype)


def one_before(compared: Sequence[Compared]) -> list[Compared]:
    """Each with the output of the last one before it, going round, that is to another question: for KTO's z0.

    TRL takes the one before, which in a file is often to the same question. So does this where all are to one.
    """
    found = []
    for index, one in enumerate(compared):
        before = (compared[index - back] for back in range(1, len(compared)))  # an index below 0 goes round
        other = next((other for other in before if other.question != one.question), compared[index - 1])
        found.append(replace(one, outputs=other.outputs, liked=other.liked))
    return found


def chosen_for(recipe: PreferenceRecipe, step: int, *, count: int) -> list[int]:
    """Indices of a step's examples among `count`, a function of its arguments alone."""
    config = recipe.examples
    assert config is not None
    size = config.per_step
    return following(range(count), step * size, size, seed=recipe.seed, shuffle=config.shuffle)


@torch.no_grad()
def summed_logprobs(policy: Policy, compared: Sequence[Compared], *, tokens: int) -> Tensor:
    """log pi of each output, sum over its tokens, [rows of `rollouts_of`] nats, so many tokens at a time."""
    sums = [torch.zeros(0, dtype=policy.model.dtype, device=policy.device)]
    for start in range(0, len(compared), AT_ONCE):
        rollouts = rollouts_of(compared[start : start + AT_ONCE], policy.device)
        found = torch.zeros(len(rollouts.lengths), dtype=policy.model.dtype, device=policy.device)
        for rows in whole_groups(rollouts, tokens, question_once=policy.question_once):
            piece = rollouts[rows]
            found[rows] = policy.logprobs(piece, piece.output_mask, sampling=PLAIN).logprobs.sum(1)
        sums.append(found)
    return torch.cat(sums)


Conversation = tuple[str, tuple[Message, ...], tuple[str, ...], tuple[bool, ...]]


def _of_pair(pair: Pair) -> Conversation:
    return pair.where, pair.prompt, (pair.chosen, pair.rejected), (True, False)


def _of_judged(judged: Judged) -> Conversation:
    return judged.where, judged.prompt, (judged.completion,), (judged.liked,)


def _fitting(rows: Iterable[Conversation], config: ExamplesConfig, tokenizer: ChatTokenizer) -> Iterator[Compared]:
    """The rows as token ids, those that are too long refused, dropped or cut at their outputs' ends."""
    limit = min(config.max_tokens, tokenizer.context)
    for where, prompt, answers, liked in rows:
        encoded = [_encoded(tokenizer, where, prompt, answer) for answer in answers]
        question = encoded[0][0]
        assert all(other == question for other, _ in encoded), f"{where}: the prompt depends on the answer"
        longest = len(question) + max(len(output) for _, output in encoded)
        if longest > limit and config.too_long == "drop":
            continue
        if longest > limit and (config.too_long == "refuse" or len(question) >= limit):
            alone = f", {len(question)} of them the prompt's" if len(question) >= limit else ""
            raise DataError(
                f"{where}: {longest} tokens{alone}, more than {limit} (examples.max_tokens, the model's context of "
                f"{tokenizer.context})",
                hint="raise examples.max_tokens, or set examples.too_long to drop" + " or cut" * (not alone),
            )
        outputs = tuple(tuple(output[: limit - len(question)]) for _, output in encoded)
        if len(outputs) == 2 and outputs[0] == outputs[1]:
            cut = f" once cut to {limit} tokens" if longest > limit else ""
            raise DataError(
                f"{where}: chosen and rejected are the same tokens{cut}",
                hint="drop the row, or raise examples.max_tokens" if cut else "drop the row",
            )
        yield Compared(where, tuple(question), outputs, liked)


def _encoded(
    tokenizer: ChatTokenizer, where: str, prompt: tuple[Message, ...], answer: str
) -> tuple[list[int], list[int]]:
    """Token ids of the prompt as the policy reads it, and of the answer as it would write it, its end included."""
    example = Example(where, (*prompt, Message("assistant", answer)), prompt_messages=len(prompt))
    [(tokens, learned)] = tokenizer.encode_example(example)
    start = learned.index(True)
    return tokens[:start], tokens[start : start + sum(learned)]


def _check_other_questions(found: Preferences, config: ExamplesConfig, method: Method) -> None:
    what = f"the loss {method.name!r} compares with outputs to other questions"
    if config.per_step < 2:
        raise ConfigError(f"examples.per_step = {config.per_step}: {what}", hint="set it to 2 or more")
    if len({one.question for one in found.heldout}) == 1:
        raise ConfigError(
            f"examples.heldout_size = {config.heldout_size}: {what}, and all that are held out are to one",
            hint="set it higher, or to 0",
        )
