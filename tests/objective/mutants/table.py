"""Wrong versions of the objective, one change each, that its tests must notice.

Those of single tokens' advantages are in token_table.py, those of corrections and the critic in weight_table.py,
those of what training computes chunk by chunk in training_table.py.
"""

from tests.objective.mutants.mutant import Mutant
from tests.objective.mutants.token_table import OF_TOKENS
from tests.objective.mutants.training_table import OF_TRAINING
from tests.objective.mutants.weight_table import OF_WEIGHTS_AND_VALUES

LOGPROBS, ADVANTAGE, LOSSES, SEQUENCE, SURROGATE, PRESETS = (
    f"objective/{name}.py" for name in ("logprobs", "advantage", "losses", "sequence_losses", "surrogate", "presets")
)

MUTANTS = (
    Mutant("missing shift", LOGPROBS, "torch.zeros_like(states[:, :1]), states[:, :-1]", "states[:, :0], states"),
    Mutant("shift the wrong way", LOGPROBS, "states[:, :1]), states[:, :-1]]", "states[:, :1]), states[:, 1:]]"),
    Mutant("first entry not zeros", LOGPROBS, "torch.zeros_like(states[:, :1])", "states[:, :1]"),
    Mutant("no temperature", LOGPROBS, "scaled = scaled / temperature", "scaled = scaled"),
    Mutant("temperature multiplies", LOGPROBS, "scaled / temperature", "scaled * temperature"),
    Mutant("top-p one token short", LOGPROBS, "p.cumsum(dim=-1) - p < top_p", "p.cumsum(dim=-1) < top_p"),
    Mutant("top-p one token more", LOGPROBS, "cumsum(dim=-1) - p < top_p", "cumsum(dim=-1) - p < top_p + p"),
    Mutant("top-p not sorted back", LOGPROBS, "torch.zeros_like(kept).scatter(-1, order, short)", "short"),
    Mutant("top-p before top-k", LOGPROBS, "logits.masked_fill(~kept, -math.inf).sort(", "logits.sort("),
    Mutant("top-k one token short", LOGPROBS, "kept = logits >= logits.topk", "kept = logits > logits.topk"),
    Mutant("min-p without the maximum", LOGPROBS, "logits.amax(dim=-1, keepdim=True) + math.log", "math.log"),
    Mutant("drawn tokens dropped", LOGPROBS, "keep.unsqueeze(-1), True)", "keep.unsqueeze(-1), False)"),
    Mutant("log-softmax over the wrong axis", LOGPROBS, "wide(logits), dim=-1).gather", "wide(logits), dim=0).gather"),
    Mutant(
        "bf16 log-softmax", LOGPROBS, "torch.log_softmax(wide(logits), dim=-1).gather", "logits.log_softmax(-1).gather"
    ),
    Mutant("entropy with the sign flipped", LOGPROBS, "return -(p * log_p)", "return (p * log_p)"),
    Mutant("entropy of -inf is nan", LOGPROBS, "log_p = torch.where(log_p == -math.inf, 0.0, log_p)", "pass"),
    Mutant("k1 turned round", LOGPROBS, "return logprobs - ref_logprobs", "return ref_logprobs - logprobs"),
    Mutant("k2 without the half", LOGPROBS, ".square() / 2", ".square()"),
    Mutant("k3 turned round", LOGPROBS, "log_ratio = ref_logprobs - logprobs", "log_ratio = logprobs - ref_logprobs"),
    Mutant("k3 without the linear term", LOGPROBS, "torch.expm1(log_ratio) - log_ratio", "torch.expm1(log_ratio)"),
    Mutant("k3 loses digits", LOGPROBS, "torch.expm1(log_ratio) -", "torch.exp(log_ratio) - 1 -"),
    Mutant("population std", ADVANTAGE, "(len(rewards) - 1)", "len(rewards)"),
    Mutant("variance for std", ADVANTAGE, "variance.sqrt()", "variance"),
    Mutant("one-pass variance", ADVANTAGE, "centred.square().sum()", "(rewards.square() - rewards.mean() ** 2).sum()"),
    Mutant("epsilon of another library", ADVANTAGE, "EPSILON = 1e-6", "EPSILON = 1e-4"),
    Mutant("no baseline", ADVANTAGE, "return rewards - rewards.mean()", "return rewards"),
    Mutant("median for mean", ADVANTAGE, "rewards - rewards.mean()", "rewards - rewards.median()"),
    Mutant("advantage with the sign flipped", ADVANTAGE, "advantages.to(dtype)", "-advantages.to(dtype)"),
    Mutant("missing rewards in the mean", ADVANTAGE, "members & ~rewards.isnan()", "members"),
    Mutant("missing rewards as zero", ADVANTAGE, "rewards[rated].double()", "rewards.nan_to_num()[members].double()"),
    Mutant("one mean for the whole batch", ADVANTAGE, "members = group == index", "members = group == group"),
    Mutant("equal rewards left to rounding", ADVANTAGE, "bool(present.min() < present.max())", "True"),
    Mutant("fp32 statistics", ADVANTAGE, "present = rewards[rated].double()", "present = rewards[rated].float()"),
    Mutant("groups of one allowed", ADVANTAGE, "int(members.sum()) < 2", "int(members.sum()) < 1"),
    Mutant(
        "advantages outside the mask", ADVANTAGE, "torch.where(mask, advantages", "torch.where(mask | True, advantages"
    ),
    Mutant(
        "the mean of all for that of the others",
        ADVANTAGE,
        "_centred(rewards) * (others + 1) / others",
        "_centred(rewards)",
    ),
    Mutant("leave-one-out shrunk", ADVANTAGE, "(others + 1) / others", "others / (others + 1)"),
    Mutant("others counted with oneself", ADVANTAGE, "others = len(rewards) - 1", "others = len(rewards)"),
    Mutant(
        "share of the mean without a baseline", ADVANTAGE, "return _centred(rewards) / mean", "return rewards / mean"
    ),
    Mutant(
        "share of the std", ADVANTAGE, "return _centred(rewards) / mean", "return _centred(rewards) / rewards.std()"
    ),
    Mutant("a mean below 0 turns signs", ADVANTAGE, "if mean <= 0:", "if mean == 0:"),
    Mutant(
        "the batch cut into pairs",
        ADVANTAGE,
        "torch.zeros(len(rewards), dtype=torch.long)",
        "torch.arange(len(rewards)) // 2",
    ),
    Mutant(
        "the batch not scaled", ADVANTAGE, "dtype=torch.long), mask, _standardised", "dtype=torch.long), mask, _centred"
    ),
    Mutant("missing rewards in the batch's std", ADVANTAGE, "centred[~rewards.isnan().cpu()].std()", "centred.std()"),
    Mutant(
        "the batch's mean for the group's",
        ADVANTAGE,
        "centred = _by_group(rewards, group, ",
        "centred = _by_group(rewards, 0 * group, ",
    ),
    Mutant("population std of the batch", ADVANTAGE, ".std() + EPSILON)", ".std(correction=0) + EPSILON)"),
    Mutant(
        "a missing reward of one",
        ADVANTAGE,
        "_finite(rewards).nan_to_num(), rewards",
        "_finite(rewards).nan_to_num(1.0), rewards",
    ),
    Mutant("wrong outputs imitated", ADVANTAGE, ".nan_to_num().clamp(min=0)", ".nan_to_num().abs()"),
    Mutant("right outputs cut to one", ADVANTAGE, ".clamp(min=0)", ".clamp(min=0, max=1)"),
    Mutant("loss with the sign flipped", LOSSES, "return -torch.minimum(", "return torch.minimum("),
    Mutant("maximum for minimum", LOSSES, "return -torch.minimum(", "return -torch.maximum("),
    Mutant("clamp without minimum", LOSSES, "torch.minimum(ratio * advantages, ratio", "(ratio"),
    Mutant("no clip", LOSSES, "ratio.clamp(1 - low, 1 + high)", "ratio"),
    Mutant("bounds swapped", LOSSES, "ratio.clamp(1 - low, 1 + high)", "ratio.clamp(1 - high, 1 + low)"),
    Mutant("low bound for both", LOSSES, "1 + high) * advantages", "1 + low) * advantages"),
    Mutant(
        "ratio turned round",
        LOSSES,
        "clipped_surrogate(torch.exp(log_ratio(",
        "clipped_surrogate(torch.exp(-log_ratio(",
    ),
    Mutant(
        "mask multiplied into the log-ratio",
        LOSSES,
        "return torch.where(mask, logprobs, 0.0) - torch.where(mask, old_logprobs, 0.0)",
        "return (logprobs - old_logprobs) * mask",
    ),
    Mutant("mask on the difference only", LOSSES, "torch.where(mask, logprobs, 0.0) -", "logprobs * mask -"),
    Mutant("advantages not masked", LOSSES, "advantages = torch.where(mask, advantages, 0.0)", "pass"),
    Mutant("dual clip of good tokens", LOSSES, "torch.where(bounded < 0,", "torch.where(bounded > 0,"),
    Mutant("another c", LOSSES, "dual_clip: float = 3.0", "dual_clip: float = 2.0"),
    Mutant("dual clip from below", LOSSES, "torch.minimum(loss, -dual_clip", "torch.maximum(loss, -dual_clip"),
    Mutant("dual clip of every bad token", LOSSES, "torch.minimum(loss, -dual_clip * bounded)", "-dual_clip * bounded"),
    Mutant(
        "reinforce lowers the good",
        LOSSES,
        "return -torch.where(mask, advantages",
        "return torch.where(mask, advantages",
    ),
    Mutant(
        "reinforce of the ratio",
        LOSSES,
        "* torch.where(mask, logprobs, 0.0)",
        "* log_ratio(logprobs, old_logprobs, mask)",
    ),
    Mutant(
        "reinforce of the probability",
        LOSSES,
        "* torch.where(mask, logprobs, 0.0)",
        "* torch.where(mask, logprobs, 0.0).exp()",
    ),
    Mutant("reinforce multiplied by the mask", LOSSES, "* torch.where(mask, logprobs, 0.0)", "* logprobs * mask"),
    Mutant(
        "cispo's weight with a gradient",
        LOSSES,
        ".clamp(1 - clip_low, 1 + clip_high).detach()",
        ".clamp(1 - clip_low, 1 + clip_high)",
    ),
    Mutant("cispo without bounds", LOSSES, ".clamp(1 - clip_low, 1 + clip_high).detach()", ".detach()"),
    Mutant(
        "cispo's bounds swapped",
        LOSSES,
        ".clamp(1 - clip_low, 1 + clip_high).detach()",
        ".clamp(1 - clip_high, 1 + clip_low).detach()",
    ),
    Mutant("cispo's ratio turned round", LOSSES, "weight = torch.exp(log_ratio(", "weight = torch.exp(-log_ratio("),
    Mutant("temperatures swapped", LOSSES, "torch.where(gated > 0, torch", "torch.where(gated < 0, torch"),
    Mutant("gate about ratio 0", LOSSES, "torch.sigmoid(tau * (ratio - 1))", "torch.sigmoid(tau * ratio)"),
    Mutant("gate about the log-ratio", LOSSES, "torch.sigmoid(tau * (ratio - 1))", "torch.sigmoid(tau * ratio.log())"),
    Mutant("gate without its scale", LOSSES, "* 4 / tau * gated", "* gated"),
    Mutant("fp32 temperatures", LOSSES, "torch.full_like(gated, tau_pos), tau_neg", "tau_pos, tau_neg"),
    Mutant("nll of every output", LOSSES, "mask & (advantages > 0), -logprobs", "mask, -logprobs"),
    Mutant("nll of the padding", LOSSES, "mask & (advantages > 0), -logprobs", "advantages > 0, -logprobs"),
    Mutant(
        "nll weighted by the advantage",
        LOSSES,
        "(advantages > 0), -logprobs",
        "(advantages > 0), -advantages * logprobs",
    ),
    Mutant("nll of wrong outputs", LOSSES, "(advantages > 0), -logprobs", "(advantages < 0), -logprobs"),
    Mutant("no loss is marked", LOSSES, "loss.over_whole_output = True", "loss.over_whole_output = False"),
    Mutant(
        "gspo not marked",
        SEQUENCE,
        "@over_whole_output\n@one_advantage\ndef sequence_clip(",
        "@one_advantage\ndef sequence_clip(",
    ),
    Mutant("gspo takes any advantage", SEQUENCE, "@one_advantage\ndef sequence_clip(", "def sequence_clip("),
    Mutant("gmpo takes any advantage", SEQUENCE, "@one_advantage\ndef geometric_clip(", "def geometric_clip("),
    Mutant(
        "gspo-token takes one advantage",
        SEQUENCE,
        "def sequence_token_clip(",
        "@one_advantage\ndef sequence_token_clip(",
    ),
    Mutant("no loss takes one advantage", LOSSES, "loss.one_advantage = True", "loss.one_advantage = False"),
    Mutant(
        "gspo-token not marked", SEQUENCE, "@over_whole_output\ndef sequence_token_clip(", "def sequence_token_clip("
    ),
    Mutant(
        "gmpo not marked",
        SEQUENCE,
        "@over_whole_output\n@one_advantage\ndef geometric_clip(",
        "@one_advantage\ndef geometric_clip(",
    ),
    Mutant("the product of the ratios", SEQUENCE, " / mask.sum(dim=1, keepdim=True).clamp(min=1)", ""),
    Mutant("padding in the outputs' lengths", SEQUENCE, "/ mask.sum(dim=1,", "/ (mask | True).sum(dim=1,"),
    Mutant("an output without tokens is nan", SEQUENCE, ".clamp(min=1)", ""),
    Mutant("outputs' ratio turned round", SEQUENCE, "ratio = torch.exp(_mean", "ratio = torch.exp(-_mean"),
    Mutant(
        "arithmetic mean of the ratios",
        SEQUENCE,
        "ratio = torch.exp(_mean_over_tokens(log_ratio(logprobs, old_logprobs, mask), mask))",
        "ratio = _mean_over_tokens(torch.exp(log_ratio(logprobs, old_logprobs, mask)), mask)",
    ),
    Mutant(
        "the ratio of each token for the outputs'",
        SEQUENCE,
        "ratio = torch.exp(_mean_over_tokens(log_ratio(logprobs, old_logprobs, mask), mask))",
        "ratio = torch.exp(log_ratio(logprobs, old_logprobs, mask))",
    ),
    Mutant("gspo-token by all tokens", SEQUENCE, "old_logprobs, mask), mask)).detach()", "old_logprobs, mask), mask))"),
    Mutant("gspo-token without the outputs' ratio", SEQUENCE, "s * torch.exp(own", "torch.exp(own"),
    Mutant("gspo-token times its probability", SEQUENCE, "torch.exp(own - own.detach())", "torch.exp(own)"),
    Mutant("gspo-token without a gradient of its own", SEQUENCE, "s * torch.exp(own - own.detach())", "s + 0 * own"),
    Mutant("gspo-token reads the padding", SEQUENCE, "own = torch.where(mask, logprobs, 0.0)", "own = logprobs"),
    Mutant("gmpo clipped on the wrong side", SEQUENCE, "torch.where(kept < 0,", "torch.where(kept > 0,"),
    Mutant("gmpo not clipped", SEQUENCE, "_mean_over_tokens(clipped, mask)", "_mean_over_tokens(change, mask)"),
    Mutant(
        "gmpo's bounds swapped",
        SEQUENCE,
        "min=-clip_low), change.clamp(max=clip_high)",
        "min=-clip_high), change.clamp(max=clip_low)",
    ),
    Mutant("gmpo clipped on both sides", SEQUENCE, "change.clamp(max=clip_high)", "change.clamp(-clip_low, clip_high)"),
    Mutant(
        "gmpo's bounds of a ratio",
        SEQUENCE,
        "clamp(max=clip_high)",
        "clamp(max=float(torch.tensor(clip_high).log1p()))",
    ),
    Mutant("gmpo lowers the good", SEQUENCE, "return -torch.exp(_mean", "return torch.exp(_mean"),
    Mutant("padding in the lengths", LOSSES, "lengths = mask.sum(dim=1)", "lengths = (mask | True).sum(dim=1)"),
    Mutant("sum for mean over tokens", LOSSES, ".sum(dim=1) / lengths)", ".sum(dim=1))"),
    Mutant(
        "divided by the cut's outputs",
        LOSSES,
        "max(denominators.outputs, 1.0)\n\n\ndef per_token",
        "len(mask)\n\n\ndef per_token",
    ),
    Mutant("divided by the cut's tokens", LOSSES, "max(denominators.tokens, 1.0)", "mask.sum()"),
    Mutant("fixed length not divided by outputs", LOSSES, "size = max(denominators.outputs, 1.0) *", "size ="),
    Mutant("empty outputs counted", LOSSES, "[mask.any(dim=1).sum(), mask", "[torch.tensor(len(mask)), mask"),
    Mutant("mean over rows for any", LOSSES, ".sum(), mask.sum()])", ".sum(), torch.tensor(mask.numel())])"),
    Mutant(
        "kl subtracted", SURROGATE, "per_token + objective.kl_coef * kl_of", "per_token - objective.kl_coef * kl_of"
    ),
    Mutant("kl without its weight", SURROGATE, "objective.kl_coef * kl_of", "kl_of"),
    Mutant("kl against the old policy", SURROGATE, '"ref_logprobs": ref_logprobs,', '"ref_logprobs": old_logprobs,'),
    Mutant("kl of detached logprobs", SURROGATE, '{"logprobs": logprobs, "ref', '{"logprobs": logprobs.detach(), "ref'),
    Mutant(
        "kl weighted by another policy", SURROGATE, '"old_logprobs": old_logprobs}', '"old_logprobs": ref_logprobs}'
    ),
    Mutant(
        "kl multiplied by the mask",
        SURROGATE,
        "masked = {name: torch.where(mask, part, 0.0) for name, part in inside.items()}",
        "masked = {name: part * mask for name, part in inside.items()}",
    ),
    Mutant(
        "kl in the loss wherever it counts", SURROGATE, 'self.kl_coef > 0 and self.kl_in == "loss"', "self.kl_coef > 0"
    ),
    Mutant(
        "kl in the loss without a weight",
        SURROGATE,
        'self.kl_coef > 0 and self.kl_in == "loss"',
        'self.kl_in == "loss"',
    ),
    Mutant(
        "kl not reported where it is in the reward",
        SURROGATE,
        "if ref_logprobs is not None:",
        "if ref_logprobs is not None and objective.kl_in_loss:",
    ),
    Mutant("entropy added", SURROGATE, "per_token - objective.entropy_coef", "per_token + objective.entropy_coef"),
    Mutant("entropy multiplied by the mask", SURROGATE, "torch.where(mask, entropies, 0.0)", "mask * entropies"),
    Mutant(
        "a loss without its parameters",
        SURROGATE,
        "called(objective.loss, {**objective.parameters, **given})",
        "called(objective.loss, given)",
    ),
    Mutant(
        "defaults before what is given",
        SURROGATE,
        "if p.default is p.empty or p.name in inputs",
        "if p.default is p.empty",
    ),
    Mutant("clipped whatever the advantage", SURROGATE, "clipped_low=(advantages < 0) & frozen", "clipped_low=frozen"),
    Mutant("clipped on the other side", SURROGATE, "clipped_low=(advantages < 0)", "clipped_low=(advantages > 0)"),
    Mutant("padding told clipped", SURROGATE, "return mask & (slope == 0)", "return slope == 0"),
    Mutant(
        "every loss taken for one per token", SURROGATE, "in (self.loss, self.correction))", "in (self.correction,))"
    ),
    Mutant(
        "every correction taken for one per token", SURROGATE, "in (self.loss, self.correction))", "in (self.loss,))"
    ),
    Mutant("per token if either part is", SURROGATE, "return not any(getattr", "return not all(getattr"),
    Mutant(
        "weights of the sampler against the policy",
        SURROGATE,
        "else old - sampled_logprobs",
        "else sampled_logprobs - old",
    ),
    Mutant(
        "weights of the new policy",
        SURROGATE,
        "per_token * _weights(objective, old_logprobs,",
        "per_token * _weights(objective, logprobs,",
    ),
    Mutant(
        "no weights",
        SURROGATE,
        "per_token * _weights(objective, old_logprobs, sampled_logprobs, mask)\n    if",
        "per_token\n    if",
    ),
    Mutant(
        "weights on the kl too",
        SURROGATE,
        "objective.kl_coef * kl_of",
        "objective.kl_coef * _weights(objective, old_logprobs, sampled_logprobs, mask) * kl_of",
    ),
    Mutant(
        "weights on the entropy too",
        SURROGATE,
        "objective.entropy_coef * torch",
        "objective.entropy_coef * _weights(objective, old_logprobs, sampled_logprobs, mask) * torch",
    ),
    Mutant(
        "a correction without its parameters",
        SURROGATE,
        'called(objective.correction, {**objective.parameters, "log_weight"',
        'called(objective.correction, {"log_weight"',
    ),
    Mutant(
        "ratio of the padding",
        SURROGATE,
        "torch.exp(log_ratio(logprobs, old_logprobs, mask))",
        "torch.exp(logprobs - old_logprobs)",
    ),
    Mutant("dr_grpo with the std", PRESETS, 'advantage="group_centred"', 'advantage="group_relative"'),
    Mutant(
        "grpo averaged by token",
        PRESETS,
        'GRPO = Preset(\n    advantage="group_relative",\n    loss="clip",\n    aggregate="per_output"',
        'GRPO = Preset(\n    advantage="group_relative",\n    loss="clip",\n    aggregate="per_token"',
    ),
    Mutant(
        "another beta",
        PRESETS,
        'kl_coef=0.04,\n    kl_estimator="k3",\n    source="DeepSeekMath, arXiv:2402.03300, equation 3",',
        'kl_coef=0.004,\n    kl_estimator="k3",\n    source="DeepSeekMath, arXiv:2402.03300, equation 3",',
    ),
    Mutant("rloo with its own reward in the mean", PRESETS, 'advantage="leave_one_out"', 'advantage="group_centred"'),
    Mutant("dapo without the higher bound", PRESETS, '"clip_high": 0.28', '"clip_high": 0.2'),
    Mutant("cispo with a lower bound", PRESETS, '"clip_low": 1.0,', '"clip_low": 0.2,'),
    Mutant("sapo with one temperature", PRESETS, '"tau_neg": 1.05', '"tau_neg": 1.00'),
    Mutant("maxrl with the std", PRESETS, 'advantage="over_mean"', 'advantage="group_relative"'),
    Mutant("online_rft weighted", PRESETS, 'loss="nll"', 'loss="reinforce"'),
    Mutant("reinforce_pp over outputs", PRESETS, 'advantage="return_normalised"', 'advantage="batch_normalised"'),
    Mutant(
        "reinforce_pp with k1 in the loss", PRESETS, 'kl_in="reward",\n    source="REINFORCE++', 'source="REINFORCE++'
    ),
    Mutant(
        "r1 with grpo's clip", PRESETS, '{"clip_low": 10.0, "clip_high": 10.0}', '{"clip_low": 0.2, "clip_high": 0.2}'
    ),
    Mutant("gdpo of the sum", PRESETS, 'advantage="per_reward"', 'advantage="group_relative"'),
    Mutant("ppo not whitened", PRESETS, 'advantage="gae_whitened"', 'advantage="gae"'),
    Mutant("ppo with its kl in the loss", PRESETS, 'kl_in="reward",\n    source="PPO', 'source="PPO'),
    *OF_TOKENS,
    *OF_WEIGHTS_AND_VALUES,
    *OF_TRAINING,
)
