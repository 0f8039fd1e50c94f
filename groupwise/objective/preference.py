"""Losses of preferences: pairs of outputs, or outputs liked and disliked. Knows log-probabilities of whole outputs.

A loss is a function of what its parameters name (INPUTS), a setting of the recipe's `preference` among them. One that
names a side of a pair learns from pairs, any other from single outputs; one that does not name a setting does not read
it, and a recipe that sets it is refused. The implicit reward of an output is beta h, with h the log-ratio below.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from groupwise.objective.surrogate import reads

PreferenceLoss = Callable[..., Tensor]

_SIDES = {
    "chosen": "[P] h of the chosen outputs",
    "rejected": "[P] h of the rejected ones",
    "chosen_mean": "[P] h of the chosen outputs, divided by their tokens",
    "rejected_mean": "[P] h of the rejected ones, divided by their tokens",
}
INPUTS = {
    **_SIDES,
    "log_ratios": "[N] h of each output: sum over its tokens of log pi - log pi_ref, nats",
    "liked": "[N] True for an output that was liked",
    "reference_point": "z0, nats: how far the policy has gone from the reference on any output (`reference_point`)",
    "beta": "preference.beta",
    "label_smoothing": "preference.label_smoothing",
    "desirable_weight": "preference.desirable_weight",
    "undesirable_weight": "preference.undesirable_weight",
}
"""What a loss may name among its parameters."""


def dpo(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float) -> Tensor:
    """DPO (arXiv:2305.18290, equation 7), cautious with smoothing: -(1-s) log sigmoid(m) - s log sigmoid(-m).

    m = beta (h_chosen - h_rejected), with h = sum_t log pi - log pi_ref of an output; s: the share of pairs that may be
    labelled the wrong way round (Mitchell's note on conservative DPO, 2023); 0 is the paper's loss.
    chosen, rejected: [P] nats. Returns [P] nats; log 2 for a policy that is the reference.
    Settings: beta 0.1, learning rate 1e-6, the paper's. Pitfall: only the difference counts, so both
    log-probabilities may fall, and as a rule do; watch `logprobs/chosen`. Without smoothing nothing ends the growth of
    m on pairs that are already told apart.
    """
    margin = beta * (chosen - rejected)
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)


def ipo(chosen_mean: Tensor, rejected_mean: Tensor, beta: float) -> Tensor:
    """IPO (arXiv:2310.12036, equation 17): (h_chosen / |chosen| - h_rejected / |rejected| - 1 / (2 beta))^2.

    The loss is least at a margin of 1 / (2 beta) and not at an infinite one, also for pairs that are always labelled
    alike. chosen_mean, rejected_mean: [P], log-ratios averaged over the tokens of each output, nats a token; beta: the
    paper's tau. Returns [P], squared nats. Averaged, as in TRL, whose authors have it from the paper's: the margin
    aimed at is a constant, so with sums a long output would reach it by a tiny change of each token.
    Settings: beta 0.1 aims at a margin of 5 nats a token, which is much; a larger beta aims at less. Pitfall: the loss
    starts at 1 / (4 beta^2), 25 with beta 0.1, and its gradient is as large: compare it with no other loss.
    """
    return (chosen_mean - rejected_mean - 1 / (2 * beta)).square()


def kto(
    log_ratios: Tensor,
    liked: Tensor,
    reference_point: Tensor,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> Tensor:
    """KTO (arXiv:2402.01306, section 4): w (1 - sigmoid(beta (h - z0))), with -beta for an output that was disliked.

    log_ratios: [N] nats; liked: [N]; reference_point: z0, a scalar, nats, held constant in the gradient; w: the weight
    of its kind, unitless. Returns [N], from 0 to w.
    Settings: beta 0.1; weights such that weight times number of the liked is 1 to 4/3 of that of the disliked, the
    paper's advice. Pitfall: z0 is estimated from a step's outputs, so a small step has a noisy one; and an output
    far on its own side, or far on the wrong one, has hardly any gradient.
    """
    gain = torch.where(liked, log_ratios - reference_point, reference_point - log_ratios)
    # Two numbers would make a tensor of fp32, whatever the log-ratios are.
    wanted, unwanted = log_ratios.new_tensor([desirable_weight, undesirable_weight])
    weight = torch.where(liked, wanted, unwanted)
    return weight * (1 - torch.sigmoid(beta * gain))


def reference_point(log_ratios: Tensor) -> Tensor:
    """z0 of KTO (arXiv:2402.01306, section 4.1): max(0, mean h) over outputs behind questions that are not theirs.

    log_ratios: [N] nats, of output i - 1 behind question i. Returns a scalar without gradient, nats. An estimate of
    KL(pi || pi_ref), too small as a rule since the outputs are not the policy's own.
    """
    return log_ratios.detach().mean().clamp(min=0)


def of_pairs(loss: PreferenceLoss) -> bool:
    """True if a loss learns from pairs, False if from single outputs."""
    return any(name in _SIDES for name in reads(loss))


def agreement(margins: Tensor) -> Tensor:
    """1 where a margin is above 0, the side that was judged better; 0 where below, 0.5 where it is 0. [n] to [n]."""
    return 0.5 * (margins.sign() + 1)
