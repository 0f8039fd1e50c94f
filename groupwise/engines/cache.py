"""Keys and values while sampling: a question's once for all its outputs, each output's own in memory taken before.

Rows are outputs on their way. They may leave and enter at any step; their order is the cache's own.
"""

from collections.abc import Container, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from groupwise.engines.prefill import Continuation, Pair, Prefill
from groupwise.model.attention import Block, Form, capped
from groupwise.model.last_layer import wide_product
from groupwise.model.layout import questions_alone
from groupwise.model.policy import Policy

PREFILL_TOKENS = 8192  # of questions in one pass
FIRST_TOKENS = 64  # room for an output at first; doubled when it is used up


class SharedCache:
    """The cache of a sampling run whose attention is ours."""

    enters_any_time = True
    of_one_length = False

    def __init__(self, policy: Policy, *, tokens: int, kept: Container[tuple[int, ...]] = ()) -> None:
        """tokens: of an output at most; kept: questions that stay when they have no rows."""
        self._policy, self._kept = policy, kept
        self._tokens = self._drawn = tokens  # of a row at most, and of those the drawn ones
        self._questions: list[tuple[int, ...]] = []  # of each slot
        self._last_states = torch.zeros(0)  # [Q, D], that predict a first token
        self.slots = torch.zeros(0, dtype=torch.long, device=policy.device)  # [R], the question of each row
        self.lengths = torch.zeros(0, dtype=torch.long, device=policy.device)  # [R], own tokens in the cache
        # [R], by how much a row's next position is ahead of its tokens; pictures alone set positions apart
        self._ahead = torch.zeros_like(self.lengths)
        self.asked: dict[int, Pair] = {}  # layer -> [Q, K, N, D]
        self.forms: dict[int, Form] = {}  # layer -> how it attends, known from its first question
        self._own: dict[int, Pair] = {}  # layer -> [rows, K, T, D]

    @torch.inference_mode()
    def enter(self, questions: Sequence[tuple[int, ...]], before: Sequence[tuple[int, ...]]) -> Tensor:
        """Takes in a row for each question given, behind those there; logits [n, V] of their next tokens.

        before: of each row the tokens after its question that are there already, computed in one pass.
        """
        known = set(self._questions)
        new = [question for question in dict.fromkeys(questions) if question not in known]
        for part in _parts(range(len(new)), [len(question) for question in new]):
            self._prefill([new[number] for number in part])
        slot = {question: number for number, question in enumerate(self._questions)}
        slots = torch.tensor([slot[question] for question in questions], device=self._policy.device)
        self.slots = torch.cat([self.slots, slots])
        self.lengths = torch.cat([self.lengths, torch.zeros_like(slots)])
        self._ahead = torch.cat([self._ahead, self._positions_ahead(questions, before).to(slots)])
        distinct, place = slots.unique(return_inverse=True)
        with self._policy.autocast():
            logits = self._policy.head(self._last_states[distinct])[place]
        self._tokens = max(self._tokens, self._drawn + max(map(len, before)))
        begun = [row for row, tokens in enumerate(before) if tokens]
        for part in _parts(begun, [len(tokens) for tokens in before]):
            logits[part] = self._continue(
                [len(self.slots) - len(slots) + row for row in part], [before[r] for r in part]
            )
        return logits

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> Tensor:
        """Logits [R, V] of the tokens that follow these [R], the newest of each row."""
        asked = self._question_lengths()[self.slots]
        plan = _Turn(self, asked)
        with self._policy.autocast():
            states = self._policy.stream_states(tokens[None], self.positions(asked)[None], plan)
            self.lengths = self.lengths + 1
            return self._policy.head(states[0])

    @torch.inference_mode()
    def keep(self, live: np.ndarray) -> np.ndarray:
        """Lets go of the rows that are not live [R]; the former places of those that stay, in their new order."""
        order = _holes_filled(live)
        moved = np.flatnonzero(order != np.arange(len(order)))
        if len(moved):
            longest = int(self.lengths.max())
            for pair in self._own.values():
                there = order[moved] < len(pair.keys)  # rows that have entered since the last token have none
                places = (moved[there], order[moved][there])
                to, source = (torch.from_numpy(rows).to(self._policy.device) for rows in places)
                for values in (pair.keys, pair.values):
                    values[to, :, :longest] = values[source, :, :longest]
        chosen = torch.from_numpy(order).to(self._policy.device)
        self.slots, self.lengths, self._ahead = self.slots[chosen], self.lengths[chosen], self._ahead[chosen]
        self._forget_questions()
        return order

    def positions(self, asked: Tensor) -> Tensor:
        """Of each row's newest token [R]. asked: [R], tokens of its question."""
        places = asked + self.lengths
        return places if self._policy.sight is None else places + self._ahead

    def _positions_ahead(self, questions: Sequence[tuple[int, ...]], before: Sequence[tuple[int, ...]]) -> Tensor:
        if self._policy.sight is None:
            return torch.zeros(len(questions), dtype=torch.long)
        rows = [question + own for question, own in zip(questions, before, strict=True)]
        ahead = {row: int(self._policy.places(row).max()) + 1 - len(row) for row in dict.fromkeys(rows)}
        return torch.tensor([ahead[row] for row in rows])

    def _forget_questions(self) -> None:
        """Lets go of questions without rows, once they are half of those here."""
        used = torch.tensor([question in self._kept for question in self._questions], dtype=torch.bool)
        used[self.slots.cpu()] = True
        if 2 * int(used.sum()) > len(used):
            return
        kept = used.nonzero()[:, 0]
        self._questions = [self._questions[slot] for slot in kept.tolist()]
        chosen = kept.to(self._policy.device)
        self._last_states = self._last_states[chosen]
        for pair in self.asked.values():
            pair.keys, pair.values = pair.keys[chosen], pair.values[chosen]
        place = torch.full((len(used),), -1, dtype=torch.long)
        place[kept] = torch.arange(len(kept))
        self.slots = place.to(self._policy.device)[self.slots]

    def _prefill(self, questions: list[tuple[int, ...]]) -> None:
        """Computes questions that are new here; their keys, values and last states are kept."""
        tokens, positions, blocks = questions_alone(questions, self._policy.places)
        plan = Prefill(blocks, self._policy.runs(tokens[0]))
        device = self._policy.device
        with self._policy.autocast():
            states = self._policy.stream_states(tokens.to(device), positions.to(device), plan)[0]
        self.forms = plan.forms
        last = states[[block.end - 1 for block in blocks]]
        self._last_states = torch.cat([self._last_states, last]) if self._questions else last
        self._questions += questions
        for layer, pair in plan.found.items():
            self._add_questions(layer, pair, blocks)

    def _add_questions(self, layer: int, found: Pair, blocks: Sequence[Block]) -> None:
        """found: [K, S, D], behind each other in the stream."""
        longest = max(block.end - block.start for block in blocks)
        parts = []
        for values in (found.keys, found.values):
            padded = values.new_zeros(len(blocks), values.shape[0], longest, values.shape[2])
            for slot, block in enumerate(blocks):
                padded[slot, :, : block.end - block.start] = values[:, block.start : block.end]
            parts.append(padded)
        held = self.asked.get(layer)
        if held is None:
            self.asked[layer] = Pair(*parts)
        else:
            held.keys, held.values = (
                _stacked(old, new) for old, new in zip((held.keys, held.values), parts, strict=True)
            )

    def _question_lengths(self) -> Tensor:
        return torch.tensor([len(question) for question in self._questions], device=self._policy.device)

    def append(self, layer: int, keys: Tensor, values: Tensor, *, columns: int, level: bool) -> Pair:
        """Keeps the rows' newest keys and values [R, K, D]; all of the layer's own, with room for so many columns.

        level: every row has the same number of own tokens, so the newest ones are one column.
        """
        held = self._roomy(layer, keys, values, columns)
        rows = slice(len(keys)) if level else torch.arange(len(keys), device=keys.device)
        column = columns - 1 if level else self.lengths
        held.keys[rows, :, column] = keys
        held.values[rows, :, column] = values
        return held

    def _roomy(self, layer: int, keys: Tensor, values: Tensor, columns: int) -> Pair:
        """The layer's own keys and values, with space for all rows and so many columns.

        keys, values: [R, K, D], of the layer's K and D.
        """
        held = self._own.get(layer)
        rows, size = (0, 0) if held is None else (held.keys.shape[0], held.keys.shape[2])
        if held is not None and columns <= size and len(self.slots) <= rows:
            return held
        if columns > size:
            size = min(max(FIRST_TOKENS, 2 * size, columns), max(self._tokens, columns))
        rows = max(rows, len(self.slots))
        grown = Pair(*(v.new_zeros(rows, v.shape[1], size, v.shape[2]) for v in (keys, values)))
        if held is not None:
            grown.keys[: len(held.keys), :, : held.keys.shape[2]] = held.keys
            grown.values[: len(held.keys), :, : held.keys.shape[2]] = held.values
        self._own[layer] = grown
        return grown

    def _continue(self, rows: list[int], before: list[tuple[int, ...]]) -> Tensor:
        """Computes tokens after the questions of rows that have none of their own yet; logits [n, V] behind them."""
        asked = [len(self._questions[slot]) for slot in self.slots[rows].tolist()]
        tokens, _, blocks = questions_alone(before)
        slots = self.slots[rows].tolist()
        whole = [self._questions[slot] + own for slot, own in zip(slots, before, strict=True)]
        positions = torch.cat([self._policy.places(row)[..., n:] for n, row in zip(asked, whole, strict=True)], -1)
        seen = [(self.asked, slot, n) for slot, n in zip(slots, asked, strict=True)]
        plan = Continuation(blocks, seen, self._policy.runs(tokens[0]))
        device = self._policy.device
        with self._policy.autocast():
            states = self._policy.stream_states(tokens.to(device), positions.unsqueeze(-2).to(device), plan)[0]
            logits = self._policy.head(states[[block.end - 1 for block in blocks]])
        longest = max(map(len, before))
        for layer, found in plan.found.items():
            held = self._roomy(layer, found.keys.transpose(0, 1), found.values.transpose(0, 1), longest)
            for row, block in zip(rows, blocks, strict=True):
                held.keys[row, :, : block.end - block.start] = found.keys[:, block.start : block.end]
                held.values[row, :, : block.end - block.start] = found.values[:, block.start : block.end]
        self.lengths[rows] = torch.tensor([len(own) for own in before], device=self.lengths.device)
        return logits


