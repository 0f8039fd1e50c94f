"""Keys and values while sampling: a question's once for all its outputs, each output's own in memory taken before.

Rows are outputs on their way. They may leave and enter at any turn; their order is the cache's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from groupwise.model.attention import Block, BlockPlan, Form, capped
from groupwise.model.layout import questions_alone
from groupwise.model.policy import Policy

PREFILL_TOKENS = 8192  # of questions in one pass
FIRST_TOKENS = 64  # room for an output at first; doubled when it is used up


class SharedCache:
    """The cache of a sampling run whose attention is ours."""

    enters_any_time = True

    def __init__(self, policy: Policy, *, rows: int, tokens: int) -> None:
        """rows: at most side by side; tokens: of an output at most."""
        self._policy, self._rows, self._tokens = policy, rows, tokens
        self._questions: list[tuple[int, ...]] = []  # of each slot
        self._last_states = torch.zeros(0)  # [Q, D], that predict a first token
        self._slot = torch.zeros(0, dtype=torch.long, device=policy.device)  # [R], the question of each row
        self._length = torch.zeros(0, dtype=torch.long, device=policy.device)  # [R], own tokens in the cache
        self._asked: dict[int, _Pair] = {}  # layer -> [Q, K, N, D]
        self._own: dict[int, _Pair] = {}  # layer -> [rows, K, T, D]

    @torch.inference_mode()
    def enter(self, questions: Sequence[tuple[int, ...]]) -> Tensor:
        """Takes in a row for each question given, behind those there; logits [n, V] of their first tokens."""
        known = set(self._questions)
        for part in _parts([question for question in dict.fromkeys(questions) if question not in known]):
            self._prefill(part)
        slot = {question: number for number, question in enumerate(self._questions)}
        slots = torch.tensor([slot[question] for question in questions], device=self._policy.device)
        self._slot = torch.cat([self._slot, slots])
        self._length = torch.cat([self._length, torch.zeros_like(slots)])
        distinct, place = slots.unique(return_inverse=True)
        with self._policy.autocast():
            return self._policy.head(self._last_states[distinct])[place]

    @torch.inference_mode()
    def turn(self, tokens: Tensor) -> Tensor:
        """Logits [R, V] of the tokens that follow these [R], the newest of each row."""
        asked = self._question_lengths()[self._slot]
        plan = _Turn(self, asked)
        with self._policy.autocast():
            states = self._policy.stream_states(tokens[None], (asked + self._length)[None], plan)
            self._length = self._length + 1
            return self._policy.head(states[0])

    @torch.inference_mode()
    def keep(self, live: np.ndarray) -> np.ndarray:
        """Lets go of the rows that are not live [R]; the former places of those that stay, in their new order."""
        order = _holes_filled(live)
        moved = np.flatnonzero(order != np.arange(len(order)))
        if len(moved):
            longest = int(self._length.max())
            to, source = (torch.from_numpy(places).to(self._policy.device) for places in (moved, order[moved]))
            for pair in self._own.values():
                for values in (pair.keys, pair.values):
                    values[to, :, :longest] = values[source, :, :longest]
        chosen = torch.from_numpy(order).to(self._policy.device)
        self._slot, self._length = self._slot[chosen], self._length[chosen]
        self._forget_questions()
        return order

    def _forget_questions(self) -> None:
        """Lets go of questions without rows, once they are half of those kept."""
        used = torch.zeros(len(self._questions), dtype=torch.bool)
        used[self._slot.cpu()] = True
        if 2 * int(used.sum()) > len(used):
            return
        kept = used.nonzero()[:, 0]
        self._questions = [self._questions[slot] for slot in kept.tolist()]
        chosen = kept.to(self._policy.device)
        self._last_states = self._last_states[chosen]
        for pair in self._asked.values():
            pair.keys, pair.values = pair.keys[chosen], pair.values[chosen]
        place = torch.full((len(used),), -1, dtype=torch.long)
        place[kept] = torch.arange(len(kept))
        self._slot = place.to(self._policy.device)[self._slot]

    def _prefill(self, questions: list[tuple[int, ...]]) -> None:
        """Computes questions that are new here; their keys, values and last states are kept."""
        tokens, positions, blocks = questions_alone(questions)
        plan = _Prefill(blocks)
        device = self._policy.device
        with self._policy.autocast():
            states = self._policy.stream_states(tokens.to(device), positions.to(device), plan)[0]
        last = states[[block.end - 1 for block in blocks]]
        self._last_states = torch.cat([self._last_states, last]) if self._questions else last
        self._questions += questions
        for layer, pair in plan.found.items():
            self._add_questions(layer, pair, blocks)

    def _add_questions(self, layer: int, found: "_Pair", blocks: Sequence[Block]) -> None:
        """found: [K, S, D], behind each other in the stream."""
        longest = max(block.end - block.start for block in blocks)
        parts = []
        for values in (found.keys, found.values):
            padded = values.new_zeros(len(blocks), values.shape[0], longest, values.shape[2])
            for slot, block in enumerate(blocks):
                padded[slot, :, : block.end - block.start] = values[:, block.start : block.end]
            parts.append(padded)
        held = self._asked.get(layer)
        if held is None:
            self._asked[layer] = _Pair(*parts)
        else:
            held.keys, held.values = (
                _stacked(old, new) for old, new in zip((held.keys, held.values), parts, strict=True)
            )

    def _question_lengths(self) -> Tensor:
        return torch.tensor([len(question) for question in self._questions], device=self._policy.device)

    def asked(self, layer: int) -> "_Pair":
        return self._asked[layer]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> "_Pair":
        """Keeps the rows' newest keys and values [R, K, D]; returns all of the layer's own."""
        held = self._own.get(layer)
        room = 0 if held is None else held.keys.shape[2]
        needed = int(self._length.max()) + 1
        if needed > room:
            room = min(max(FIRST_TOKENS, 2 * room, needed), max(self._tokens, needed))
            grown = _Pair(*(v.new_zeros(self._rows, v.shape[1], room, v.shape[2]) for v in (keys, values)))
            if held is not None:
                grown.keys[:, :, : held.keys.shape[2]] = held.keys
                grown.values[:, :, : held.keys.shape[2]] = held.values
            held = self._own[layer] = grown
        assert held is not None
        rows = torch.arange(len(keys), device=keys.device)
        held.keys[rows, :, self._length] = keys
        held.values[rows, :, self._length] = values
        return held

    @property
    def slots(self) -> Tensor:
        return self._slot

    @property
    def lengths(self) -> Tensor:
        return self._length


@dataclass
class _Pair:
    keys: Tensor
    values: Tensor


class _Prefill(BlockPlan):
    """Block attention that remembers keys and values."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__(blocks)
        self.found: dict[int, _Pair] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        self.found[layer] = _Pair(key[0], value[0])
        return super().attend(layer, query, key, value, form)


