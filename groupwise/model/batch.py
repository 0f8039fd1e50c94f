"""A step's outputs as tensors: [B, T], padded on the right; every per-token tensor aligned with `tokens`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from groupwise.data import Group, Reward, Sample


@dataclass(frozen=True)
class Rollouts:
    """What was sampled and what it earned.

    tokens: [B, T] ids, question then output. question_lengths, lengths: [B] tokens, of the question alone and of both.
    output_mask: [B, T], True on the tokens that the policy drew. sampled_logprobs: [B, T] nats, as the sampler saw
    them; 0 elsewhere. rewards: [B] reward units, nan where there is none (failed or abstained). group: [B] index of
    the question. reward_parts: [B, K], what each reward function said, before its weight, nan where it said nothing.
    step_rewards: [B, T], the reward of the step that ends at a token, nan elsewhere; None: no function speaks of steps.
    """

    tokens: Tensor
    question_lengths: Tensor
    lengths: Tensor
    output_mask: Tensor
    sampled_logprobs: Tensor
    rewards: Tensor
    group: Tensor
    reward_parts: Tensor | None = None
    step_rewards: Tensor | None = None

    @classmethod
    def of(
        cls, groups: Sequence[Group], device: torch.device | str = "cpu", *, labels: Sequence[str] = ()
    ) -> "Rollouts":
        """The groups' samples, group after group. labels: K names of reward functions, the columns of reward_parts."""
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
        samples = [sample for group in groups for sample in group.samples]
        parts = [[_value(sample.reward, label) for label in labels] for sample in samples]
        return cls(
            tokens=torch.from_numpy(tokens).to(device),
            question_lengths=torch.tensor([len(output.question_tokens) for output in outputs], device=device),
            lengths=torch.tensor(lengths, device=device),
            output_mask=torch.from_numpy(mask).to(device),
            sampled_logprobs=torch.from_numpy(logprobs).to(device),
            rewards=torch.tensor(rewards, dtype=torch.float32, device=device),
            group=torch.tensor(index, device=device),
            reward_parts=torch.tensor(parts, dtype=torch.float32, device=device).view(len(samples), len(labels)),
            step_rewards=_step_rewards(samples, shape, device),
        )

    @classmethod
    def of_rows(
        cls,
        rows: Sequence[Sequence[int]],
        *,
        masks: Sequence[Sequence[bool]] | None = None,
        question_lengths: Sequence[int],
        group: Sequence[int],
        device: torch.device | str = "cpu",
        behind: int = 0,
    ) -> "Rollouts":
        """Token ids that no policy drew, without rewards. masks: of each row's `output_mask`; None: nowhere True.

        behind: columns behind the longest row."""
        lengths = [len(row) for row in rows]
        tokens = np.zeros((len(rows), max(lengths) + behind), np.int64)
        mask = np.zeros(tokens.shape, bool)
        for number, row in enumerate(rows):
            tokens[number, : lengths[number]] = row
            if masks is not None:
                mask[number, : lengths[number]] = masks[number]
        return cls(
            tokens=torch.from_numpy(tokens).to(device),
            question_lengths=torch.tensor(question_lengths, device=device),
            lengths=torch.tensor(lengths, device=device),
            output_mask=torch.from_numpy(mask).to(device),
            sampled_logprobs=torch.zeros(tokens.shape, device=device),
            rewards=torch.zeros(len(rows), device=device),
            group=torch.tensor(group, device=device),
        )

    def __getitem__(self, rows: Tensor) -> Self:
        """The chosen rows, cut to the longest of them."""
        return type(self)(**_chosen(self, rows, int(self.lengths[rows].max())))


@dataclass(frozen=True)
class Batch:
    """Rollouts with what the objective needs beside them; log-probabilities in nats, all [B, T].

    mask: tokens that count in the update (drawn by the policy, in an output that was not left out and has a reward,
    where rewards are learned from).
    old_logprobs: pi_old of each token, None if the one update of this batch is on policy (then pi_old is pi).
    ref_logprobs: pi_ref, None without a KL term. advantages: 0 outside the mask. values, returns: the critic's when
    sampling and what it is to learn, reward units, None without a critic.
    """

    rollouts: Rollouts
    mask: Tensor
    advantages: Tensor
    old_logprobs: Tensor | None
    ref_logprobs: Tensor | None
    values: Tensor | None = None
    returns: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rollouts.lengths)

    def __getitem__(self, rows: Tensor) -> "Batch":
        return Batch(**_chosen(self, rows, int(self.rollouts.lengths[rows].max())))


def microbatches(rollouts: Rollouts, tokens: int, *, question_once: bool) -> list[Tensor]:
    """Rows [b] in pieces of at most so many tokens; what is longer than that by itself stands alone.

    question_once: a stream without padding, in which a group's question counts once with the outputs behind it, so a
    group is cut only if it is too long. Else each output counts with its question and is padded to the longest of its
    piece, so pieces are of like length.
    """
    pieces = _streams(rollouts, tokens) if question_once else _padded(rollouts, tokens)
    return [torch.tensor(piece, device=rollouts.lengths.device) for piece in pieces]


