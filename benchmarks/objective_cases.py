"""The tensors on which objectives are compared with those of other systems: seeded, float64, small."""

from dataclasses import dataclass

import torch
from torch import Tensor

QUESTIONS, GROUP_SIZE, TOKENS = 6, 4, 9
MAX_TOKENS = 12
GROUP = torch.arange(QUESTIONS).repeat_interleave(GROUP_SIZE)
DISCOUNT, GAE_LAMBDA = 0.9, 0.8
Batch = dict[str, Tensor]


def batches() -> dict[str, Batch]:
    """Outputs of all questions with ratios and advantages of several kinds.

    far: ratios from about 0.1 to 10; near: within 0.003 of 1, as GSPO's bounds are; holed: with gaps in the outputs;
    uneven: an advantage of each token's own; on_policy: ratio 1.
    """
    far, generator = drawn(seed=0, spread=0.8), torch.Generator().manual_seed(2)
    gaps = torch.rand(far["mask"].shape, generator=generator) < 0.3
    gaps[:, 0] = False
    uneven = torch.randn(far["mask"].shape, generator=generator, dtype=torch.float64)
    return {
        "far": far,
        "near": drawn(seed=1, spread=1e-3),
        "holed": far | {"mask": far["mask"] & ~gaps},
        "uneven": far | {"advantages": uneven},
        "on_policy": far | {"old_logprobs": far["logprobs"]},
    }


def drawn(*, seed: int, spread: float) -> Batch:
    """Outputs of 1 to TOKENS tokens, [B, T]; spread: the standard deviation of log(pi / pi_old), nats."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(GROUP), TOKENS)

    def uniform() -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    def normal() -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    logprobs = -0.1 - 3 * uniform()
    lengths = torch.randint(1, TOKENS + 1, (shape[0], 1), generator=generator)
    old_logprobs = logprobs - spread * normal()
    ref_logprobs = logprobs + uniform() - 0.5
    advantages = torch.randn(shape[0], 1, generator=generator, dtype=torch.float64).expand(shape)
    return {
        "logprobs": logprobs,
        "old_logprobs": old_logprobs,
        "ref_logprobs": ref_logprobs,
        "advantages": advantages,
        "mask": torch.arange(TOKENS) < lengths,
        "sampled_logprobs": (old_logprobs - spread * normal()).float().double(),  # TRL reads them in fp32
        "entropies": 2 * uniform(),
    }


def outcomes() -> dict[str, Batch]:
    """What advantages are made of.

    all: every output has a reward, and one group's are equal; holed: the same on outputs with gaps; missing: some
    rewards are nan, which verl does not know. rewards: [B]; reward_parts: [B, 2], two other rewards, each equal in a
    group of its own; values, values_now: [B, T], the critic's before and after an update, and what it is to learn.
    """
    generator = torch.Generator().manual_seed(3)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    rewards = uniform(len(GROUP))
    rewards[GROUP == 2] = 0.3
    rewards[GROUP == 3] = torch.tensor([1, 0, 0, 1], dtype=torch.float64)
    parts = uniform(len(GROUP), 2)
    parts[GROUP == 1, 0], parts[GROUP == 2, 1] = 1.0, 0.3
    shape = (len(GROUP), TOKENS)
    values = uniform(*shape)
    given = batches()
    everything = {name: given["far"][name] for name in ("old_logprobs", "ref_logprobs", "mask")} | {
        "group": GROUP,
        "rewards": rewards,
        "reward_parts": parts,
        "reward_weights": torch.tensor([1.0, 0.5], dtype=torch.float64),
        "teacher_logprobs": given["far"]["old_logprobs"] + uniform(*shape) - 0.5,
        "values": values,
        "values_now": values + uniform(*shape) - 0.5,
        "returns": 2 * uniform(*shape),
    }
    absent = torch.tensor([0, 5, 6, 13, 17, 18, 19])  # of group 4 one is left
    missing = {name: everything[name].clone() for name in ("rewards", "reward_parts")}
    missing["rewards"][absent], missing["reward_parts"][absent] = torch.nan, torch.nan
    missing["reward_parts"][22, 1] = torch.nan  # one of the two abstained
    return {"all": everything, "holed": everything | {"mask": given["holed"]["mask"]}, "missing": everything | missing}


@dataclass(frozen=True)
class Steered:
    """Coefficients that follow a target, and what is measured step after step, nats a token."""

    kl_coef: float = 0.05
    kl_target: float = 0.1
    kl_horizon: float = 1000.0
    kl: tuple[float, ...] = (0.101, 0.5, 0.09, 0.0, 0.11, 0.1)
    """Past both bounds of the coefficient's change, and between them."""
    entropy_coef: float = 0.01
    entropy_target: float = 0.5
    entropy_step: float = 0.004
    entropy: tuple[float, ...] = (0.6, 0.7, 0.4, 0.3, 0.55, 0.8, 0.9, 0.2)
    """Over the target and under it; the weight comes down to 0."""