class _Turn:
    """One new token of each row: its scores against the question, one product for all rows of a question, and against
    its own tokens; one softmax over both."""

    def __init__(self, cache: SharedCache, asked: Tensor) -> None:
        self._cache = cache
        slots, lengths = cache.slots, cache.lengths
        self._rows = len(slots)
        self._own = int(lengths.max()) + 1
        # members [Q, g]: the rows of each question, filled up with row 0; place [R]: where a row stands in it.
        counts = torch.bincount(slots, minlength=1)
        order = torch.argsort(slots, stable=True)
        number = torch.arange(self._rows, device=slots.device) - (counts.cumsum(0) - counts)[slots[order]]
        width = int(counts.max())
        self._members = torch.zeros(len(counts), width, dtype=torch.long, device=slots.device)
        self._members[slots[order], number] = order
        self._place = torch.empty_like(slots)
        self._place[order] = slots[order] * width + number
        self._asked_lengths, self._lengths = asked, lengths
        self._hidden_by_window: dict[int | None, Tensor | None] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        own = self._cache.append(layer, key[0].transpose(0, 1), value[0].transpose(0, 1))
        asked = self._cache.asked(layer)
        heads, kinds = query.shape[1], key.shape[1]
        rows, questions, width = self._rows, *self._members.shape
        q = (query[0].transpose(0, 1) * form.scaling).reshape(rows, kinds, heads // kinds, -1)
        by_question = q[self._members].transpose(1, 2).reshape(questions, kinds, width * (heads // kinds), -1)
        keys, values = asked.keys[:questions], asked.values[:questions]
        far = self._to_rows(by_question @ keys.transpose(2, 3), kinds)
        near = q @ own.keys[:rows, :, : self._own].transpose(2, 3)
        scores = torch.cat([far, near], dim=-1)
        scores = capped(scores, form.cap)
        if form.window not in self._hidden_by_window:  # the same in every layer
            self._hidden_by_window[form.window] = self._hidden(far.shape[-1], form.window)
        hidden = self._hidden_by_window[form.window]
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None, None], -torch.inf)
        p_far, p_near = scores.softmax(-1).split([far.shape[-1], self._own], dim=-1)
        mixed = p_far[self._members].transpose(1, 2).reshape(questions, kinds, width * (heads // kinds), -1) @ values
        result = self._to_rows(mixed, kinds) + p_near @ own.values[:rows, :, : self._own]
        return result.reshape(1, rows, heads, -1)

    def _to_rows(self, by_question: Tensor, kinds: int) -> Tensor:
        """[Q, K, g * repeats, X] -> [R, K, repeats, X]."""
        questions, width = self._members.shape
        spread = by_question.view(questions, kinds, width, -1, by_question.shape[-1]).transpose(1, 2)
        return spread.reshape(questions * width, kinds, -1, by_question.shape[-1])[self._place]

    def _hidden(self, columns: int, window: int | None) -> Tensor | None:
        """[R, columns + own], True where a row does not see; None if every row sees all."""
        asked, lengths = self._asked_lengths, self._lengths
        places = torch.arange(columns, device=asked.device)
        own_places = torch.arange(self._own, device=asked.device)
        far, near = places >= asked[:, None], own_places > lengths[:, None]
        if window is not None and columns + self._own > window:
            newest = asked + lengths  # position of the row's new token
            far = far | (newest[:, None] - places >= window)
            near = near | (lengths[:, None] - own_places >= window)
        hidden = torch.cat([far, near], dim=1)
        return hidden if bool(hidden.any()) else None


def _stacked(old: Tensor, new: Tensor) -> Tensor:
    """[Q, K, N, D] and [Q', K, N', D] -> [Q + Q', K, max(N, N'), D], zeros behind the shorter."""
    longest = max(old.shape[2], new.shape[2])
    old, new = (torch.nn.functional.pad(values, (0, 0, 0, longest - values.shape[2])) for values in (old, new))
    return torch.cat([old, new])


def _holes_filled(live: np.ndarray) -> np.ndarray:
    """Former places of the live rows in an order that moves as few as can be: the last ones go where a hole is."""
    count = int(live.sum())
    order = np.arange(count)
    order[~live[:count]] = count + np.flatnonzero(live[count:])
    return order


def _parts(questions: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    parts: list[list[tuple[int, ...]]] = []
    held = 0
    for question in questions:
        if parts and held + len(question) <= PREFILL_TOKENS:
            parts[-1].append(question)
        else:
            parts.append([question])
            held = 0
        held += len(question)
    return parts
