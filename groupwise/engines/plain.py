"""The plain way to sample, for models whose attention is not known: transformers' own cache, padded on the left."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from groupwise.model.policy import Policy


class PlainCache:
    """The same as `SharedCache`, slower: each row holds its question's keys and values, and the cache is copied as it
    grows. Rows enter only when all others have left."""

    enters_any_time = False

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @torch.inference_mode()
    def enter(self, questions: Sequence[tuple[int, ...]]) -> Tensor:
        """Takes in a row for each question given; logits [n, V] of their first tokens. Each is computed once."""
        policy = self._policy
        distinct = list(dict.fromkeys(questions))
        width = max(len(question) for question in distinct)
        tokens = torch.zeros(len(distinct), width, dtype=torch.long)
        attention = torch.zeros_like(tokens)
        for index, question in enumerate(distinct):  # padded on the left: the last column is every row's newest token
            tokens[index, width - len(question) :] = torch.tensor(question)
            attention[index, width - len(question) :] = 1
        tokens, attention = tokens.to(policy.device), attention.to(policy.device)
        self._cache = DynamicCache(config=policy.model.config)
        positions = (attention.cumsum(1) - 1).clamp(min=0)
        logits = policy.last_logits(tokens, attention=attention, positions=positions, cache=self._cache)
        place = {question: index for index, question in enumerate(distinct)}
        spread = torch.tensor([place[question] for question in questions], device=policy.device)
        self._cache.batch_select_indices(spread)
        self._attention = attention[spread]
        return logits[spread]

    @torch.inference_mode()
    def turn(self, tokens: Tensor) -> Tensor:
        """Logits [R, V] of the tokens that follow these [R], the newest of each row."""
        positions = self._attention.sum(1, keepdim=True)
        self._attention = torch.cat([self._attention, self._attention.new_ones(len(tokens), 1)], dim=1)
        return self._policy.last_logits(
            tokens[:, None], attention=self._attention, positions=positions, cache=self._cache
        )

    @torch.inference_mode()
    def keep(self, live: np.ndarray) -> np.ndarray:
        """Lets go of the rows that are not live [R]; the former places of those that stay, in their new order."""
        order = np.flatnonzero(live)
        if 0 < len(order) < len(live):
            chosen = torch.from_numpy(order).to(self._policy.device)
            self._cache.batch_select_indices(chosen)
            self._attention = self._attention[chosen]
        return order
