"""The plain ways to sample, for models whose attention is not known: transformers' own cache, or none."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from groupwise.model.policy import Policy

TOKENS_A_PASS = 4096


class PlainCache:
    """The same as `SharedCache`, slower: each row holds its question's keys and values, and the cache is copied as it
    grows. Rows enter only when all others have left."""

    enters_any_time = False
    of_one_length = False

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @torch.inference_mode()
    def enter(self, questions: Sequence[tuple[int, ...]], before: Sequence[tuple[int, ...]]) -> Tensor:
        """Takes in a row for each question given; logits [n, V] of their next tokens. Each is computed once.

        before: of each row the tokens after its question that are there already.
        """
        questions = [question + own for question, own in zip(questions, before, strict=True)]
        distinct = list(dict.fromkeys(questions))
        width = max(len(question) for question in distinct)
        tokens = torch.zeros(len(distinct), width, dtype=torch.long)
        attention = torch.zeros_like(tokens)
        for index, question in enumerate(distinct):  # padded on the left: the last column is every row's newest token
            tokens[index, width - len(question) :] = torch.tensor(question)
            attention[index, width - len(question) :] = 1
        self._attention = attention.to(self._policy.device)
        self._cache = DynamicCache(config=self._policy.model.config)
        places = [self._policy.places(question) for question in distinct]
        # by how much a row's next position is ahead of its tokens; pictures alone set positions apart
        ahead = [int(own.max()) + 1 - own.shape[-1] for own in places]
        self._ahead = torch.tensor(ahead, device=self._policy.device)
        padded = torch.stack([pad(own, (width - own.shape[-1], 0)) for own in places], -2)
        logits = self._next(tokens.to(self._policy.device), padded.to(self._policy.device))
        place = {question: index for index, question in enumerate(distinct)}
        spread = torch.tensor([place[question] for question in questions], device=self._policy.device)
        self._cache.reorder_cache(cast(torch.LongTensor, spread))
        self._attention, self._ahead = self._attention[spread], self._ahead[spread]
        return logits[spread]

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> Tensor:
        """Logits [R, V] of the tokens that follow these [R], the newest of each row."""
        self._attention = torch.cat([self._attention, self._attention.new_ones(len(tokens), 1)], dim=1)
        return self._next(tokens[:, None], self._attention.sum(1, keepdim=True) - 1 + self._ahead[:, None])

    @torch.inference_mode()
    def keep(self, live: np.ndarray) -> np.ndarray:
        """Lets go of the rows that are not live [R]; the former places of those that stay, in their new order."""
        order = np.flatnonzero(live)
        if 0 < len(order) < len(live):
            chosen = torch.from_numpy(order).to(self._policy.device)
            self._cache.reorder_cache(cast(torch.LongTensor, chosen))
            self._attention, self._ahead = self._attention[chosen], self._ahead[chosen]
        return order

    def _next(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Logits [R, V] after tokens [R, n] at positions [R, n] or [3, R, n], the newest of each row."""
        return self._policy.last_logits(tokens, self._cache, padding=(self._attention, positions))


class LevelCache(PlainCache):
    """For models that cannot be padded on the left: rows side by side have questions of one length."""

    of_one_length = True

    def _next(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return self._policy.last_logits(tokens, self._cache, padding=None)


class NoCache:
    """For models that keep nothing we know: every token from a pass over all before it, as in training."""

    enters_any_time = True
    of_one_length = False

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._rows: list[list[int]] = []

    @torch.inference_mode()
    def enter(self, questions: Sequence[tuple[int, ...]], before: Sequence[tuple[int, ...]]) -> Tensor:
        """Takes in a row for each question given, behind those there; logits [n, V] of their next tokens.

        before: of each row the tokens after its question that are there already.
        """
        questions = [question + own for question, own in zip(questions, before, strict=True)]
        distinct = list(dict.fromkeys(questions))
        place = {question: index for index, question in enumerate(distinct)}
        logits = self._logits([list(question) for question in distinct])
        self._rows += [list(question) for question in questions]
        return logits[torch.tensor([place[question] for question in questions], device=logits.device)]

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> Tensor:
        """Logits [R, V] of the tokens that follow these [R], the newest of each row."""
        for row, token in zip(self._rows, tokens.tolist(), strict=True):
            row.append(token)
        return self._logits(self._rows)

    def keep(self, live: np.ndarray) -> np.ndarray:
        """Lets go of the rows that are not live [R]; the former places of those that stay, in their new order."""
        order = np.flatnonzero(live)
        self._rows = [self._rows[place] for place in order]
        return order

    def _logits(self, rows: list[list[int]]) -> Tensor:
        """Of the token behind each row, [R, V]; so many tokens a pass."""
        width = max(map(len, rows))
        size, device = max(1, TOKENS_A_PASS // width), self._policy.device
        found = []
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            tokens = torch.tensor([row + [0] * (width - len(row)) for row in part], device=device)
            places = torch.tensor([len(row) - 1 for row in part], device=device)
            found.append(self._policy.logits_at(tokens, places))
        return torch.cat(found)