def whole_groups(rollouts: Rollouts, tokens: int, *, question_once: bool) -> list[Tensor]:
    """As `microbatches`, but no group is ever cut: for a loss that mixes the outputs of a group."""
    lengths, questions = rollouts.lengths.tolist(), rollouts.question_lengths.tolist()
    groups = list(_members(rollouts).values())
    if not question_once:
        groups.sort(key=lambda rows: max(lengths[row] for row in rows))
    pieces: list[list[int]] = []
    held = 0
    for rows in groups:
        if question_once:
            length = questions[rows[0]] + sum(lengths[row] - questions[row] for row in rows)
            fits = held + length <= tokens
        else:  # the longest so far is in this group
            length = max(lengths[row] for row in rows)
            fits = bool(pieces) and (len(pieces[-1]) + len(rows)) * length <= tokens
        if pieces and fits:
            pieces[-1] += rows
        else:
            pieces.append(list(rows))
            held = 0
        held += length
    return [torch.tensor(piece, device=rollouts.lengths.device) for piece in pieces]


def _members(rollouts: Rollouts) -> dict[int, list[int]]:
    """Rows of each group, groups and rows in their order."""
    members: dict[int, list[int]] = {}
    for row, group in enumerate(rollouts.group.tolist()):
        members.setdefault(group, []).append(row)
    return members


def by_question(rollouts: Rollouts) -> list[list[int]]:
    """Rows of each group that begin with the same question. An agent may ask more than one thing in an episode."""
    found: list[list[int]] = []
    lengths = rollouts.question_lengths.tolist()
    for rows in _members(rollouts).values():
        first = rollouts.tokens[rows[0], : lengths[rows[0]]]
        if all(lengths[row] == len(first) for row in rows) and bool(
            (rollouts.tokens[rows, : len(first)] == first).all()
        ):
            found.append(rows)
            continue
        apart: dict[tuple[int, ...], list[int]] = {}
        for row in rows:
            apart.setdefault(tuple(rollouts.tokens[row, : lengths[row]].tolist()), []).append(row)
        found += apart.values()
    return found


def _padded(rollouts: Rollouts, tokens: int) -> list[list[int]]:
    pieces: list[list[int]] = []
    lengths = rollouts.lengths.tolist()
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if pieces and (len(pieces[-1]) + 1) * lengths[row] <= tokens:
            pieces[-1].append(row)
        else:
            pieces.append([row])
    return pieces


def _streams(rollouts: Rollouts, tokens: int) -> list[list[int]]:
    units = _units(rollouts, tokens)
    parts = _parts({number: length for number, (length, _) in enumerate(units)}, tokens)
    return [[row for number in part for row in units[number][1]] for part in parts]


def _units(rollouts: Rollouts, tokens: int) -> list[tuple[int, list[int]]]:
    """(tokens in a stream, rows) of each group, or of its parts where it is longer than the limit."""
    lengths, questions = rollouts.lengths.tolist(), rollouts.question_lengths.tolist()
    units = []
    for rows in by_question(rollouts):
        question = questions[rows[0]]
        answers = {row: lengths[row] - question for row in rows}
        units += [(question + sum(answers[row] for row in part), part) for part in _parts(answers, tokens - question)]
    return units


def _parts(lengths: dict[int, int], room: int) -> list[list[int]]:
    """What has these lengths, in as few parts of at most `room` tokens as can be and of like length, since the largest
    one sets the peak of memory; what is longer by itself stands alone."""
    alone = [[name] for name, length in lengths.items() if length > room]
    fitting = sorted((name for name, length in lengths.items() if length <= room), key=lambda name: -lengths[name])
    count = max(min(1, len(fitting)), -(-sum(lengths[name] for name in fitting) // max(1, room)))
    while True:
        parts: list[list[int]] = [[] for _ in range(count)]
        held = [0] * count
        for name in fitting:  # the longest first, each to the shortest part
            part = held.index(min(held))
            parts[part].append(name)
            held[part] += lengths[name]
        if all(tokens <= room for tokens in held):
            return alone + [sorted(part) for part in parts]
        count += 1


def _chosen(held: Rollouts | Batch, rows: Tensor, width: int) -> dict[str, Any]:
    """The fields of some rows, those that are about tokens cut to so many columns."""
    chosen: dict[str, Any] = {}
    for item in fields(held):
        value = getattr(held, item.name)
        chosen[item.name] = None if value is None else value[rows]
        if item.name in PER_TOKEN and value is not None:
            chosen[item.name] = chosen[item.name][:, :width]
    return chosen


PER_TOKEN = {
    *("tokens", "output_mask", "sampled_logprobs", "step_rewards"),
    *("mask", "advantages", "old_logprobs", "ref_logprobs", "values", "returns"),
}
"""Fields of shape [B, T]."""


def _value(reward: Reward, label: str) -> float:
    part = reward.parts.get(label)
    return float("nan") if part is None or part.value is None else part.value


def _step_rewards(samples: Sequence[Sample], shape: tuple[int, int], device: torch.device | str) -> Tensor | None:
    if all(sample.reward.steps is None for sample in samples):
        return None
    values = np.full(shape, np.nan, np.float32)
    for row, sample in enumerate(samples):
        for token, value in sample.reward.steps or ():
            values[row, len(sample.output.question_tokens) + token] = value
    return torch.from_numpy(values).to(device)
