"""How outputs lie in the rows that a model reads: each question once with its outputs behind it, or each on its own.

Knows token ids, positions and who may attend to whom; no weights, no losses.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from groupwise.batch import Rollouts
from groupwise.objective.logprobs import predictors


@dataclass(frozen=True)
class Layout:
    """R rows of S tokens that hold B outputs of T tokens.

    tokens, positions: [R, S] ids and places in the conversation. attends: [R, 1, S, S], True where the token of the
    third axis may see that of the fourth; None for plain causal attention. predictors: [B, T], flat index into the
    rows (r * S + s) of the token whose state predicts token t of output b.
    """

    tokens: Tensor
    positions: Tensor
    attends: Tensor | None
    predictors: Tensor


def separate(rollouts: Rollouts) -> Layout:
    """One row an output, question and all, padded on the right: right for every model."""
    rows, width = rollouts.tokens.shape
    places = torch.arange(rows * width, device=rollouts.tokens.device).view(rows, width)
    positions = torch.arange(width, device=rollouts.tokens.device).expand(rows, width)
    # Causal attention alone keeps padding on the right from every token that counts.
    return Layout(rollouts.tokens, positions, None, predictors(places))


def question_once(rollouts: Rollouts) -> Layout:
    """One row a group: the question, then its outputs, each seeing the question and itself.

    An output's positions go on from the question's end, so every token is computed as it would be on its own.
    """
    device = rollouts.tokens.device
    questions, lengths = rollouts.question_lengths.tolist(), rollouts.lengths.tolist()
    members: dict[int, list[int]] = {}
    for output, group in enumerate(rollouts.group.tolist()):
        members.setdefault(group, []).append(output)
    size = max(questions[own[0]] + sum(lengths[o] - questions[o] for o in own) for own in members.values())
    tokens = torch.zeros(len(members), size, dtype=torch.long, device=device)
    positions = torch.zeros_like(tokens)
    owner = torch.full_like(tokens, -1)  # 0: question, 1..: outputs, -1: padding
    places = torch.zeros_like(rollouts.tokens)
    for row, own in enumerate(members.values()):
        question = questions[own[0]]
        tokens[row, :question] = rollouts.tokens[own[0], :question]
        positions[row, :question] = torch.arange(question, device=device)
        owner[row, :question] = 0
        end = question
        for number, output in enumerate(own, start=1):
            start, end = end, end + lengths[output] - question
            tokens[row, start:end] = rollouts.tokens[output, question : lengths[output]]
            positions[row, start:end] = torch.arange(question, lengths[output], device=device)
            owner[row, start:end] = number
            places[output, :question] = row * size + torch.arange(question, device=device)
            places[output, question : lengths[output]] = row * size + torch.arange(start, end, device=device)
    seen, seeing = owner[:, None, :], owner[:, :, None]
    attends = ((seen == seeing) | (seen == 0)).tril()  # padding sees padding: a row of nothing would give nan
    return Layout(tokens, positions, attends[:, None], predictors(places))
