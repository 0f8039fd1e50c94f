"""Rewards by a reward model: any Hugging Face classifier, read with its own tokenizer and chat template.

The one file of rewards that may load torch; it runs in a reward's own process, where the weights are loaded before the
first call.
"""

from collections.abc import Callable, Iterator, Sequence
from math import prod
from statistics import fmean
from typing import Any, TypeVar

import torch
from torch import Tensor

from groupwise.config import ModelConfig
from groupwise.data import Question
from groupwise.errors import RewardError
from groupwise.model.policy import Policy
from groupwise.model.reading import by_steps, whole
from groupwise.model.reward_model import SEQUENCES, TOKENS, Kind, load_classifier, values
from groupwise.model.template import audit_for_reading
from groupwise.model.tokenizer import load_tokenizer
from groupwise.objective.reward_loss import two_classes
from groupwise.registry import nearest
from groupwise.rewards.opening import opening_of

Item = TypeVar("Item")
SQUASHES: dict[str, Callable[[float], float]] = {
    "none": lambda score: score,
    "sigmoid": lambda score: float(torch.tensor(score).sigmoid()),
}
AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "product": prod,
    "last": lambda steps: steps[-1],
    "mean": fmean,
}


def _output(text: str, before: str, after: str, opened: bool) -> str:
    return text


def _answer(text: str, before: str, after: str, opened: bool) -> str:
    # an output cut in its reasoning has no answer behind it, and the reasoning must not stand for one
    if after in text:
        return text.rpartition(after)[2].strip()
    return "" if opened else text.partition(before)[0].strip()


READS: dict[str, Callable[[str, str, str, bool], str]] = {"output": _output, "answer": _answer}


class Model:
    """The score that a sequence classifier gives the conversation, or the probability of one of several labels.

    path: a folder or hub name. read: `output`, all of it, or `answer`, what follows the last `after`; where that is
    not there, what stands before the first `before`: all of an output without reasoning, nothing of one whose reasoning
    was cut. opened: the prompt ends in `before`, so an output begins inside it; None: as the policy's chat template has
    it. squash: `none` or `sigmoid`, of the
    score of one label. label: index or name, where there are several. Of a conversation longer than the model's context
    the beginning of the output is left out, then that of the question.
    """

    def __init__(
        self,
        *,
        path: str,
        read: str = "output",
        before: str = "<think>",
        after: str = "</think>",
        opened: bool | None = None,
        squash: str = "none",
        label: int | str | None = None,
        device: str = "auto",
        chat_template: str | None = None,
        trust_remote_code: bool | None = None,
    ) -> None:
        self._read, self._marks, self._opened = _named(READS, read, "read"), (before, after), opened
        for name, mark in (("before", before), ("after", after)):
            if not mark:
                raise RewardError(f"params.{name} = '': it would be everywhere", hint="drop it for the tag of <think>")
        self._squash = _named(SQUASHES, squash, "squash")
        self._policy = _loaded(SEQUENCES, path, device, chat_template, trust_remote_code)
        self._label = _label(self._policy, label)
        if self._label is not None and squash != "none":
            raise RewardError(f"params.squash = {squash!r}: a label's probability is squashed already", hint="drop it")

    def __call__(self, texts: Sequence[str], questions: Sequence[Question]) -> list[float]:
        tokenizer = self._policy.tokenizer
        padding = self._policy.model.config.get_text_config().pad_token_id
        groups = [
            [
                whole(
                    tokenizer,
                    question.prompt,
                    self._read(_encodable(text), *self._marks, self._begins_inside(question)),
                    padding=padding,
                    limit=tokenizer.context,
                )
                for text in asked
            ]
            for question, asked in _by_question(texts, questions)
        ]
        logits = torch.cat(values(self._policy, groups))
        if self._label is None:
            return [self._squash(score) for score in logits[:, 0].tolist()]
        found: list[float] = logits.softmax(-1)[:, self._label].tolist()
        return found

    def _begins_inside(self, question: Question) -> bool:
        if self._opened is not None:
            return self._opened
        before, after = self._marks
        opening = opening_of(question)
        return before in opening and after not in opening


