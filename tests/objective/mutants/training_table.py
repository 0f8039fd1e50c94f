"""Wrong versions of the scores and gradients that training computes chunk by chunk.

Their readable twins are `token_logprobs` and `entropy` of groupwise/objective/logprobs.py.
"""

from tests.objective.mutants.mutant import Mutant

SCORES = "model/linear_logprobs.py"

OF_TRAINING = (
    Mutant("scores without the maximum", SCORES, "logits.sub_(logits.amax(-1, keepdim=True))", "logits"),
    Mutant("scores not normalised", SCORES, "return chosen - log_total, entropies", "return chosen, entropies"),
    Mutant("scores' entropy turned round", SCORES, "log_total - mean", "mean - log_total"),
    Mutant(
        "scores' entropy of unnormalised weights",
        SCORES,
        "finfo(below.dtype).min / 2)) / total",
        "finfo(below.dtype).min / 2))",
    ),
    Mutant("scores' dropped tokens are nan", SCORES, "below.clamp_(min=torch.finfo(below.dtype).min / 2)", "below"),
    Mutant("scores as narrow as the logits", SCORES, "_TokenScores.apply(wide(logits)", "_TokenScores.apply(logits"),
    Mutant(
        "scores kept as narrow as the states",
        SCORES,
        "Scored(*(wide(hidden.new_empty(len(tokens)))",
        "Scored(*(hidden.new_empty(len(tokens))",
    ),
    Mutant("scores' slope of unnormalised weights", SCORES, "weights.div_(total[:, None])", "weights"),
    Mutant("scores' slope turned round", SCORES, "p.mul_(-by_logprob[:, None])", "p.mul_(by_logprob[:, None])"),
    Mutant("scores' slope of the token alone", SCORES, "result = p.mul_(-by_logprob[:, None])", "result = p.mul_(0.0)"),
    Mutant(
        "scores' slope without the token",
        SCORES,
        "return result.scatter_add_(-1, tokens[:, None], by_logprob[:, None]), None, None",
        "return result, None, None",
    ),
    Mutant(
        "scores' entropy has no slope",
        SCORES,
        "by_logprob[:, None] + by_entropy[:, None] * (",
        "by_logprob[:, None] + 0 * (",
    ),
    Mutant("scores' entropy slope without the entropy", SCORES, "(log_p + entropies[:, None])", "log_p"),
    Mutant("scores' entropy slope of unnormalised log p", SCORES, "below.sub_(total.log()[:, None])", "below"),
    Mutant(
        "entropy gradients dropped",
        SCORES,
        "with gradients_in_place():\n            if entropy_gradient:",
        "with gradients_in_place():\n            if False:",
    ),
    Mutant(
        "every loss taken for one per token by the last layer",
        SCORES,
        "if per_token:\n        found",
        "if True:\n        found",
    ),
    Mutant(
        "a chunk asked before its scores are known",
        SCORES,
        "(values.detach() for values in scores)",
        "(values.detach() * 0 for values in scores)",
    ),
    Mutant("a chunk's slope of all tokens", SCORES, "slope[chunk] = states.grad", "slope[: len(states)] = states.grad"),
    Mutant(
        "a token left out between chunks",
        SCORES,
        "slice(start, start + size)",
        "slice(start, start + max(1, size - 1))",
    ),
    Mutant(
        "the last chunk left out", SCORES, "range(0, len(tokens), size)", "range(0, max(1, len(tokens) - size), size)"
    ),
    Mutant(
        "the logits of other tokens",
        SCORES,
        "logits(states, tokens[chunk]), tokens[chunk]",
        "logits(states, tokens[: len(states)]), tokens[chunk]",
    ),
)
