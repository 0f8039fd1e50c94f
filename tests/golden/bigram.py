"""Ten seeded gradient steps of a tiny policy under a preset; `python -m tests.golden.bigram` rewrites losses.json.

The policy is an embedding, a tanh and a linear layer over eight tokens, in float64, and sees one token back. Rewards
count how often token 3 was drawn; as steps, one by one; as parts, beside how short the output is. The critic is a fixed
guess from the token before, and its own loss is not among the ten. The teacher is another policy of the kind. Only
torch.rand is drawn from, which is the same in every version of torch.
"""

import json
from pathlib import Path

import torch
from torch import Tensor

from groupwise import registry
from groupwise.objective.logprobs import entropy, predictors, token_logprobs
from groupwise.objective.losses import Denominators
from groupwise.objective.presets import Preset
from groupwise.objective.surrogate import Objective, called, kl_of, policy_loss
from groupwise.objective.token_advantage import token_rewards
from groupwise.run.resolve import objective_of

FILE = Path(__file__).parent / "losses.json"
VOCABULARY, WIDTH, MAX_TOKENS, END = 8, 6, 7, 0
QUESTIONS, GROUP_SIZE, ROLLOUTS, UPDATES = 3, 4, 5, 2
Weights = dict[str, Tensor]


def ten_losses(preset: Preset) -> list[float]:
    """The loss of each of ten plain gradient steps: five rollouts, two updates of each."""
    generator = torch.Generator().manual_seed(11)
    objective = objective_of(preset)
    weights = initial_weights(generator)
    reference = {name: weight.detach().clone() for name, weight in weights.items()}
    teacher = initial_weights(torch.Generator().manual_seed(12))
    losses = []
    for _ in range(ROLLOUTS):
        tokens, mask = sample(weights, generator)
        old_logprobs = token_logprobs(logits_of(weights, tokens), tokens).detach()
        ref_logprobs = token_logprobs(logits_of(reference, tokens), tokens)
        inputs = {
            **rewards_told(objective, tokens, mask, old_logprobs, ref_logprobs),
            "group": torch.arange(QUESTIONS).repeat_interleave(GROUP_SIZE),
            "mask": mask,
            "old_logprobs": old_logprobs,
            "teacher_logprobs": token_logprobs(logits_of(teacher, tokens), tokens).detach(),
            "values": tokens.roll(1, dims=1).double() / VOCABULARY,
            "discount": 1.0,
            "gae_lambda": 0.95,
        }
        advantages = called(objective.advantage, inputs)
        for _ in range(UPDATES):
            logits = logits_of(weights, tokens)
            loss = policy_loss(
                objective,
                token_logprobs(logits, tokens),
                old_logprobs=old_logprobs,
                ref_logprobs=ref_logprobs,
                entropies=entropy(logits),
                advantages=advantages,
                mask=mask,
                denominators=Denominators.of(mask, MAX_TOKENS),
            )
            gradients = torch.autograd.grad(loss, list(weights.values()))
            for weight, gradient in zip(weights.values(), gradients, strict=True):
                weight.data -= 2.0 * gradient
            losses.append(loss.item())
    return losses


def initial_weights(generator: torch.Generator) -> Weights:
    shapes = {"embedding": (VOCABULARY, WIDTH), "output": (WIDTH, VOCABULARY)}
    return {
        name: (torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1).requires_grad_()
        for name, shape in shapes.items()
    }


def logits_of(weights: Weights, tokens: Tensor) -> Tensor:
    """[B, T, V]: entry t from the token before t."""
    return predictors(torch.tanh(weights["embedding"][tokens]) @ weights["output"])


def sample(weights: Weights, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """tokens [B, 1 + MAX_TOKENS], question q's own first token and then the output; mask, True up to its end token."""
    tokens = torch.arange(1, QUESTIONS + 1).repeat_interleave(GROUP_SIZE)[:, None]
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    for _ in range(MAX_TOKENS):
        with torch.no_grad():
            p = (torch.tanh(weights["embedding"][tokens[:, -1]]) @ weights["output"]).softmax(-1)
        u = torch.rand(len(tokens), 1, generator=generator, dtype=torch.float64)
        drawn = (p.cumsum(-1) < u).sum(-1, keepdim=True).clamp(max=VOCABULARY - 1)
        running = tokens[:, -1:] != END
        tokens = torch.cat([tokens, torch.where(running, drawn, END)], dim=1)
        mask = torch.cat([mask, running], dim=1)
    return tokens, mask


def rewards_told(objective: Objective, tokens: Tensor, mask: Tensor, old: Tensor, ref: Tensor) -> dict[str, Tensor]:
    """Every form of the rewards that an advantage may name, less the KL if it is in the reward."""
    hits = torch.where(mask, (tokens == 3).double(), 0.0)
    rewards, in_reward = hits.sum(1), objective.kl_coef > 0 and objective.kl_in == "reward"
    penalty = objective.kl_coef * kl_of(objective, old, ref, old, mask) if in_reward else torch.zeros_like(hits)
    return {
        "rewards": rewards - penalty.sum(1),
        "token_rewards": token_rewards(rewards, mask, penalty),
        "step_rewards": torch.where(mask, hits, torch.nan),
        "reward_parts": torch.stack([rewards, -mask.sum(1).double()], dim=1),
        "reward_weights": torch.tensor([1.0, 0.5], dtype=torch.float64),
    }


def main() -> None:
    presets = {name: registry.load(registry.PRESETS, name) for name in registry.PRESETS}
    FILE.write_text(json.dumps({name: ten_losses(row) for name, row in presets.items()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
