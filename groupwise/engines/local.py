"""Sampling with a KV cache on the policy's own module: one copy of the weights, no sync. Token ids in and out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from groupwise.data import Finish, Output, Sampling
from groupwise.engines.base import Task, uniforms
from groupwise.errors import ModelError, RunError
from groupwise.model.policy import Policy
from groupwise.objective.logprobs import sampling_logits, token_logprobs

BLOCK = 256  # tokens of the vocabulary summed at once when drawing
COMPACT = 0.75  # rows are dropped from the cache once fewer than this share of them are unfinished


class LocalEngine:
    """The policy's own module as a sampler; its log-probabilities are the policy's to rounding."""

    exact = True

    def __init__(self, policy: Policy, *, max_rows: int = 256) -> None:
        # transformers' mark of a recurrent model: padding on the left would enter its state, and its cache has no rows
        if getattr(policy.model, "_is_stateful", False):
            raise ModelError(
                f"model.path = {policy.tokenizer.source!r}: {type(policy.model).__name__} keeps a recurrent state, "
                "which the local engine cannot share among outputs",
                hint="choose a model with attention only",
            )
        self.policy = policy
        self.max_rows = max_rows

    def generate(self, tasks: Sequence[Task], sampling: Sampling, *, policy_version: int = 0) -> list[list[Output]]:
        rows: list[_Row] = [
            _Row(index, task.question_tokens, key) for index, task in enumerate(tasks) for key in task.streams
        ]
        # Neighbours of like length waste least on padding; the order changes no output, each has its own stream.
        for wave in _waves(sorted(rows, key=lambda row: len(row.question)), self.max_rows):
            self._sample(wave, sampling)
        outputs: list[list[Output]] = [[] for _ in tasks]
        for row in rows:
            outputs[row.task].append(self._output(row, policy_version))
        return outputs

    @torch.inference_mode()
    def _sample(self, rows: "list[_Row]", sampling: Sampling) -> None:
        """Fills the rows' tokens until each is finished: one prefill per distinct question, then one token a turn."""
        policy = self.policy
        cache, attention, logits = self._prefill(rows)
        live = list(range(len(rows)))
        keys = np.array([row.stream for row in rows], dtype=np.uint64)
        positions = attention.sum(1)
        for turn in range(sampling.max_new_tokens):
            tokens, logprobs = _next_tokens(logits, sampling, uniforms(keys, turn))
            for place, token, logprob in zip(live, tokens.tolist(), logprobs.tolist(), strict=True):
                if place >= 0:
                    self._append(rows[place], token, logprob, sampling)
            live = [place if place >= 0 and rows[place].finish is None else -1 for place in live]
            unfinished = sum(place >= 0 for place in live)
            if not unfinished or turn + 1 == sampling.max_new_tokens:
                break
            if unfinished < COMPACT * len(live):
                kept = [index for index, place in enumerate(live) if place >= 0]
                chosen = torch.tensor(kept, device=policy.device)
                cache.batch_select_indices(chosen)
                attention, tokens, positions = attention[chosen], tokens[chosen], positions[chosen]
                live, keys = [live[index] for index in kept], keys[kept]
            attention = torch.cat([attention, attention.new_ones(len(live), 1)], dim=1)
            logits = policy.last_logits(tokens[:, None], attention=attention, positions=positions[:, None], cache=cache)
            positions = positions + 1
        for row in rows:
            row.finish = row.finish or "length"

    def _prefill(self, rows: "list[_Row]") -> tuple[DynamicCache, Tensor, Tensor]:
        """Cache, attention mask [R, N] and next-token logits [R, V]; each distinct question computed once."""
        policy = self.policy
        questions = list(dict.fromkeys(row.question for row in rows))
        width = max(len(question) for question in questions)
        tokens = torch.zeros(len(questions), width, dtype=torch.long)
        attention = torch.zeros(len(questions), width, dtype=torch.long)
        for index, question in enumerate(questions):  # padded on the left: the last column is every row's newest token
            tokens[index, width - len(question) :] = torch.tensor(question)
            attention[index, width - len(question) :] = 1
        tokens, attention = tokens.to(policy.device), attention.to(policy.device)
        cache = DynamicCache(config=policy.model.config)
        positions = (attention.cumsum(1) - 1).clamp(min=0)
        logits = policy.last_logits(tokens, attention=attention, positions=positions, cache=cache)
        place = {question: index for index, question in enumerate(questions)}
        spread = torch.tensor([place[row.question] for row in rows], device=policy.device)
        cache.batch_select_indices(spread)
        return cache, attention[spread], logits[spread]

    def _append(self, row: "_Row", token: int, logprob: float, sampling: Sampling) -> None:
        if math.isnan(logprob):
            raise RunError(
                f"the policy's logits are nan after {len(row.question) + len(row.tokens)} token(s) of a conversation",
                hint="its weights have diverged: go back to an earlier checkpoint with a lower update.learning_rate",
            )
        row.tokens.append(token)
        row.logprobs.append(logprob)
        if token in self.policy.tokenizer.end_tokens or (sampling.stop and self._ends_with_stop(row, sampling.stop)):
            row.finish = "stop"

    def _ends_with_stop(self, row: "_Row", stop: tuple[str, ...]) -> bool:
        # A token may be one byte of a character, or a special token without any text, hence bytes and the margin.
        tail = self.policy.tokenizer.decode(row.tokens[-(max(len(text.encode()) for text in stop) + 8) :])
        return any(text in tail for text in stop)

    def _output(self, row: "_Row", policy_version: int) -> Output:
        assert row.finish is not None
        return Output(
            question_tokens=np.array(row.question, dtype=np.int32),
            tokens=np.array(row.tokens, dtype=np.int32),
            sampled=np.ones(len(row.tokens), dtype=bool),
            logprobs=np.array(row.logprobs, dtype=np.float32),
            text=self.policy.tokenizer.decode(row.tokens),
            finish=row.finish,
            policy_version=policy_version,
        )


