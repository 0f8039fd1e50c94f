"""A robot and three paths: GRPO on the smallest policy there is, with every number in between.

The robot tries paths A, B and C three times each and arrives 2, 1 and 3 times. First those nine tries are one group:
mean, standard deviation, advantages, and a step of the policy by hand-checkable numbers. Then the robot goes on by
itself: thirty tries a step drawn from its policy, each step held by the clip, and the whole by a KL term to the policy
it started from, so that it prefers C and goes on trying A and B.

    python examples/robot_paths.py --out robot_paths.png
"""

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from groupwise.objective.advantage import group_relative
from groupwise.objective.logprobs import k3, token_logprobs
from groupwise.objective.losses import Denominators, clip, per_output
from groupwise.objective.surrogate import Objective, diagnostics, policy_loss

PATHS = "ABC"
ARRIVES = torch.tensor([2 / 3, 1 / 3, 1.0], dtype=torch.float64)
TRIED = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
ARRIVED = torch.tensor([1, 1, 0, 1, 0, 0, 1, 1, 1], dtype=torch.float64)
TRIES_PER_STEP, STEPS, UPDATES, LEARNING_RATE = 30, 12, 40, 0.05

# kl_coef is large beside a language model's 0.04: here the policy can reach the optimum of the objective, and the KL
# alone decides how much of A and B is left there.
OBJECTIVE = Objective(group_relative, clip, per_output, k3, kl_coef=1.0, parameters={"clip_low": 0.2, "clip_high": 0.2})


@dataclass(frozen=True)
class Step:
    """One step of the robot: what it tried, and its policy before and after, [3] each."""

    tries: Tensor
    arrivals: Tensor
    before: Tensor
    after: Tensor
    clipped: float
    """Share of the tries at a binding bound when the step ended."""
    kl: float
    """KL(after || start), nats, exact."""


def main() -> None:
    parser = argparse.ArgumentParser(description="GRPO on a robot that chooses between three paths.")
    parser.add_argument("--out", default="robot_paths.png", help="where the plot goes")
    out = parser.parse_args().out
    replay()
    steps = train()
    print_steps(steps)
    plot(steps, out)
    print(f"plot: {out}")


def logprobs(logits: Tensor, paths: Tensor) -> Tensor:
    """log pi of each try, [G, 1]: an output is one token, the path. logits: [3]; paths: [G]."""
    return token_logprobs(logits.expand(len(paths), 1, 3), paths[:, None])


def given(old_logits: Tensor, start_logits: Tensor, paths: Tensor, rewards: Tensor) -> dict[str, Any]:
    """What the objective is given for one group of tries, beside the policy's own log-probabilities. rewards: [G]."""
    mask = torch.ones_like(paths[:, None], dtype=torch.bool)
    return {
        "old_logprobs": logprobs(old_logits, paths),
        "ref_logprobs": logprobs(start_logits, paths),
        "advantages": group_relative(rewards, torch.zeros_like(paths), mask),
        "mask": mask,
    }


def surrogate(logits: Tensor, tries: dict[str, Any], paths: Tensor) -> Tensor:
    """The objective's loss for one group of tries. logits: [3]."""
    size = Denominators.of(tries["mask"], max_tokens=1)
    return policy_loss(OBJECTIVE, logprobs(logits, paths), entropies=None, denominators=size, **tries)


