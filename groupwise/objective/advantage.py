"""Advantages of outputs: how much better each is than its siblings. Knows rewards and groups; no policy, no text.

An advantage is a function of what its parameters name (`groupwise.objective.surrogate.INPUTS`); here `rewards`,
`group`, `mask`, one number an output. Those of single tokens are in token_advantage.py.

An output without a reward (nan: a reward function failed or abstained) has no advantage, and the others are compared
as if it were not there. It is not an output with reward 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from groupwise.errors import DataError

EPSILON = 1e-6
"""Added to the standard deviation, in reward units; verl's value."""


def group_relative(rewards: Tensor, group: Tensor, mask: Tensor) -> Tensor:
    """Advantage of each output over its group (DeepSeekMath 4.1.2): (r_i - mean r) / (std r + EPSILON).

    rewards: [B], reward units, nan where there is none; group: [B], index of the question; mask: [B, T], the tokens
    that the policy drew. Returns [B, T], unitless, 0 outside the mask and where all rewards of the group are equal.
    Sample std (n - 1), as TRL and verl, so |A| <= (G - 1) / sqrt(G). Raises DataError if a group has one output or a
    reward is infinite.
    The paper has G = 64; 8 to 16 are usual. Pitfall: a spread of rewards of 1e-3 moves the policy as far as one of 1,
    and of rewards 0 and 1 questions that are nearly always or hardly ever solved weigh more.
    """
    return _compare(rewards, group, mask, _standardised)


def group_centred(rewards: Tensor, group: Tensor, mask: Tensor) -> Tensor:
    """Advantage without the division by the standard deviation (Dr. GRPO, arXiv:2503.20783): r_i - mean r.

    Arguments, zeros and errors as in group_relative. Returns [B, T], reward units. Its expected gradient is
    (G - 1) / G of the true one, since the output is in its own baseline. Pitfall: the rewards' unit is the step's size.
    """
    return _compare(rewards, group, mask, _centred)


def leave_one_out(rewards: Tensor, group: Tensor, mask: Tensor) -> Tensor:
    """Advantage over the mean of the others (RLOO, arXiv:2402.14740): r_i - sum_(j != i) r_j / (G - 1).

    Arguments, zeros and errors as in group_relative. Returns [B, T], reward units: G / (G - 1) times group_centred.
    The baseline does not know the output's own reward, so the expected gradient is the true one for every G; the paper
    has G = 2 and 4. Pitfall: as for group_centred; the paper's KL is in the reward, which is kept pure here.
    """
    return _compare(rewards, group, mask, _less_the_others)


def over_mean(rewards: Tensor, group: Tensor, mask: Tensor) -> Tensor:
    """Advantage as a share of the group's mean (MaxRL, arXiv:2602.02710): (r_i - mean r) / mean r.

    Arguments, zeros and errors as in group_relative; also DataError if the mean of different rewards is not above 0.
    Returns [B, T], unitless, from -1 to G - 1 for rewards of 0 or more; 0 in a group without a right answer.
    With rewards 0 and 1 and success rate p the expected gradient is that of sum_(k < G) pass@k / k, which is log p as G
    grows: grad p times (1 - (1 - p)^(G - 1)) / p, so a question that is rarely solved weighs up to G - 1 times more.
    The larger G, the nearer to log p. Pitfall: made for right or wrong; a constant added to the rewards changes all.
    """
    return _compare(rewards, group, mask, _share_of_mean)


def batch_normalised(rewards: Tensor, mask: Tensor) -> Tensor:
    """Advantage over the whole batch (REINFORCE++, arXiv:2501.03262): (r_i - mean r) / (std r + EPSILON), all groups.

    rewards: [B], nan where there is none; mask: [B, T]; a question may have one output. Returns [B, T], unitless, 0
    outside the mask and where all rewards of the batch are equal. Mean and sample std over outputs; verl's are over
    tokens (`return_normalised`), so that it weighs each output by its length. Raises DataError if the batch has one
    output or a reward is infinite.
    For large batches, where mean and std hardly depend on the output. Pitfall: the baseline knows no question, so every
    output of an easy one is raised and of a hard one lowered, equal rewards included.
    """
    return _compare(rewards, torch.zeros(len(rewards), dtype=torch.long), mask, _standardised)


def group_centred_batch_scaled(rewards: Tensor, group: Tensor, mask: Tensor) -> Tensor:
    """REINFORCE++ with its baseline (arXiv:2501.03262): c_i = r_i - mean of the group, then c_i / (std c + EPSILON).

    Arguments, zeros and errors as in group_relative; the std is one number, over all outputs of the batch that have a
    reward. Returns [B, T], unitless. The mean of c over the batch, which the paper subtracts, is 0 by construction.
    verl takes both over tokens, each output weighed by its length; TRL's `scale_rewards="batch"` divides by the std of
    r, not of c. With one question this is group_relative.
    For many questions a batch. Pitfall: groups without signal have c = 0 and shrink the std, so that the fewer
    questions have signal, the larger is the step on each of those that do.
    """
    centred = _by_group(rewards, group, _centred)
    if bool(centred.any()):
        centred = centred / (centred[~rewards.isnan().cpu()].std() + EPSILON)
    return _to_tokens(centred, rewards, mask)


