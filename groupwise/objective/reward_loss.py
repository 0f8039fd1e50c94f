"""Losses of a reward model: Bradley-Terry on pairs, cross-entropy on steps. Pure functions of scores; nats."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bradley_terry(chosen: Tensor, rejected: Tensor, margin: Tensor) -> Tensor:
    """-log sigmoid(r_chosen - r_rejected - m): the preferred answer is likelier to win (arXiv:2203.02155, equation 1).

    chosen, rejected: [P], rewards of the two answers of each pair. margin: [P], by how much the first is to be ahead
    (arXiv:2307.09288, equation 2), 0 without one. Returns [P] nats.
    """
    return -F.logsigmoid(chosen - rejected - margin)


def centring(chosen: Tensor, rejected: Tensor) -> Tensor:
    """(r_chosen + r_rejected)^2, which holds rewards around 0 (arXiv:2312.09244, section 3); a pair's loss does not.

    [P] twice; returns [P], reward units squared.
    """
    return (chosen + rejected).square()


def two_classes(logits: Tensor) -> Tensor:
    """[N, 2] log-probabilities of a wrong and a right step. logits: [N, 2], or [N, 1] of a right one beside 0."""
    both = torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits
    return both.log_softmax(-1)


def step_cross_entropy(logits: Tensor, right: Tensor) -> Tensor:
    """-log p(what was said of the step) (process reward model; arXiv:2305.20050, section 2.4).

    logits: [N, 2] or [N, 1], at the last token of each step. right: [N], True or False. Returns [N] nats.
    """
    return -two_classes(logits).gather(1, right.long()[:, None])[:, 0]
