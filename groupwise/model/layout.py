"""How outputs lie in what a model reads: one stream without padding, each question once, or each output on its own.

Knows token ids, positions and who may attend to whom; no weights, no losses.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from groupwise.model.attention import Block
from groupwise.model.batch import Rollouts, by_question
from groupwise.model.products import rounded
from groupwise.objective.logprobs import predictors


@dataclass(frozen=True)
class Layout:
    """R rows of S tokens that hold B outputs of T tokens.

    tokens, positions: [R, S] ids and places in the conversation, [3, R, S] where a token has three; None: places 0, 1,
    2 and so on in each row. blocks: who may attend to whom in the one row of a stream; None: each row is plainly
    causal. predictors: [B, T], flat index into the rows (r * S + s) of the token whose state predicts token t of output
    b. beside: what the model is given besides, of pictures.
    """

    tokens: Tensor
    positions: Tensor | None
    blocks: tuple[Block, ...] | None
    predictors: Tensor
    beside: Mapping[str, Any] = field(default_factory=dict)

    @property
    def given(self) -> dict[str, Any]:
        """What a forward pass is given beside the ids. Positions only where they are not what any model takes for
        granted; some models take none."""
        return {**self.beside} if self.positions is None else {**self.beside, "position_ids": self.positions}


Places = Callable[[Sequence[int]], Tensor]
"""Positions of the tokens of a row: [T], or [3, T] for a model that has three for each."""


def counted(row: Sequence[int]) -> Tensor:
    return torch.arange(len(row))


def separate(rollouts: Rollouts) -> Layout:
    """One row an output, question and all, padded on the right: right for every model."""
    rows, width = rollouts.tokens.shape
    places = torch.arange(rows * width, device=rollouts.tokens.device).view(rows, width)
    # Causal attention alone keeps padding on the right from every token that counts.
    return Layout(rollouts.tokens, None, None, predictors(places))


def question_once(rollouts: Rollouts, *, fill: bool = False, places: Places | None = None) -> Layout:
    """One stream: each group's question, then its outputs, each seeing the question and itself. Nothing is padded.

    An output's positions go on from the question's end, so every token is computed as it would be on its own. fill: a
    few tokens that nobody sees go behind, so that streams have few lengths (`groupwise.model.products.rounded`).
    places: positions of whole rows; None: they are counted.
    """
    device = rollouts.tokens.device
    questions, lengths = rollouts.question_lengths.tolist(), rollouts.lengths.tolist()
    tokens, positions, blocks = [], [], []
    predicting = torch.zeros_like(rollouts.tokens)
    end = 0
    for own in by_question(rollouts):
        question = questions[own[0]]
        start, end = end, end + question
        blocks.append(Block(start, end))
        tokens.append(rollouts.tokens[own[0], :question])
        positions.append(torch.arange(question, device=device) if places is None else places(tokens[-1].tolist()))
        asked = torch.arange(start, end, device=device)
        for output in own:
            length, first = lengths[output], end
            end += length - question
            if end > first:
                blocks.append(Block(first, end, start, start + question))
            tokens.append(rollouts.tokens[output, question:length])
            if places is None:
                positions.append(torch.arange(question, length, device=device))
            else:
                positions.append(places(rollouts.tokens[output, :length].tolist())[..., question:])
            predicting[output, :question] = asked
            predicting[output, question:length] = torch.arange(first, end, device=device)
    more = rounded(end) - end if fill else 0
    if more:
        blocks.append(Block(end, end + more))
        tokens.append(rollouts.tokens.new_zeros(more))
        # no place that a model might take for a longer conversation
        positions.append(positions[0].new_zeros(*positions[0].shape[:-1], more))
    joined = torch.cat(positions, -1).unsqueeze(-2).to(device)
    return Layout(torch.cat(tokens)[None], joined, tuple(blocks), predictors(predicting))


def questions_alone(
    questions: Sequence[Sequence[int]], places: Places = counted
) -> tuple[Tensor, Tensor, tuple[Block, ...]]:
    """Questions behind each other in one stream: tokens [1, S], positions [1, S] or [3, 1, S], and each one's block."""
    blocks, end = [], 0
    for question in questions:
        blocks.append(Block(end, end + len(question)))
        end += len(question)
    tokens = torch.tensor([token for question in questions for token in question])[None]
    positions = torch.cat([places(question) for question in questions], -1).unsqueeze(-2)
    return tokens, positions, tuple(blocks)