def reward(rewards: Tensor, mask: Tensor) -> Tensor:
    """The reward itself, without a baseline (REINFORCE, Williams 1992): r_i.

    rewards: [B], nan where there is none; mask: [B, T]; a question may have one output. Returns [B, T], reward units,
    0 outside the mask. Raises DataError if a reward is infinite.
    To compare with, and for groups of one. Pitfall: unbiased, but of high variance: with rewards of 0 or more nothing
    is ever lowered, and a constant added to the rewards adds noise alone.
    """
    return _to_tokens(_finite(rewards).nan_to_num(), rewards, mask)


def only_right(rewards: Tensor, mask: Tensor) -> Tensor:
    """The reward of outputs that earned one (online rejection fine-tuning, DeepSeekMath 5.2.1): max(r_i, 0).

    Arguments, zeros and errors as in `reward`. Returns [B, T], reward units, never negative: for rewards 0 and 1 the
    paper's indicator of a right answer. For the loss `nll`. Pitfall: a reward for form alone makes every well-formed
    output one to be imitated, and nothing leads away from wrong answers.
    """
    return _to_tokens(_finite(rewards).nan_to_num().clamp(min=0), rewards, mask)


def per_reward(rewards: Tensor, reward_parts: Tensor, reward_weights: Tensor, group: Tensor, mask: Tensor) -> Tensor:
    """Advantage over several rewards, each normalised by itself (GDPO, arXiv:2601.05242).

    A_i = (S_i - mean S) / (std S + EPSILON) over the batch, S_i = sum_k w_k a_(i,k), a_(i,k) = group_relative of reward
    k. rewards: [B], nan where there is none; reward_parts: [B, K], each reward function's value before its weight, nan
    where it abstained; reward_weights: [K]; group: [B]; mask: [B, T]. Returns [B, T], unitless; zeros and errors as in
    group_relative. In group_relative two right for different reasons are one number, and a reward of small spread
    beside one of large spread is not heard; here each counts by its weight alone.
    For two rewards or more: with one it is group_relative, rescaled. Pitfall: a reward that differs by chance (a
    length, say) is blown up to the same size as the one that matters; rewards that cancel exactly in every group leave
    the residue of EPSILON, blown up in the same way.
    """
    present = ~rewards.isnan().cpu()
    total = torch.zeros(len(rewards), dtype=torch.float64)
    for part, weight in zip(reward_parts.unbind(1), reward_weights.tolist(), strict=True):
        column = torch.where(rewards.isnan(), rewards, part)  # an output without a reward is not compared
        total += weight * _by_group(column, group, _standardised)
    if int(present.sum()) >= 2 and bool(total[present].min() < total[present].max()):
        total[present] = _standardised(total[present])
    return _to_tokens(total, rewards, mask)


def _centred(rewards: Tensor) -> Tensor:
    return rewards - rewards.mean()


def _standardised(rewards: Tensor) -> Tensor:
    centred = _centred(rewards)  # first the mean, then the squares about it: E[r^2] - E[r]^2 loses every digit
    variance = centred.square().sum() / (len(rewards) - 1)
    return centred / (variance.sqrt() + EPSILON)


def _less_the_others(rewards: Tensor) -> Tensor:
    others = len(rewards) - 1
    return _centred(rewards) * (others + 1) / others


def _share_of_mean(rewards: Tensor) -> Tensor:
    mean = float(rewards.mean())
    if mean <= 0:  # the better output would be lowered
        raise DataError(
            f"over_mean: a group's rewards have the mean {mean:g}: {rewards.tolist()}",
            hint="give rewards of 0 or more, or choose another advantage, for example group_centred",
        )
    return _centred(rewards) / mean


def _compare(rewards: Tensor, group: Tensor, mask: Tensor, formula: Callable[[Tensor], Tensor]) -> Tensor:
    """The formula applied to each group's rewards that are there, and given to each token of the mask."""
    return _to_tokens(_by_group(rewards, group, formula), rewards, mask)


def _by_group(rewards: Tensor, group: Tensor, formula: Callable[[Tensor], Tensor]) -> Tensor:
    """The formula applied to each group's rewards that are there, 0 where they are equal: [B], float64, on the CPU."""
    rewards, group = _finite(rewards).cpu(), group.cpu()  # few numbers; and Apple's GPU has no float64
    advantages = torch.zeros_like(rewards, dtype=torch.float64)
    for index in group.unique():
        members = group == index
        if int(members.sum()) < 2:
            raise DataError(
                f"group {int(index)} has 1 output: nothing to compare it with", hint="sample 2 or more per question"
            )
        rated = members & ~rewards.isnan()
        present = rewards[rated].double()
        # Equal rewards must give 0 itself: their mean may be off by a rounding, and a tiny std blows that up.
        if len(present) >= 2 and bool(present.min() < present.max()):
            advantages[rated] = formula(present)
    return advantages


def _finite(rewards: Tensor) -> Tensor:
    """The rewards; DataError if one is infinite."""
    if bool(rewards.isinf().any()):
        raise DataError(f"a reward is infinite: {rewards.tolist()}", hint="a reward is a finite number, or none")
    return rewards


def _to_tokens(advantages: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """[B] given to each token of the mask, [B, T], on the rewards' device and in their precision, fp32 at least."""
    device, dtype = rewards.device, torch.promote_types(rewards.dtype, torch.float32)
    return torch.where(mask, advantages.to(dtype).to(device).unsqueeze(1), 0.0)
