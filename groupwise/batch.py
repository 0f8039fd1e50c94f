"""A step's outputs as tensors: [B, T], padded on the right; every per-token tensor aligned with `tokens`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor

from groupwise.data import Group


@dataclass(frozen=True)
class Rollouts:
    """What was sampled and what it earned.

    tokens: [B, T] ids, question then output. question_lengths, lengths: [B] tokens, of the question alone and of both.
    output_mask: [B, T], True on the tokens that the policy drew. sampled_logprobs: [B, T] nats, as the sampler saw
    them; 0 elsewhere. rewards: [B] reward units, nan where there is none (failed or abstained). group: [B] index of
    the question.
    """

    tokens: Tensor
    question_lengths: Tensor
    lengths: Tensor
    output_mask: Tensor
    sampled_logprobs: Tensor
    rewards: Tensor
    group: Tensor

    @classmethod
    def of(cls, groups: Sequence[Group], device: torch.device | str = "cpu") -> "Rollouts":
        """The groups' samples, group after group."""
        outputs = [sample.output for group in groups for sample in group.samples]
        lengths = [len(output.question_tokens) + len(output.tokens) for output in outputs]
        shape = len(outputs), max(lengths)
        tokens, mask = np.zeros(shape, np.int64), np.zeros(shape, bool)
        logprobs = np.zeros(shape, np.float32)
        for row, output in enumerate(outputs):
            start, end = len(output.question_tokens), lengths[row]
            tokens[row, :start], tokens[row, start:end] = output.question_tokens, output.tokens
            mask[row, start:end], logprobs[row, start:end] = output.sampled, output.logprobs
        rewards = [float("nan") if value is None else value for group in groups for value in group.rewards]
        index = [number for number, group in enumerate(groups) for _ in group.samples]
        return cls(
            tokens=torch.from_numpy(tokens).to(device),
            question_lengths=torch.tensor([len(output.question_tokens) for output in outputs], device=device),
            lengths=torch.tensor(lengths, device=device),
            output_mask=torch.from_numpy(mask).to(device),
            sampled_logprobs=torch.from_numpy(logprobs).to(device),
            rewards=torch.tensor(rewards, dtype=torch.float32, device=device),
            group=torch.tensor(index, device=device),
        )

    def __getitem__(self, rows: Tensor) -> Self:
        """The chosen rows, cut to the longest of them."""
        width = int(self.lengths[rows].max())
        return type(self)(**{item.name: _rows(getattr(self, item.name), rows, width) for item in fields(self)})


@dataclass(frozen=True)
class Batch:
    """Rollouts with what the objective needs beside them; log-probabilities in nats, all [B, T].

    mask: tokens that count in the update (drawn by the policy, in an output that has a reward and was not left out).
    old_logprobs: pi_old of each token, None if the one update of this batch is on policy (then pi_old is pi).
    ref_logprobs: pi_ref, None without a KL term. advantages: unitless, 0 outside the mask.
    """

    rollouts: Rollouts
    mask: Tensor
    advantages: Tensor
    old_logprobs: Tensor | None
    ref_logprobs: Tensor | None

    def __len__(self) -> int:
        return len(self.rollouts.lengths)

    def __getitem__(self, rows: Tensor) -> "Batch":
        width = int(self.rollouts.lengths[rows].max())
        return Batch(
            rollouts=self.rollouts[rows],
            mask=_rows(self.mask, rows, width),
            advantages=_rows(self.advantages, rows, width),
            old_logprobs=None if self.old_logprobs is None else _rows(self.old_logprobs, rows, width),
            ref_logprobs=None if self.ref_logprobs is None else _rows(self.ref_logprobs, rows, width),
        )


def microbatches(rollouts: Rollouts, tokens: int, *, question_once: bool) -> list[Tensor]:
    """Rows [b] in pieces of at most so many tokens, padding included, pieces of like length together.

    question_once: a group's question counts once with the outputs behind it, so a group is cut only if it is too long;
    else each output counts with its question. What is longer than the limit by itself stands alone.
    """
    units: list[tuple[int, list[int]]] = []  # (length, rows)
    last = None
    groups, lengths, questions = (
        values.tolist() for values in (rollouts.group, rollouts.lengths, rollouts.question_lengths)
    )
    # Group by group, short outputs first: then two pieces of a cut group never fit together under the limit.
    for row in sorted(range(len(groups)), key=lambda row: (groups[row], lengths[row])):
        answer = lengths[row] - questions[row]
        if question_once and groups[row] == last and units[-1][0] + answer <= tokens:
            units[-1] = (units[-1][0] + answer, [*units[-1][1], row])
        else:
            units.append((lengths[row], [row]))
        last = groups[row]
    pieces: list[list[list[int]]] = []
    for length, rows in sorted(units, key=lambda unit: unit[0]):
        if pieces and (len(pieces[-1]) + 1) * length <= tokens:
            pieces[-1].append(rows)
        else:
            pieces.append([rows])
    return [torch.tensor([row for rows in piece for row in rows], device=rollouts.lengths.device) for piece in pieces]


def _rows(values: Tensor, rows: Tensor, width: int) -> Tensor:
    chosen = values[rows]
    return chosen[:, :width] if chosen.dim() == 2 else chosen
