"""Advantages of single tokens: process supervision, the critic's, a teacher's. Knows rewards per token; no policy.

Entry t of each [B, T] is about token t. A token outside the mask (a tool's words between two turns) is passed over:
what follows it belongs to the last token before it that the policy drew.
"""

import torch
from torch import Tensor

from groupwise.errors import DataError
from groupwise.objective.advantage import EPSILON


def process_supervision(step_rewards: Tensor, group: Tensor, mask: Tensor) -> Tensor:
    """Advantage of a token from the rewards of the steps that end at or after it (DeepSeekMath 4.1.3).

    A_t = sum_(j: end(j) >= t) (r_j - mean R) / (std R + EPSILON), R: the rewards of all steps of all outputs of the
    group. step_rewards: [B, T], reward units, at the last token of each step, nan elsewhere; group: [B]; mask: [B, T].
    Returns [B, T], unitless, 0 outside the mask and where all step rewards of the group are equal. Sample std (n - 1).
    Raises DataError if a reward is infinite.
    Settings: as for group_relative. Pitfall: an output of many good steps earns more at its first token than one of a
    few, so where steps are rewarded above the mean, outputs grow longer.
    """
    if bool(step_rewards.isinf().any()):
        raise DataError("a step's reward is infinite", hint="a reward is a finite number, or none")
    ends = ~step_rewards.isnan() & mask
    normalised = torch.zeros(step_rewards.shape, dtype=torch.float64)
    rewards, given = step_rewards.double().cpu(), ends.cpu()  # few numbers; and Apple's GPU has no float64
    for index in group.unique():
        steps = given & (group == index).cpu()[:, None]
        present = rewards[steps]
        if len(present) >= 2 and bool(present.min() < present.max()):
            normalised[steps] = (present - present.mean()) / (present.std() + EPSILON)
    dtype = torch.promote_types(step_rewards.dtype, torch.float32)
    return torch.where(mask, _sum_from_here(normalised).to(dtype).to(mask.device), 0.0)


def return_normalised(token_rewards: Tensor, mask: Tensor) -> Tensor:
    """The return from each token on, normalised over the batch's tokens (REINFORCE++, arXiv:2501.03262, eq. 4, 5).

    G_t = sum_(s >= t) r_s, A_t = (G_t - mean G) / (std G + EPSILON). token_rewards: [B, T], reward units, as
    `token_rewards` gives them: the output's reward at its last token and, with the KL in the reward, -beta k_s at each.
    mask: [B, T]. Returns [B, T], unitless; 0 outside the mask and where all returns are equal. Sample std over tokens.
    For large batches. Pitfall: the baseline knows no question, and a long output weighs more in mean and std.
    """
    return whitened(_sum_from_here(torch.where(mask, token_rewards, 0.0)), mask)


def gae(token_rewards: Tensor, values: Tensor, mask: Tensor, discount: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimation (arXiv:1506.02438, equation 16), with the critic that stood when sampling.

    delta_t = r_t + discount V(s_(t+1)) - V(s_t), A_t = delta_t + discount lambda A_(t+1), V after the last token 0.
    token_rewards, values: [B, T], reward units, values[t] = V of the state in which token t was drawn; mask: [B, T].
    Returns [B, T], reward units; 0 outside the mask, whose tokens are passed over: s_(t+1) is the state of the next
    token that the policy drew. A + V is the lambda-return, the critic's target.
    Settings: discount 1 for outputs that are rewarded at their end, lambda 0.95. lambda 0 is the one-step error (all of
    the critic's bias), lambda 1 the return less V (none of it, all the variance). Pitfall: a critic that has not
    learned yet is a wrong baseline, and with lambda below 1 a wrong target too: warm it up.
    """
    advantages = torch.zeros_like(values)
    following, value_after = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        drawn = mask[:, t]
        delta = token_rewards[:, t] + discount * value_after - values[:, t]
        following = torch.where(drawn, delta + discount * gae_lambda * following, following)
        value_after = torch.where(drawn, values[:, t], value_after)
        advantages[:, t] = torch.where(drawn, following, 0.0)
    return advantages


def gae_whitened(token_rewards: Tensor, values: Tensor, mask: Tensor, discount: float, gae_lambda: float) -> Tensor:
    """`gae`, normalised over the batch's tokens: (A_t - mean A) / (std A + EPSILON), as PPO's code (arXiv:1707.06347).

    Arguments as in gae. Returns [B, T], unitless; 0 outside the mask. Pitfall: where the critic is right and nothing
    is left to learn, what noise remains is blown up to size 1.
    """
    return whitened(gae(token_rewards, values, mask, discount, gae_lambda), mask)


def teacher_gap(teacher_logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> Tensor:
    """How much likelier the teacher holds each token: A_t = log pi_teacher - log pi_old (on-policy distillation).

    Its policy gradient is the descent of the reverse KL(pi || teacher) token by token, at the states that the student
    visits (arXiv:2306.13649 with its lambda 1; MiniLLM, arXiv:2306.08543), with k1 as the estimate and no look ahead.
    teacher_logprobs, old_logprobs: [B, T] nats; mask: [B, T]. Returns [B, T] nats; 0 outside the mask.
    Settings: loss `reinforce`, mean `per_token`, one update a rollout. Pitfall: it needs the teacher's tokenizer to be
    the student's, and a token that the teacher holds impossible has an advantage of -20 or less by itself.
    """
    return torch.where(mask, teacher_logprobs, 0.0) - torch.where(mask, old_logprobs, 0.0)


def token_rewards(rewards: Tensor, mask: Tensor, kl_penalty: Tensor | None = None) -> Tensor:
    """r_t: the output's reward at the last token that the policy drew, less the KL's share at each (InstructGPT, PPO).

    rewards: [B], nan where there is none (then 0); mask: [B, T]; kl_penalty: [B, T], beta times the KL's estimate,
    reward units, None: no KL in the reward. Returns [B, T], reward units, 0 outside the mask; a row's sum is the
    output's reward less its whole penalty.
    """
    places = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, places, -1).amax(dim=1, keepdim=True)
    at_end = torch.where(mask & (places == last), rewards.nan_to_num()[:, None], 0.0)
    return at_end if kl_penalty is None else at_end - torch.where(mask, kl_penalty, 0.0)


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """(x - mean x) / (std x + EPSILON) over the mask, [B, T]; sample std; 0 outside it, and where all are equal."""
    present = values[mask].cpu().double()  # Apple's GPU has no float64
    if len(present) < 2 or bool(present.min() == present.max()):
        return torch.zeros_like(values)
    return torch.where(mask, (values - float(present.mean())) / (float(present.std()) + EPSILON), 0.0)


def _sum_from_here(values: Tensor) -> Tensor:
    """Entry t: the sum of the entries from t on, [B, T]."""
    return values.flip(1).cumsum(1).flip(1)
