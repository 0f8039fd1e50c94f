"""Wrong versions of the off-policy weights, of the KL estimators that came with them, and of the critic's loss."""

from tests.objective.mutants.mutant import Mutant

CORRECTION, VALUE, LOGPROBS = (f"objective/{name}.py" for name in ("correction", "value", "logprobs"))

OF_WEIGHTS_AND_VALUES = (
    Mutant(
        "uncorrected outside the mask",
        CORRECTION,
        "return mask.to(log_weight.dtype)",
        "return torch.ones_like(log_weight)",
    ),
    Mutant(
        "uncorrected is corrected",
        CORRECTION,
        "return mask.to(log_weight.dtype)",
        "return torch.where(mask, _weight(log_weight, mask), 0.0)",
    ),
    Mutant(
        "token weights' bounds swapped",
        CORRECTION,
        "mask, _weight(log_weight, mask).clamp(correction_low, correction_high)",
        "mask, _weight(log_weight, mask).clamp(correction_high, correction_low)",
    ),
    Mutant(
        "token weights without a lower bound",
        CORRECTION,
        "mask, _weight(log_weight, mask).clamp(correction_low, correction_high)",
        "mask, _weight(log_weight, mask).clamp(max=correction_high)",
    ),
    Mutant(
        "token weights without an upper bound",
        CORRECTION,
        "mask, _weight(log_weight, mask).clamp(correction_low, correction_high)",
        "mask, _weight(log_weight, mask).clamp(min=correction_low)",
    ),
    Mutant(
        "token weights clamped, not masked",
        CORRECTION,
        "return _within(_weight(log_weight, mask), mask, correction_low, correction_high)",
        "return torch.where(mask, _weight(log_weight, mask).clip(correction_low, correction_high), 0.0)",
    ),
    Mutant(
        "the bounds are outside", CORRECTION, "(weight >= low) & (weight <= high)", "(weight > low) & (weight < high)"
    ),
    Mutant("weights masked above alone", CORRECTION, "mask & (weight >= low) &", "mask &"),
    Mutant("weights masked below alone", CORRECTION, " & (weight <= high), weight", ", weight"),
    Mutant("weights masked to one", CORRECTION, "(weight <= high), weight", "(weight <= high), 1.0"),
    Mutant(
        "output weights masked token by token",
        CORRECTION,
        "return _within(_sequence_weight(log_weight, mask)",
        "return _within(_weight(log_weight, mask)",
    ),
    Mutant(
        "output weights without a lower bound",
        CORRECTION,
        "_sequence_weight(log_weight, mask).clamp(correction_low, correction_high)",
        "_sequence_weight(log_weight, mask).clamp(max=correction_high)",
    ),
    Mutant(
        "output weights without an upper bound",
        CORRECTION,
        "_sequence_weight(log_weight, mask).clamp(correction_low, correction_high)",
        "_sequence_weight(log_weight, mask).clamp(min=correction_low)",
    ),
    Mutant(
        "output weights outside the mask",
        CORRECTION,
        "torch.where(mask, _sequence_weight(log_weight, mask).clamp(correction_low, correction_high), 0.0)",
        "_sequence_weight(log_weight, mask).clamp(correction_low, correction_high)",
    ),
    Mutant("an output's mean for its product", CORRECTION, ".sum(dim=1, keepdim=True)", ".mean(dim=1, keepdim=True)"),
    Mutant("the batch's product", CORRECTION, ".sum(dim=1, keepdim=True)", ".sum()"),
    Mutant(
        "an output's weight of its padding",
        CORRECTION,
        "torch.exp(torch.where(mask, log_weight.detach(), 0.0).sum(",
        "torch.exp(log_weight.detach().sum(",
    ),
    Mutant("a gradient through a token's weight", CORRECTION, "log_weight.detach(), 0.0))\n", "log_weight, 0.0))\n"),
    Mutant(
        "a gradient through an output's weight", CORRECTION, "log_weight.detach(), 0.0).sum(", "log_weight, 0.0).sum("
    ),
    Mutant(
        "a token's weight turned round",
        CORRECTION,
        "return torch.exp(torch.where(mask, log_weight.detach(), 0.0))\n",
        "return torch.exp(-torch.where(mask, log_weight.detach(), 0.0))\n",
    ),
    Mutant(
        "an output's weight turned round",
        CORRECTION,
        "torch.exp(torch.where(mask, log_weight.detach(), 0.0).sum(",
        "torch.exp(-torch.where(mask, log_weight.detach(), 0.0).sum(",
    ),
    Mutant(
        "truncated outputs not marked",
        CORRECTION,
        "@over_whole_output\ndef sequence_truncated",
        "def sequence_truncated",
    ),
    Mutant("masked outputs not marked", CORRECTION, "@over_whole_output\ndef sequence_masked", "def sequence_masked"),
    Mutant("the smaller error", VALUE, "torch.maximum(error,", "torch.minimum(error,"),
    Mutant(
        "the clipped error alone",
        VALUE,
        "return torch.maximum(error, (near - returns).square())",
        "return (near - returns).square()",
    ),
    Mutant("the values never clipped", VALUE, "(values - old).clamp(-clip, clip)", "(values - old)"),
    Mutant(
        "the values clipped about zero",
        VALUE,
        "near = old + (values - old).clamp(-clip, clip)",
        "near = values.clamp(-clip, clip)",
    ),
    Mutant("the values clipped on one side", VALUE, ".clamp(-clip, clip)", ".clamp(max=clip)"),
    Mutant(
        "the values clipped about the returns",
        VALUE,
        "near = old + (values - old)",
        "near = returns + (values - returns)",
    ),
    Mutant(
        "half the squared error",
        VALUE,
        "error = (values - returns).square()",
        "error = (values - returns).square() / 2",
    ),
    Mutant(
        "the error against the old values",
        VALUE,
        "error = (values - returns).square()",
        "error = (old - returns).square()",
    ),
    Mutant("the critic's padding", VALUE, "torch.where(mask, part, 0.0) for part", "part for part"),
    Mutant(
        "the error against the returns' share",
        VALUE,
        "return 1 - float((returns - values)",
        "return float((returns - values)",
    ),
    Mutant("the variance of the values", VALUE, "float((returns - values).var())", "float(values.var())"),
    Mutant(
        "the mean square for the variance",
        VALUE,
        "float((returns - values).var())",
        "float((returns - values).square().mean())",
    ),
    Mutant("equal returns divided by zero", VALUE, "if spread > 0 else", "if spread >= 0 else"),
    Mutant("one return has a spread", VALUE, "if len(returns) > 1 else 0.0", "if len(returns) > 0 else 0.0"),
    Mutant(
        "k3_plus with the gradient of k3",
        LOGPROBS,
        "return right - right.detach() + k3(logprobs, ref_logprobs).detach()",
        "return k3(logprobs, ref_logprobs)",
    ),
    Mutant(
        "k3_plus with both gradients", LOGPROBS, "+ k3(logprobs, ref_logprobs).detach()", "+ k3(logprobs, ref_logprobs)"
    ),
    Mutant(
        "k3_plus with the value of k2",
        LOGPROBS,
        "return right - right.detach() + k3(logprobs, ref_logprobs).detach()",
        "return right",
    ),
    Mutant(
        "k3_plus with the gradient of k1",
        LOGPROBS,
        "right = k2(logprobs, ref_logprobs)",
        "right = k1(logprobs, ref_logprobs)",
    ),
    Mutant("k3_weighted without its weight", LOGPROBS, "torch.exp(logprobs - old_logprobs) * k3", "k3"),
    Mutant(
        "k3_weighted with a weight held constant",
        LOGPROBS,
        "torch.exp(logprobs - old_logprobs) * k3",
        "torch.exp(logprobs - old_logprobs).detach() * k3",
    ),
    Mutant(
        "k3_weighted turned round",
        LOGPROBS,
        "torch.exp(logprobs - old_logprobs) * k3",
        "torch.exp(old_logprobs - logprobs) * k3",
    ),
    Mutant(
        "k1 weighted", LOGPROBS, "torch.exp(logprobs - old_logprobs) * k3", "torch.exp(logprobs - old_logprobs) * k1"
    ),
)