class _Turn:
    """One new token of each row. Its scores against the question are one product for all rows of that question, those
    against its own tokens a product of its own; the two softmaxes are joined by their largest scores and their sums."""

    def __init__(self, cache: SharedCache, asked: Tensor) -> None:
        self._cache, self._asked_lengths = cache, asked
        slots, lengths = cache.slots, cache.lengths
        self._rows, self._own = len(slots), int(lengths.max()) + 1
        self._level = bool((lengths == lengths[0]).all())
        # members [Q, g]: the rows of each question, filled up with row 0; place [R]: where a row stands in it.
        counts = torch.bincount(slots)
        order = torch.argsort(slots, stable=True)
        number = torch.arange(self._rows, device=slots.device) - (counts.cumsum(0) - counts)[slots[order]]
        width = int(counts.max())
        self._members = torch.zeros(len(counts), width, dtype=torch.long, device=slots.device)
        self._members[slots[order], number] = order
        self._place = torch.empty_like(slots)
        self._place[order] = slots[order] * width + number
        in_order = torch.arange(self._rows, device=slots.device)
        self._in_order = len(counts) * width == self._rows and bool((self._place == in_order).all())
        self._hidden: dict[tuple[int | None, int, int], tuple[Tensor | None, Tensor | None]] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        newest = key[0].transpose(0, 1), value[0].transpose(0, 1)
        own = self._cache.append(layer, *newest, columns=self._own, level=self._level)
        asked = self._cache.asked[layer]
        rows, heads, kinds, repeats = self._rows, query.shape[1], key.shape[1], query.shape[1] // key.shape[1]
        questions = len(self._members)
        hidden_far, hidden_near = self._unseen(asked.keys.shape[2], form.window, kinds, repeats)
        q = (query[0].transpose(0, 1) * form.scaling).reshape(rows, kinds, repeats, -1)
        # flatten: matmul() of four dimensions copies the cache, bmm() of three reads it where it is
        far = _Softmax(
            self._by_question(q, kinds, repeats),
            asked.keys[:questions].flatten(0, 1),
            asked.values[:questions].flatten(0, 1),
            form.cap,
            hidden_far,
        )
        near = _Softmax(
            q.flatten(0, 1),
            own.keys[:rows, :, : self._own].flatten(0, 1),
            own.values[:rows, :, : self._own].flatten(0, 1),
            form.cap,
            hidden_near,
        )
        by_row = self._to_rows(torch.cat([far.mixed, far.top, far.total], -1), kinds, repeats)
        mixed, top, total = by_row.split([far.mixed.shape[-1], 1, 1], -1)
        highest = torch.maximum(top, near.top)
        share, near_share = (top - highest).exp_(), (near.top - highest).exp_()
        result = (mixed * share + near.mixed * near_share) / (total * share + near.total * near_share)
        return result.view(1, rows, heads, -1).to(query.dtype)

    def _by_question(self, q: Tensor, kinds: int, repeats: int) -> Tensor:
        """[R, K, repeats, D] -> [Q K, g repeats, D]."""
        questions, width = self._members.shape
        gathered = q.view(questions, width, kinds, repeats, -1) if self._in_order else q[self._members]
        return gathered.transpose(1, 2).reshape(questions * kinds, width * repeats, -1)

    def _to_rows(self, by_question: Tensor, kinds: int, repeats: int) -> Tensor:
        """[Q K, g repeats, X] -> [R K, repeats, X]."""
        questions, width = self._members.shape
        spread = by_question.view(questions, kinds, width, repeats, -1).transpose(1, 2)
        spread = spread.reshape(questions * width, kinds, repeats, -1)
        return (spread if self._in_order else spread[self._place]).flatten(0, 1)

    def _unseen(
        self, columns: int, window: int | None, kinds: int, repeats: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """[Q K, g repeats, columns] of the question and [R K, 1, own], True where a row does not see; None if every row
        sees all. Made once a decode step, since layers are alike."""
        known = (window, kinds, repeats)
        if known not in self._hidden:
            asked, lengths = self._asked_lengths[:, None], self._cache.lengths[:, None]
            places = torch.arange(columns, device=asked.device)
            own_places = torch.arange(self._own, device=asked.device)
            far, near = places >= asked, own_places > lengths
            if window is not None:  # the row's new token stands at asked + lengths
                far = far | (asked + lengths - places >= window)
                near = near | (lengths - own_places >= window)
            self._hidden[known] = (
                far[self._members].repeat_interleave(kinds, 0).repeat_interleave(repeats, 1) if far.any() else None,
                near.repeat_interleave(kinds, 0)[:, None] if near.any() else None,
            )
        return self._hidden[known]


class _Softmax:
    """Scores of queries [n, m, D] against keys [n, X, D] as a softmax not yet divided by its sum, in fp32 at least.

    top, total: [n, m, 1], the largest score and the sum of exp(score - top). mixed: [n, m, D], those times the values.
    hidden: [n, m or 1, X], True where nothing is seen; where all is hidden, total is 0.
    """

    def __init__(self, query: Tensor, keys: Tensor, values: Tensor, cap: float | None, hidden: Tensor | None) -> None:
        scores = capped(_product(query, keys.transpose(1, 2)), cap)
        if hidden is not None:
            scores.masked_fill_(hidden, -torch.inf)
        self.top = scores.amax(-1, keepdim=True).clamp_(min=torch.finfo(scores.dtype).min)
        weights = scores.sub_(self.top).exp_()
        self.total = weights.sum(-1, keepdim=True)
        self.mixed = _product(weights, values)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b of batches, in fp32 at least: where autocast makes products bf16, its factors are."""
    if not torch.is_autocast_enabled(a.device.type):
        return torch.bmm(a, b)
    narrow = torch.get_autocast_dtype(a.device.type)
    return wide_product(a.to(narrow), b.to(narrow))


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


def _parts(chosen: Iterable[int], lengths: Sequence[int]) -> list[list[int]]:
    """Those chosen, in their order, in parts of at most PREFILL_TOKENS; what is longer by itself stands alone."""
    parts: list[list[int]] = []
    held = 0
    for number in chosen:
        if parts and held + lengths[number] <= PREFILL_TOKENS:
            parts[-1].append(number)
        else:
            parts.append([number])
            held = 0
        held += lengths[number]
    return parts
