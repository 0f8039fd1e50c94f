"""The tensors on which objectives are compared with those of other systems: seeded, float64, small."""

import torch
from torch import Tensor

QUESTIONS, GROUP_SIZE, TOKENS = 6, 4, 9
GROUP = torch.arange(QUESTIONS).repeat_interleave(GROUP_SIZE)
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

    logprobs = -0.1 - 3 * uniform()
    lengths = torch.randint(1, TOKENS + 1, (shape[0], 1), generator=generator)
    return {
        "logprobs": logprobs,
        "old_logprobs": logprobs - spread * torch.randn(shape, generator=generator, dtype=torch.float64),
        "ref_logprobs": logprobs + uniform() - 0.5,
        "advantages": torch.randn(shape[0], 1, generator=generator, dtype=torch.float64).expand(shape),
        "mask": torch.arange(TOKENS) < lengths,
    }


def rewards() -> dict[str, Tensor]:
    """all: every output has one, and one group's are equal; missing: some are nan, which verl does not know. [B]."""
    generator = torch.Generator().manual_seed(3)
    everything = torch.rand(len(GROUP), generator=generator, dtype=torch.float64)
    everything[GROUP == 2] = 0.3
    everything[GROUP == 3] = torch.tensor([1, 0, 0, 1], dtype=torch.float64)
    missing = everything.clone()
    missing[[0, 5, 6, 13, 17, 18, 19]] = torch.nan  # of group 4 one is left
    return {"all": everything, "missing": missing}
