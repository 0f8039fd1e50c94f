"""Eight answers to one small sum, from a real model, with every number of a GRPO step in between.

The prompt is `Solve y = 2x + 1 for x = 2, y = ` and the right answer 5. The model continues it by one token, eight
times, in two groups of four. Each answer is rewarded and compared with its group; the loss is printed term by term, one
optimizer step is made, and the same terms are printed again with the new policy. Everything is computed by groupwise's
own functions, rounded only where it is printed.

    python examples/worked_example.py
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groupwise.config import ModelConfig, ObjectiveConfig, UpdateConfig
from groupwise.data import Group, Message, Output, Question, Reward, Sample, Sampling
from groupwise.engines.base import stream, uniforms
from groupwise.engines.draw import inverse_cdf
from groupwise.learn.optimizer import make_optimizer
from groupwise.model.batch import Rollouts
from groupwise.model.loading import load_policy
from groupwise.model.policy import Policy
from groupwise.model.tokenizer import load_tokenizer
from groupwise.objective.advantage import group_relative
from groupwise.objective.logprobs import sampling_logits, token_logprobs
from groupwise.objective.losses import Denominators
from groupwise.objective.surrogate import Objective, diagnostics, policy_loss
from groupwise.rewards.answer import exact
from groupwise.run.resolve import resolve

PROMPT, ANSWER = "Solve y = 2x + 1 for x = 2, y = ", "5"
GROUPS, GROUP_SIZE = 2, 4
SAMPLING = Sampling(max_new_tokens=1, temperature=0.7, top_k=10)
LEARNING_RATE = 2e-6
SEED = 91
"""The first seed, from 0 on, with which SmolLM2 gives each group a right answer; with most seeds neither has one."""


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="One GRPO step on eight single-token answers, number by number.")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a model folder, built-in or hub name")
    parser.add_argument("--seed", type=int, default=SEED, help="of the eight draws")
    chosen = parser.parse_args(words)
    print_by_hand()
    config = ModelConfig(path=chosen.model, device="cpu")  # so that the figures are the same everywhere
    policy = load_policy(config, load_tokenizer(config))
    question_tokens = policy.tokenizer.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    logits = print_next_token(policy, question_tokens)
    groups = draw(policy, question_tokens, logits, chosen.seed)
    print_groups(groups)
    rollouts = Rollouts.of(groups, policy.device)
    objective = resolve(ObjectiveConfig(preset="grpo"))
    advantages = objective.advantage(rollouts.rewards, rollouts.group, rollouts.output_mask)
    optimizer = make_optimizer(policy, UpdateConfig(steps=1, learning_rate=LEARNING_RATE))

    old = logprobs_of(policy, rollouts)
    batch = given(rollouts, advantages, old)
    print_terms("4. On policy: nothing has changed since the draws", objective, logprobs_of(policy, rollouts), batch)
    gap = (old - rollouts.sampled_logprobs).abs().max()
    print(f"  the sampler's log-probabilities and the trainer's differ by {gap:.0e} at most\n")

    policy.backward(
        rollouts,
        rollouts.output_mask,
        sampling=SAMPLING,
        loss=lambda logprobs, _: surrogate(objective, logprobs, batch),
    )
    norm = torch.nn.utils.get_total_norm([p.grad for p in policy.model.parameters() if p.grad is not None])
    optimizer.step()
    title = f"5. After one AdamW step, learning rate {LEARNING_RATE:g}, gradient norm {norm:.3f}"
    print_terms(title, objective, logprobs_of(policy, rollouts), batch)
    print_change(policy, question_tokens, logits)


def print_by_hand() -> None:
    """Eight answers, four of them right, as one group."""
    rewards = torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0], dtype=torch.float64)
    advantages = group_relative(rewards, torch.zeros(8, dtype=torch.long), torch.ones(8, 1, dtype=torch.bool))
    print("1. By hand: eight answers, four of them right")
    print(f"  rewards        {_row(rewards, '{:.0f}')}")
    print(f"  mean {rewards.mean():.2f}, standard deviation {rewards.std():.2f} (n - 1)")
    print(f"  advantages     {_row(advantages[:, 0], '{:+.2f}')}\n")


@torch.no_grad()
def print_next_token(policy: Policy, question_tokens: list[int]) -> Tensor:
    """Logits [V] of the distribution that the answers are drawn from, and what it gives to each token."""
    raw = policy.model(torch.tensor([question_tokens], device=policy.device)).logits[0, -1].float()
    logits = sampling_logits(raw, temperature=SAMPLING.temperature, top_k=SAMPLING.top_k)
    p = logits.softmax(0)
    ends = p.cumsum(0)
    print(f"2. What comes after {PROMPT!r} ({len(question_tokens)} tokens)?")
    print(
        f"  temperature {SAMPLING.temperature}, top-k {SAMPLING.top_k}; a draw in a token's interval draws that token"
    )
    print("  token         logit  probability  interval")
    for token in logits.topk(SAMPLING.top_k).indices.tolist():
        interval = f"{ends[token] - p[token]:.4f} to {ends[token]:.4f}"
        print(f"  {_shown(policy, token):<10} {raw[token]:8.3f}  {p[token]:11.2%}  {interval}")
    right = float(p[_id(policy, ANSWER)])
    mixed = 1 - (1 - right) ** GROUP_SIZE - right**GROUP_SIZE
    print(f"  {ANSWER!r} is right and has {right:.2%}, so a group of {GROUP_SIZE} holds right and wrong answers with")
    print(
        f"  probability {mixed:.1%}, and both groups do with {mixed**GROUPS:.2%}; seed {SEED} is the first with which"
    )
    print("  both do for SmolLM2\n")
    return logits


def draw(policy: Policy, question_tokens: list[int], logits: Tensor, seed: int) -> list[Group]:
    """Eight answers of one token, each from its own random stream, in groups, with their rewards."""
    question = Question("worked-example", (Message("user", PROMPT),), ANSWER)
    count = GROUPS * GROUP_SIZE
    streams = np.array([stream(seed, 0, question.id, number) for number in range(count)], dtype=np.uint64)
    draws = uniforms(streams, 0)
    tokens = inverse_cdf(logits.softmax(-1).expand(count, -1), torch.from_numpy(draws).to(logits))
    logprobs = token_logprobs(logits.expand(count, -1), tokens)
    print(f"3. Eight answers (seed {seed}) in {GROUPS} groups of {GROUP_SIZE}")
    print("  answer  draw    token       log-probability  reward")
    samples = []
    for number, (token, logprob) in enumerate(zip(tokens.tolist(), logprobs.tolist(), strict=True)):
        output = Output(
            question_tokens=np.array(question_tokens, dtype=np.int32),
            tokens=np.array([token], dtype=np.int32),
            sampled=np.ones(1, dtype=bool),
            logprobs=np.array([logprob], dtype=np.float32),
            text=policy.tokenizer.decode([token]),
            finish="length",
        )
        reward = exact(output.text, question)
        print(f"  {number + 1:6d}  {draws[number]:.4f}  {_shown(policy, token):<10}  {logprob:15.4f}  {reward:6.0f}")
        samples.append(Sample(output, Reward(reward)))
    return [Group(question, tuple(samples[start : start + GROUP_SIZE])) for start in range(0, count, GROUP_SIZE)]


def print_groups(groups: list[Group]) -> None:
    """Mean, standard deviation and advantages of each group; in words where there is nothing to compare."""
    for number, group in enumerate(groups, 1):
        rewards = torch.tensor(group.rewards, dtype=torch.float64)
        index, mask = torch.zeros(GROUP_SIZE, dtype=torch.long), torch.ones(GROUP_SIZE, 1, dtype=torch.bool)
        advantages = group_relative(rewards, index, mask)[:, 0]
        print(
            f"  group {number}: rewards {_row(rewards, '{:.0f}')}  mean {rewards.mean():.4f}  std {rewards.std():.4f}"
        )
        print(f"           advantages {_row(advantages, '{:+.4f}')}")
        if not group.has_signal:
            what = "right" if rewards[0] else "wrong"
            print(f"           all {what}: no answer is better than its siblings, every advantage is 0,")
            print("           and the group teaches nothing")
    print()


def logprobs_of(policy: Policy, rollouts: Rollouts) -> Tensor:
    """log pi of the answers under the policy as it is, [B, T] nats."""
    return policy.logprobs(rollouts, rollouts.output_mask, sampling=SAMPLING).logprobs


def given(rollouts: Rollouts, advantages: Tensor, old: Tensor) -> dict[str, Any]:
    """What the objective is given beside the policy's own log-probabilities. old: [B, T] nats, of the policy that drew.

    It stands for the reference too: at the first step of a run the two are the same policy.
    """
    return {"old_logprobs": old, "ref_logprobs": old, "advantages": advantages, "mask": rollouts.output_mask}


def surrogate(objective: Objective, logprobs: Tensor, batch: dict[str, Any]) -> Tensor:
    """The loss. logprobs: [B, T] nats, of the policy as it is."""
    size = Denominators.of(batch["mask"], SAMPLING.max_new_tokens)
    return policy_loss(objective, logprobs, entropies=None, denominators=size, **batch)


def print_terms(title: str, objective: Objective, logprobs: Tensor, batch: dict[str, Any]) -> None:
    """Each answer's ratio, clip and KL, and the loss that is their mean."""
    mask, found = batch["mask"], diagnostics(objective, logprobs, **batch)
    low, high = 1 - objective.parameters["clip_low"], 1 + objective.parameters["clip_high"]
    loss, beta = surrogate(objective, logprobs, batch), objective.kl_coef
    print(title)
    print(f"  loss of an answer = -min(ratio A, clip(ratio) A) + {beta:g} KL, clip to [{low:g}, {high:g}], KL by k3")
    print("  answer         A   ratio  clip(ratio)  ratio A  clip(ratio) A  bound holds         KL     loss")
    each = []
    for number, (advantage, ratio, kl) in enumerate(
        zip(batch["advantages"][mask].tolist(), found.ratio[mask].tolist(), found.kl[mask].tolist(), strict=True), 1
    ):
        clipped = min(max(ratio, low), high)
        binds = "yes" if clipped * advantage < ratio * advantage else "no"
        each.append(-min(ratio * advantage, clipped * advantage) + beta * kl)
        print(
            f"  {number:6d}  {advantage:+8.4f}  {ratio:6.4f}  {clipped:11.4f}  {ratio * advantage:+7.4f}  "
            f"{clipped * advantage:+13.4f}  {binds:>11}  {kl:9.6f}  {each[-1]:+7.4f}"
        )
    print(f"  loss {_zero(loss.item()):+.6f}, the mean of the last column {_zero(sum(each) / len(each)):+.6f}")


@torch.no_grad()
def print_change(policy: Policy, question_tokens: list[int], before: Tensor) -> None:
    """What the step did to the probability of the right answer."""
    raw = policy.model(torch.tensor([question_tokens], device=policy.device)).logits[0, -1].float()
    right = _id(policy, ANSWER)
    after = sampling_logits(raw, temperature=SAMPLING.temperature, top_k=SAMPLING.top_k)
    print(f"  probability of {ANSWER!r}: {before.softmax(0)[right]:.3%} -> {after.softmax(0)[right]:.3%}")


def _id(policy: Policy, text: str) -> int:
    return int(policy.tokenizer.tokenizer(text, add_special_tokens=False)["input_ids"][-1])


def _shown(policy: Policy, token: int) -> str:
    return repr(policy.tokenizer.tokenizer.decode([token]))


def _row(values: Tensor, form: str) -> str:
    return " ".join(form.format(value) for value in values.tolist())


def _zero(value: float) -> float:
    """The number without a rounding's minus sign before a printed zero."""
    return round(value, 6) + 0.0


if __name__ == "__main__":
    main()
