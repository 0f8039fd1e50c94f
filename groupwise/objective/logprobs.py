"""Log-probabilities, entropy and the KL estimators: the only file where states meet tokens, so the only shift.

Knows tensors; not where the logits come from.
"""

import math

import torch
from torch import Tensor


def predictors(states: Tensor) -> Tensor:
    """What predicts each token: entry t is states[:, t - 1], since a model's state at a token is about the next one.

    states: [B, T, ...], hidden states or logits. Returns the same shape; entry 0, which nothing predicts, is zeros.
    """
    return torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)


def sampling_logits(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    keep: Tensor | None = None,
) -> Tensor:
    """Logits of the distribution that tokens are drawn from, for the sampler and the trainer alike.

    logits / temperature, then top-k, top-p of what that left, and min-p (the order of Hugging Face's `generate`), with
    dropped tokens at -inf. The most likely token is never dropped, nor are those in `keep`: a token drawn under an
    older policy needs a finite log-probability under this one.
    logits: [..., V] nats; top_k 0, top_p 1 and min_p 0: no truncation; keep: [...] token ids. Returns [..., V], fp32 at
    least.
    """
    scaled = wide(logits)
    if temperature != 1.0:
        scaled = scaled / temperature
    if not top_k and top_p >= 1.0 and not min_p:
        return scaled
    kept = _kept(scaled.detach(), top_k, top_p, min_p)
    if keep is not None:
        kept = kept.scatter(-1, keep.unsqueeze(-1), True)
    return scaled.masked_fill(~kept, -math.inf)


def token_logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """log softmax(logits) at each token. logits: [..., V]; tokens: [...] ids. Returns [...] nats, fp32 at least."""
    return torch.log_softmax(wide(logits), dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def entropy(logits: Tensor) -> Tensor:
    """H = -sum_v p_v log p_v over the vocabulary. logits: [..., V], -inf where p is 0. Returns [...] nats."""
    log_p = torch.log_softmax(wide(logits), dim=-1)
    # where() before the product: 0 * -inf is nan, in the value and again in the gradient.
    log_p = torch.where(log_p == -math.inf, 0.0, log_p)
    p = torch.softmax(wide(logits), dim=-1)
    return -(p * log_p).sum(dim=-1)


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Unbiased estimate of KL(pi || ref) from tokens drawn from pi: log pi - log ref; may be negative.

    logprobs, ref_logprobs: [...] nats. Returns [...] nats. Its gradient has expectation 0, so as a loss it holds
    nothing near the reference (Schulman 2020, "Approximating KL divergence").
    """
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Biased, low-variance estimate of KL(pi || ref): (log pi - log ref)^2 / 2, whose gradient is unbiased.

    logprobs, ref_logprobs: [...] nats. Returns [...] nats (Schulman 2020).
    """
    return (logprobs - ref_logprobs).square() / 2


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Unbiased, never negative estimate of KL(pi || ref): ref/pi - log(ref/pi) - 1 (DeepSeekMath, equation 4).

    logprobs, ref_logprobs: [...] nats. Returns [...] nats. Its gradient has the expectation of KL(ref || pi)'s.
    """
    log_ratio = ref_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio


def k3_plus(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """The value of k3 with the gradient of k2, which is that of KL(pi || ref) on policy (verl's `k3+`).

    logprobs, ref_logprobs: [...] nats. Returns [...] nats.
    """
    right = k2(logprobs, ref_logprobs)
    return right - right.detach() + k3(logprobs, ref_logprobs).detach()


def k3_weighted(logprobs: Tensor, ref_logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """ratio k3, the ratio in the gradient too: unbiased in value and gradient, off policy as well (DeepSeek-V3.2).

    E over pi_old of (pi / pi_old) k3 is the token's KL(pi || ref), so its derivative is the KL's (arXiv:2512.02556,
    equation 7). logprobs, ref_logprobs, old_logprobs: [...] nats. Returns [...] nats. Pitfall: the ratio is not
    clipped, so a token that has become much likelier weighs much more.
    """
    return torch.exp(logprobs - old_logprobs) * k3(logprobs, ref_logprobs)


def wide(tensor: Tensor) -> Tensor:
    """The tensor in fp32, or in its own dtype if that is wider: bf16 rounds a log-probability of -20 by up to 0.06."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _kept(logits: Tensor, top_k: int, top_p: float, min_p: float) -> Tensor:
    """True for the tokens that truncation leaves. logits: [..., V], divided by the temperature. Returns [..., V]."""
    kept = torch.ones_like(logits, dtype=torch.bool)
    if top_k:
        kept = logits >= logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[..., -1:]
    if top_p < 1.0:
        ordered, order = logits.masked_fill(~kept, -math.inf).sort(dim=-1, descending=True, stable=True)
        p = ordered.softmax(dim=-1)
        short = p.cumsum(dim=-1) - p < top_p  # what is before this token is not yet enough
        kept = kept & torch.zeros_like(kept).scatter(-1, order, short)
    if min_p:
        kept = kept & (logits >= logits.amax(dim=-1, keepdim=True) + math.log(min_p))
    return kept