@dataclass
class _Row:
    """An output on its way."""

    task: int
    question: tuple[int, ...]
    stream: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish | None = None


def _waves(rows: list[_Row], size: int) -> list[list[_Row]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _next_tokens(logits: Tensor, sampling: Sampling, draws: np.ndarray) -> tuple[Tensor, Tensor]:
    """Next token [R] of each row and its log-probability [R] in nats, under the one sampling distribution."""
    scaled = sampling_logits(
        logits,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
    )
    if sampling.greedy:
        tokens = scaled.argmax(-1)
    else:
        tokens = inverse_cdf(scaled, torch.from_numpy(draws).to(scaled))
    return tokens, token_logprobs(scaled, tokens)


def inverse_cdf(logits: Tensor, draws: Tensor) -> Tensor:
    """The token whose interval of the cumulative distribution holds the draw: [R, V], [R] in [0, 1) -> [R].

    Found in two steps, block of the vocabulary then token in it, which reads the probabilities once and sums few
    numbers at a time. A token of probability 0 is never drawn, whatever the rounding.
    """
    rows, vocabulary = logits.shape
    weights = (logits - logits.amax(-1, keepdim=True)).exp()
    padding = -vocabulary % BLOCK
    blocks = torch.nn.functional.pad(weights, (0, padding)).view(rows, -1, BLOCK)
    sums = blocks.sum(-1)
    ends = sums.cumsum(-1)
    target = draws * ends[:, -1]
    block = _first_above(ends, target, sums > 0)
    inside = blocks[torch.arange(rows, device=logits.device), block]
    start = ends.gather(1, block[:, None])[:, 0] - sums.gather(1, block[:, None])[:, 0]
    return block * BLOCK + _first_above(inside.cumsum(-1), target - start, inside > 0)


def _first_above(cumulative: Tensor, target: Tensor, possible: Tensor) -> Tensor:
    """Index of the first possible entry above the target; of the last possible one if rounding leaves none: [R]."""
    above = (cumulative > target[:, None]) & possible
    places = torch.arange(cumulative.shape[1], device=cumulative.device)
    last = torch.where(possible, places, 0).amax(-1)  # 0 also if all is nan, which the log-probability tells
    return torch.where(above.any(-1), above.int().argmax(-1), last)
