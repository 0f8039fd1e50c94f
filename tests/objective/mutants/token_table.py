"""Wrong versions of the advantages of single tokens, of the rewards they are made of, and of several rewards."""

from tests.objective.mutants.mutant import Mutant

ADVANTAGE, TOKEN = "objective/advantage.py", "objective/token_advantage.py"

OF_TOKENS = (
    Mutant("parts not weighted", ADVANTAGE, "total += weight * _by_group", "total += _by_group"),
    Mutant(
        "parts not normalised by themselves",
        ADVANTAGE,
        "_by_group(column, group, _standardised)",
        "_by_group(column, group, _centred)",
    ),
    Mutant(
        "parts over the batch",
        ADVANTAGE,
        "_by_group(column, group, _standardised)",
        "_by_group(column, 0 * group, _standardised)",
    ),
    Mutant("parts of outputs that failed", ADVANTAGE, "torch.where(rewards.isnan(), rewards, part)", "part"),
    Mutant(
        "parts that abstained as zero",
        ADVANTAGE,
        "_by_group(column, group, _standardised)",
        "_by_group(torch.where(rewards.isnan(), rewards, part.nan_to_num()), group, _standardised)",
    ),
    Mutant("the sum of parts not rescaled", ADVANTAGE, "total[present] = _standardised(total[present])", "pass"),
    Mutant(
        "the sum of parts rescaled with those that failed",
        ADVANTAGE,
        "total[present] = _standardised(total[present])",
        "total = _standardised(total)",
    ),
    Mutant(
        "the sum of parts rescaled by group",
        ADVANTAGE,
        "total[present] = _standardised(total[present])",
        "total = _by_group(torch.where(rewards.isnan(), rewards, total), group, _standardised)",
    ),
    Mutant(
        "the sum of parts only centred",
        ADVANTAGE,
        "total[present] = _standardised(total[present])",
        "total[present] = _centred(total[present])",
    ),
    Mutant("steps from the first on", TOKEN, "return values.flip(1).cumsum(1).flip(1)", "return values.cumsum(1)"),
    Mutant(
        "steps before the token left out one late",
        TOKEN,
        "return values.flip(1).cumsum(1).flip(1)",
        "return values.flip(1).cumsum(1).flip(1) - values",
    ),
    Mutant("steps not summed", TOKEN, "torch.where(mask, _sum_from_here(normalised)", "torch.where(mask, (normalised)"),
    Mutant("steps at tokens not drawn", TOKEN, "ends = ~step_rewards.isnan() & mask", "ends = ~step_rewards.isnan()"),
    Mutant("steps of all questions", TOKEN, "given & (group == index)", "given & (group == group)"),
    Mutant("steps not centred", TOKEN, "(present - present.mean()) / (present.std()", "present / (present.std()"),
    Mutant(
        "steps not scaled", TOKEN, "(present - present.mean()) / (present.std() + EPSILON)", "present - present.mean()"
    ),
    Mutant(
        "population std of steps",
        TOKEN,
        "/ (present.std() + EPSILON)\n    dtype",
        "/ (present.std(correction=0) + EPSILON)\n    dtype",
    ),
    Mutant("equal steps left to rounding", TOKEN, "bool(present.min() < present.max())", "True"),
    Mutant("infinite steps allowed", TOKEN, "if bool(step_rewards.isinf().any()):", "if False:"),
    Mutant(
        "returns not whitened",
        TOKEN,
        "return whitened(_sum_from_here(torch.where(mask, token_rewards, 0.0)), mask)",
        "return torch.where(mask, _sum_from_here(torch.where(mask, token_rewards, 0.0)), 0.0)",
    ),
    Mutant(
        "rewards for returns",
        TOKEN,
        "whitened(_sum_from_here(torch.where(mask, token_rewards, 0.0)), mask)",
        "whitened(torch.where(mask, token_rewards, 0.0), mask)",
    ),
    Mutant(
        "returns of the padding",
        TOKEN,
        "_sum_from_here(torch.where(mask, token_rewards, 0.0))",
        "_sum_from_here(token_rewards)",
    ),
    Mutant("no discount of the next value", TOKEN, "+ discount * value_after - value", "+ value_after - value"),
    Mutant(
        "no discount of the next advantage",
        TOKEN,
        "delta + discount * gae_lambda * following",
        "delta + gae_lambda * following",
    ),
    Mutant("no lambda", TOKEN, "delta + discount * gae_lambda * following", "delta + discount * following"),
    Mutant(
        "lambda on the next value too",
        TOKEN,
        "+ discount * value_after - value",
        "+ discount * gae_lambda * value_after - value",
    ),
    Mutant("the value not taken off", TOKEN, "+ discount * value_after - value", "+ discount * value_after"),
    Mutant("the next value forgotten", TOKEN, "+ discount * value_after - value", "- value"),
    Mutant(
        "the next value lost in a gap",
        TOKEN,
        "value_after = torch.where(drawn, values[:, t], value_after)",
        "value_after = values[:, t]",
    ),
    Mutant(
        "the next advantage lost in a gap", TOKEN, "gae_lambda * following, following)", "gae_lambda * following, 0.0)"
    ),
    Mutant(
        "a gap discounted as a token",
        TOKEN,
        "gae_lambda * following, following)",
        "gae_lambda * following, discount * gae_lambda * following)",
    ),
    Mutant(
        "advantages in the gaps",
        TOKEN,
        "advantages[:, t] = torch.where(drawn, following, 0.0)",
        "advantages[:, t] = following",
    ),
    Mutant("from the first token on", TOKEN, "reversed(range(values.shape[1]))", "range(values.shape[1])"),
    Mutant(
        "a value after the end",
        TOKEN,
        "following, value_after = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])",
        "following, value_after = torch.zeros_like(values[:, 0]), values[:, -1].nan_to_num()",
    ),
    Mutant(
        "gae not whitened",
        TOKEN,
        "return whitened(gae(token_rewards, values, mask, discount, gae_lambda), mask)",
        "return gae(token_rewards, values, mask, discount, gae_lambda)",
    ),
    Mutant(
        "away from the teacher",
        TOKEN,
        "return torch.where(mask, teacher_logprobs, 0.0) - torch.where(mask, old_logprobs, 0.0)",
        "return torch.where(mask, old_logprobs, 0.0) - torch.where(mask, teacher_logprobs, 0.0)",
    ),
    Mutant(
        "the teacher alone",
        TOKEN,
        "torch.where(mask, teacher_logprobs, 0.0) - torch.where(mask, old_logprobs, 0.0)",
        "torch.where(mask, teacher_logprobs, 0.0)",
    ),
    Mutant(
        "the gap multiplied by the mask",
        TOKEN,
        "torch.where(mask, teacher_logprobs, 0.0) - torch.where(mask, old_logprobs, 0.0)",
        "(teacher_logprobs - old_logprobs) * mask",
    ),
    Mutant("the reward at every token", TOKEN, "mask & (places == last), rewards", "mask, rewards"),
    Mutant(
        "the reward at the row's end",
        TOKEN,
        "last = torch.where(mask, places, -1).amax(dim=1, keepdim=True)",
        "last = mask.shape[1] - 1",
    ),
    Mutant(
        "the reward at the first token",
        TOKEN,
        "torch.where(mask, places, -1).amax(",
        "torch.where(mask, places, mask.shape[1]).amin(",
    ),
    Mutant(
        "the reward by the count of tokens",
        TOKEN,
        "torch.where(mask, places, -1).amax(dim=1, keepdim=True)",
        "mask.sum(dim=1, keepdim=True) - 1",
    ),
    Mutant("a missing reward is one", TOKEN, "rewards.nan_to_num()[:, None]", "rewards.nan_to_num(1.0)[:, None]"),
    Mutant(
        "the penalty added", TOKEN, "at_end - torch.where(mask, kl_penalty", "at_end + torch.where(mask, kl_penalty"
    ),
    Mutant(
        "the penalty at the last token alone",
        TOKEN,
        "at_end - torch.where(mask, kl_penalty, 0.0)",
        "at_end - torch.where(mask & (places == last), kl_penalty, 0.0)",
    ),
    Mutant(
        "the whole penalty at the last token",
        TOKEN,
        "at_end - torch.where(mask, kl_penalty, 0.0)",
        "at_end - torch.where(mask & (places == last), torch.where(mask, kl_penalty, 0.0).sum(1, keepdim=True), 0.0)",
    ),
    Mutant(
        "the penalty one token late",
        TOKEN,
        "at_end - torch.where(mask, kl_penalty, 0.0)",
        "at_end - torch.where(mask, kl_penalty, 0.0).roll(1, dims=1)",
    ),
    Mutant("the padding whitened too", TOKEN, "present = values[mask]", "present = values.flatten()"),
    Mutant(
        "whitened by the population std",
        TOKEN,
        "float(present.std()) + EPSILON",
        "float(present.std(correction=0)) + EPSILON",
    ),
    Mutant("whitened without a mean", TOKEN, "(values - float(present.mean()))", "values"),
    Mutant("whitened without an epsilon", TOKEN, "(float(present.std()) + EPSILON)", "float(present.std())"),
    Mutant(
        "equal numbers whitened",
        TOKEN,
        "if len(present) < 2 or bool(present.min() == present.max()):",
        "if len(present) < 2:",
    ),
    Mutant("one number whitened", TOKEN, "if len(present) < 2 or bool(", "if bool("),
)