def replay() -> None:
    """The nine tries as one group, and one gradient step of size 1 from a robot without preference."""
    print("Nine tries, one group")
    for index, path in enumerate(PATHS):
        mine = ARRIVED[index == TRIED]
        print(f"  path {path}: {int(mine.sum())} of {len(mine)} arrive, {100 * mine.mean():.2f} %")
    advantages = group_relative(ARRIVED, torch.zeros_like(TRIED), torch.ones(9, 1, dtype=torch.bool))[:, 0]
    print(f"  mean {ARRIVED.mean():.4f}, standard deviation {ARRIVED.std():.4f}")
    print(f"  advantage of an arrival {advantages[0]:+.4f}, of a failure {advantages[2]:+.4f}")
    start = torch.zeros(3, dtype=torch.float64)
    logits = start.clone().requires_grad_()
    loss = surrogate(logits, given(start, start, TRIED, ARRIVED), TRIED)
    (gradient,) = torch.autograd.grad(loss, logits)
    before, after = start.softmax(0), (start - gradient).softmax(0)
    print("  path  sum of advantages  gradient  before    after     ratio")
    for index, path in enumerate(PATHS):
        total = advantages[index == TRIED].sum()
        numbers = f"{before[index]:8.2%}  {after[index]:8.2%}  {after[index] / before[index]:.3f}"
        print(f"  {path}     {_zero(total):+17.4f}  {_zero(gradient[index]):+8.4f}  {numbers}")


def train(seed: int = 0) -> list[Step]:
    """Steps of the robot from a policy without preference, each with UPDATES gradient steps on its own tries."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.zeros(3, dtype=torch.float64)
    logits, steps = start.clone(), []
    for _ in range(STEPS):
        old = logits.clone()
        edges = old.softmax(0).cumsum(0)[:-1]
        paths = torch.bucketize(torch.rand(TRIES_PER_STEP, generator=generator, dtype=torch.float64), edges)
        chance = torch.rand(TRIES_PER_STEP, generator=generator, dtype=torch.float64)
        rewards = (chance < ARRIVES[paths]).double()
        tries = given(old, start, paths, rewards)
        for _ in range(UPDATES):
            last = logits = logits.detach().requires_grad_()
            loss = surrogate(logits, tries, paths)
            logits = (logits - LEARNING_RATE * torch.autograd.grad(loss, logits)[0]).detach()
        found = diagnostics(OBJECTIVE, logprobs(last, paths), **tries)
        after = logits.softmax(0)
        steps.append(
            Step(
                tries=torch.bincount(paths, minlength=3),
                arrivals=torch.bincount(paths, weights=rewards, minlength=3),
                before=old.softmax(0),
                after=after,
                clipped=(found.clipped_low | found.clipped_high).double().mean().item(),
                kl=(after * (after.log() - start.log_softmax(0))).sum().item(),
            )
        )
    return steps


def print_steps(steps: list[Step]) -> None:
    print(f"\n{STEPS} steps of {TRIES_PER_STEP} tries, clip 0.2, KL to the start with weight {OBJECTIVE.kl_coef:g}")
    print("  step  tries A B C   arrived A B C   A       B       C       ratio of C  clipped  KL to start")
    for number, step in enumerate(steps, 1):
        tries = " ".join(f"{int(n):3d}" for n in step.tries)
        arrived = " ".join(f"{int(n):3d}" for n in step.arrivals)
        policy = " ".join(f"{p:7.2%}" for p in step.after)
        ratio = step.after[2] / step.before[2]
        print(f"  {number:4d}  {tries}   {arrived}   {policy}  {ratio:10.3f}  {step.clipped:7.0%}  {step.kl:11.4f}")


def plot(steps: list[Step], out: str) -> None:
    """The probability of each path over the steps, saved as a picture."""
    import matplotlib

    matplotlib.use("Agg")  # a file needs no screen
    from matplotlib import pyplot

    policy = torch.stack([steps[0].before, *(step.after for step in steps)])
    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    for index, path in enumerate(PATHS):
        axes.plot(policy[:, index].numpy(), marker="o", label=f"{path}: arrives {ARRIVES[index]:.0%}")
    axes.set(xlabel="step", ylabel="probability of the path", ylim=(0, 1), title="The robot prefers C, and tries all")
    axes.legend()
    figure.savefig(out, dpi=150)
    pyplot.close(figure)


def _zero(value: Tensor) -> float:
    """The number without a rounding's minus sign before a printed zero."""
    return round(value.item(), 6) + 0.0


if __name__ == "__main__":
    main()
