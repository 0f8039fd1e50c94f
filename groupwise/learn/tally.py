"""What a step's updates add up to: sums over tokens, of which the step's metrics are means."""

from dataclasses import dataclass

import torch
from torch import Tensor

from groupwise.learn.ranks import Ranks
from groupwise.objective.surrogate import Diagnostics

SUMS = (
    *("tokens", "objective", "entropy", "kl", "ratio", "clipped_low", "clipped_high", "gap_tokens", "gap"),
    *("importance", "importance_squares", "weight", "dropped", "value_tokens", "value_loss"),
)
"""Fields that add up over ranks."""


@dataclass
class Tally:
    """Sums over the tokens of a step's updates: `tokens` of the policy's loss, `value_tokens` of the critic's.

    halvings: how often micro-batches did not fit into memory. cut_short: what ended the updates after some of them.
    """

    tokens: int = 0
    objective: float = 0.0
    entropy: float = 0.0
    kl: float = 0.0
    ratio: float = 0.0
    ratio_max: float = 0.0
    clipped_low: float = 0.0
    clipped_high: float = 0.0
    gap_tokens: int = 0
    gap: float = 0.0
    gap_max: float = 0.0
    importance: float = 0.0
    importance_squares: float = 0.0
    weight: float = 0.0
    dropped: float = 0.0
    grad_norm: float = 0.0
    value_tokens: int = 0
    value_loss: float = 0.0
    critic_grad_norm: float = 0.0
    updates: int = 0
    halvings: int = 0
    cut_short: BaseException | None = None

    def add(self, of_tokens: Diagnostics, *, loss: float, entropies: Tensor, gap: Tensor, mask: Tensor) -> None:
        """gap: log pi of the policy - log pi of the sampler, [B, T] nats; counted in the step's first update alone.

        After it the policy has moved, and that is no fault of the sampler's.
        """
        self.tokens += int(mask.sum())
        self.objective -= loss
        self.entropy += float(torch.where(mask, entropies, 0.0).sum())
        self.kl += float(of_tokens.kl.sum())
        self.ratio += float(torch.where(mask, of_tokens.ratio, 0.0).sum())
        self.ratio_max = max(self.ratio_max, float(torch.where(mask, of_tokens.ratio, 0.0).max()))
        self.clipped_low += float(of_tokens.clipped_low.sum())
        self.clipped_high += float(of_tokens.clipped_high.sum())
        if self.updates == 0:
            gap = gap[mask].cpu().double()  # Apple's GPU has no float64
            self.gap_tokens += len(gap)
            self.gap += float(gap.abs().sum())
            self.gap_max = max(self.gap_max, float(gap.abs().max()))
            self.importance += float(gap.exp().sum())
            self.importance_squares += float((2 * gap).exp().sum())
        self.weight += float(of_tokens.weights.sum())
        self.dropped += float((mask & (of_tokens.weights == 0)).sum())

    def over(self, ranks: Ranks) -> "Tally":
        """The sums over all ranks, in place; what every rank counts alike (updates, halvings, norms) stays."""
        if ranks.count == 1:
            return self
        own = torch.tensor([float(getattr(self, name)) for name in SUMS], dtype=torch.float64)
        for name, total in zip(SUMS, ranks.sum(own).tolist(), strict=True):
            setattr(self, name, type(getattr(self, name))(total))
        self.ratio_max, self.gap_max = ranks.most(self.ratio_max), ranks.most(self.gap_max)
        return self

    def metrics(self, *, with_kl: bool, corrected: bool, with_critic: bool) -> dict[str, float]:
        """Means over tokens; nothing of what was not computed, since a 0 would be read as measured."""
        halved = {"memory/halvings": float(self.halvings)} if self.halvings else {}
        if not self.tokens and not self.value_tokens:
            return {"grad_norm": 0.0, **halved}
        critic = {
            "critic/loss": self.value_loss / max(1, self.value_tokens),
            "critic/grad_norm": self.critic_grad_norm / max(1, self.updates),
        }
        return {
            **self._of_policy(with_kl=with_kl, corrected=corrected),
            "grad_norm": self.grad_norm / max(1, self.updates),
            **(critic if with_critic else {}),
            **halved,
        }

    def _of_policy(self, *, with_kl: bool, corrected: bool) -> dict[str, float]:
        if not self.tokens:
            return {}
        correction = {"correction/weight_mean": self.weight, "correction/dropped": self.dropped}
        per_token = {
            "entropy": self.entropy,
            "ratio/mean": self.ratio,
            "clip/low": self.clipped_low,
            "clip/high": self.clipped_high,
            **({"kl": self.kl} if with_kl else {}),
            **(correction if corrected else {}),
        }
        return {name: total / self.tokens for name, total in per_token.items()} | {
            "objective": self.objective / max(1, self.updates),
            "ratio/max": self.ratio_max,
            "sampler/gap_mean": self.gap / self.gap_tokens,
            "sampler/gap_max": self.gap_max,
            "sampler/ess": self.importance**2 / (self.gap_tokens * self.importance_squares),
        }
