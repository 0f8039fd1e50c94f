"""A loss of your own: the clip of PPO that leaks. `python examples/own_loss.py` checks it and trains with it.

Past its bound a token of `clip` has no gradient until the next rollout, so one that has gone too far stays there. Here
it keeps a share of its gradient, `leak`. The range is asymmetric, as in DAPO: good tokens may rise further than bad
ones may fall.
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

import groupwise
from groupwise.objective.losses import log_ratio


def leaky_clip(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    leak: float = 0.1,
) -> Tensor:
    """-min(ratio A, bounded A), bounded = clamp(ratio) + leak (ratio - clamp(ratio)), per token.

    logprobs, old_logprobs: [B, T] nats; advantages, mask: [B, T]. leak: from 0, which is `clip`, to 1, no clip at all.
    Returns [B, T], in units of the advantages; 0 outside the mask.
    """
    advantages = torch.where(mask, advantages, 0.0)  # outside the mask may be anything, nan too
    ratio = torch.exp(log_ratio(logprobs, old_logprobs, mask))
    inside = ratio.clamp(1 - clip_low, 1 + clip_high)
    bounded = inside + leak * (ratio - inside)
    return -torch.minimum(ratio * advantages, bounded * advantages)


def main() -> None:
    from groupwise.run.check import contracts

    name = f"{Path(__file__).resolve()}:leaky_clip"
    for contract, what in contracts("losses", name, []).items():
        print(f"{contract}: {what or 'ok'}")
    rewards: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        words = (f"objective.loss={name}", "objective.params.leak=0.2", "update.outputs_per_update=128")
        small = ("update.steps=60", "questions.heldout_size=0")
        follow = lambda step, metrics: rewards.append(metrics["reward/mean"])  # noqa: E731
        groupwise.train("tiny", *words, *small, run=Path(folder, "run"), on_step=follow)
    print(f"mean reward of the first step {rewards[0]:.2f}, of the last {rewards[-1]:.2f}")


if __name__ == "__main__":
    main()