class ProcessModel:
    """The probability that each step of the output is right, by a token classifier with one or two labels.

    path: a folder or hub name. separator: what ends a step, as in its training. Each step has its probability as its
    reward; the score is their `aggregate`: `min` (Math-Shepherd, arXiv:2312.08935), `product` (arXiv:2305.20050),
    `last` or `mean`; 0 without any step. Steps past the model's context are not judged; None if none is before it.
    """

    def __init__(
        self,
        *,
        path: str,
        separator: str = "\n",
        aggregate: str = "min",
        device: str = "auto",
        chat_template: str | None = None,
        trust_remote_code: bool | None = None,
    ) -> None:
        if not separator:
            raise RewardError("params.separator = '': it would end no step", hint="drop it for a line's end")
        self._separator, self._aggregate = separator, _named(AGGREGATES, aggregate, "aggregate")
        self._policy = _loaded(TOKENS, path, device, chat_template, trust_remote_code)
        labels = self._policy.model.config.num_labels
        if labels > 2:
            raise RewardError(
                f"params.path = {path!r}: it has {labels} labels; a process reward model has wrong and right",
                hint="give a token-classification checkpoint with 2 labels, or 1",
            )

    def __call__(self, texts: Sequence[str], questions: Sequence[Question]) -> list[dict[str, Any]]:
        cut = [list(steps_of(text, self._separator)) for text in texts]
        tokenizer = self._policy.tokenizer
        readings = [
            by_steps(
                tokenizer,
                question.prompt,
                [_encodable(_ended(step, self._separator)) for step, _ in steps],
                limit=tokenizer.context,
            )
            for steps, question in zip(cut, questions, strict=True)
        ]
        judged = [index for index, reading in enumerate(readings) if reading.places]
        right: dict[int, Tensor] = {}
        if judged:
            groups = _by_question([readings[index] for index in judged], [questions[index] for index in judged])
            logits = torch.cat(values(self._policy, [group for _, group in groups]))
            right = dict(zip(judged, logits.split([len(readings[index].places) for index in judged]), strict=True))
        return [self._verdict(steps, right.get(index)) for index, steps in enumerate(cut)]

    def _verdict(self, steps: Sequence[tuple[str, int]], logits: Tensor | None) -> dict[str, Any]:
        if logits is None:
            return {"score": None if steps else 0.0, "steps": []}
        right = two_classes(logits)[:, 1].exp().tolist()
        ends = [end for _, end in steps][: len(right)]
        return {"score": self._aggregate(right), "steps": [list(pair) for pair in zip(ends, right, strict=True)]}


def steps_of(text: str, separator: str) -> Iterator[tuple[str, int]]:
    """Each step of a text and where it ends, in characters from the start: behind a separator, or with the text.

    What is empty but for spaces is no step of its own and belongs to the one behind it, or to none at the end.
    """
    start = end = 0
    while end < len(text):
        begin, found = end, text.find(separator, end)
        end = len(text) if found < 0 else found + len(separator)
        if text[begin:end].removesuffix(separator).strip():
            yield text[start:end], end
            start = end


def _ended(step: str, separator: str) -> str:
    return step if step.endswith(separator) else step + separator


def _loaded(kind: Kind, path: str, device: str, chat_template: str | None, trust: bool | None) -> Policy:
    """The classifier behind a path. Raises ModelError if there is none of the kind."""
    config = ModelConfig(path=path, device=device, chat_template=chat_template, trust_remote_code=trust)
    tokenizer = load_tokenizer(config, section="params", audit=audit_for_reading)
    return load_classifier(config, tokenizer, kind=kind, section="params")


def _label(policy: Policy, label: int | str | None) -> int | None:
    """The index of the label asked for; None where there is one alone. Raises RewardError if it is none of them."""
    config = policy.model.config
    names = [str(config.id2label.get(index, index)) for index in range(config.num_labels)]
    if len(names) == 1 and label is None:
        return None
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, int) and 0 <= label < len(names):
        return label
    raise RewardError(
        f"params.label = {label!r}: the model has the labels {', '.join(names)}",
        hint="name the one whose probability is the reward" if len(names) > 1 else "drop it",
    )


def _by_question(items: Sequence[Item], questions: Sequence[Question]) -> Iterator[tuple[Question, list[Item]]]:
    """Runs of what belongs to the same question: what they share is computed once."""
    held: list[Item] = []
    for index, item in enumerate(items):
        held.append(item)
        if index + 1 == len(items) or questions[index + 1].prompt != questions[index].prompt:
            yield questions[index], held
            held = []


def _encodable(text: str) -> str:
    """The text without halves of surrogate pairs, which a policy may write and no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _named(table: dict[str, Any], name: str, where: str) -> Any:
    if name not in table:
        raise RewardError(f"params.{where} = {name!r}: no such name", hint=nearest(str(name), table))
    return table[name]
