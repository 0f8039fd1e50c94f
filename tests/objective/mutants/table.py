"""Wrong versions of the objective, one change each, that its tests must notice."""

from dataclasses import dataclass

LOGPROBS, ADVANTAGE, LOSSES, SURROGATE, PRESETS = (
    f"objective/{name}.py" for name in ("logprobs", "advantage", "losses", "surrogate", "presets")
)


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    """Occurs exactly once in the file."""
    new: str


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
    Mutant("loss with the sign flipped", LOSSES, "return -torch.minimum(", "return torch.minimum("),
    Mutant("maximum for minimum", LOSSES, "torch.minimum(", "torch.maximum("),
    Mutant("clamp without minimum", LOSSES, "torch.minimum(ratio * advantages, ratio", "(ratio"),
    Mutant("no clip", LOSSES, "ratio.clamp(1 - low, 1 + high)", "ratio"),
    Mutant("bounds swapped", LOSSES, "clamp(1 - low, 1 + high)", "clamp(1 - high, 1 + low)"),
    Mutant("low bound for both", LOSSES, "1 + high) * advantages", "1 + low) * advantages"),
    Mutant("ratio turned round", LOSSES, "torch.exp(log_ratio(", "torch.exp(-log_ratio("),
    Mutant(
        "mask multiplied into the log-ratio",
        LOSSES,
        "return torch.where(mask, logprobs, 0.0) - torch.where(mask, old_logprobs, 0.0)",
        "return (logprobs - old_logprobs) * mask",
    ),
    Mutant("mask on the difference only", LOSSES, "torch.where(mask, logprobs, 0.0) -", "logprobs * mask -"),
    Mutant("advantages not masked", LOSSES, "advantages = torch.where(mask, advantages, 0.0)", "pass"),
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
    Mutant("empty outputs counted", LOSSES, "float(mask.any(dim=1).sum())", "float(len(mask))"),
    Mutant("mean over rows for any", LOSSES, "tokens=float(mask.sum())", "tokens=float(mask.numel())"),
    Mutant("kl subtracted", SURROGATE, "per_token + objective.kl_coef * kl", "per_token - objective.kl_coef * kl"),
    Mutant("kl without its weight", SURROGATE, "objective.kl_coef * kl", "kl"),
    Mutant(
        "kl against the old policy",
        SURROGATE,
        "torch.where(mask, ref_logprobs, 0.0)",
        "torch.where(mask, old_logprobs, 0.0)",
    ),
    Mutant(
        "kl of detached logprobs",
        SURROGATE,
        "objective.kl(torch.where(mask, logprobs, 0.0)",
        "objective.kl(torch.where(mask, logprobs.detach(), 0.0)",
    ),
    Mutant(
        "kl multiplied by the mask",
        SURROGATE,
        "objective.kl(torch.where(mask, logprobs, 0.0)",
        "mask * objective.kl(logprobs",
    ),
    Mutant("entropy added", SURROGATE, "per_token - objective.entropy_coef", "per_token + objective.entropy_coef"),
    Mutant("entropy multiplied by the mask", SURROGATE, "torch.where(mask, entropies, 0.0)", "mask * entropies"),
    Mutant(
        "one bound for both sides", SURROGATE, "(ratio > 1 + objective.clip_high)", "(ratio > 1 + objective.clip_low)"
    ),
    Mutant("clipped whatever the advantage", SURROGATE, "(advantages < 0) & (ratio <", "(ratio <"),
    Mutant(
        "ratio of the padding", SURROGATE, "log_ratio(logprobs, old_logprobs, mask)).d", "logprobs - old_logprobs).d"
    ),
    Mutant("dr_grpo with the std", PRESETS, 'advantage="group_centred"', 'advantage="group_relative"'),
    Mutant("grpo averaged by token", PRESETS, 'aggregate="per_output"', 'aggregate="per_token"'),
    Mutant("another beta", PRESETS, "kl_coef=0.04", "kl_coef=0.004"),
)
