"""V_psi: what a state is worth, by a linear head on a decoder of its own or on the policy's."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from groupwise.config import CriticConfig, ModelConfig
from groupwise.errors import ConfigError
from groupwise.model.batch import Rollouts
from groupwise.model.linear_logprobs import placed
from groupwise.model.loading import load_policy
from groupwise.model.policy import Policy
from groupwise.model.tokenizer import other_model

Loss = Callable[[Tensor], Tensor]
"""(values [B, T], 0 outside the mask) -> scalar."""


@dataclass
class Critic:
    """V_psi(s_t) = head(state that predicts token t): the worth of the state in which token t is drawn.

    trunk: a decoder, the policy itself if shared. head: [1, D], zero at first, so that V is 0 before it learns.
    of_trunk: with a shared trunk the critic's gradient of its weights, kept apart from the policy's so that each can be
    bounded by itself.
    """

    trunk: Policy
    head: nn.Linear
    config: CriticConfig
    of_trunk: list[Tensor] = field(default_factory=list)

    @property
    def shared(self) -> bool:
        return self.config.trunk == "shared"

    @property
    def module(self) -> nn.Module:
        """What is the critic's alone: its weights are trained and saved beside the policy's."""
        parts = {"head": self.head} if self.shared else {"trunk": self.trunk.model.get_decoder(), "head": self.head}
        return nn.ModuleDict(parts)

    @torch.no_grad()
    def values(self, rollouts: Rollouts, mask: Tensor) -> Tensor:
        """V of the states in which the masked tokens were drawn, [B, T] reward units, 0 elsewhere; no gradient."""
        with self.trunk.states(rollouts, mask) as states:
            return placed(self._of(states), mask)

    def backward(self, rollouts: Rollouts, mask: Tensor, *, loss: Loss, apart: Sequence[Tensor] = ()) -> None:
        """Adds d loss / d psi to the gradients of the critic's own weights.

        apart: where the gradient of a shared trunk's weights is added, a tensor for each that learns; (): it stays, and
        the head learns alone.
        """
        weights = [weight for weight in self.trunk.model.parameters() if weight.requires_grad] if apart else []
        with (
            gradients_in(weights, apart),
            torch.set_grad_enabled(not self.shared or bool(apart)),
            self.trunk.states(rollouts, mask) as states,
            torch.enable_grad(),
        ):
            loss(placed(self._of(states), mask)).backward()

    def _of(self, states: Tensor) -> Tensor:
        with torch.autocast(states.device.type, enabled=False):  # bf16 would round a value of 1 to a 256th
            values: Tensor = self.head(states.to(self.head.weight.dtype))[:, 0]
        return values


@contextmanager
def gradients_in(weights: Sequence[nn.Parameter], places: Sequence[Tensor]) -> Iterator[None]:
    """While it holds, the gradients of the weights are these tensors; with none they are their own."""
    weights = weights if places else []
    before = [weight.grad for weight in weights]
    for weight, place in zip(weights, places, strict=True):
        weight.grad = place
    try:
        yield
    finally:
        for weight, gradient in zip(weights, before, strict=True):
            weight.grad = gradient


def load_critic(config: CriticConfig, model: ModelConfig, *, policy: Policy, seed: int) -> Critic:
    """A critic that begins with the weights of a model, its head at zero. Raises ModelError, ConfigError."""
    if config.trunk == "own":
        path = config.path or model.path
        wanted = model.model_copy(update={"path": path, "lora": None})
        tokenizer = other_model(policy.tokenizer, path, seed=seed, section="critic")
        trunk = load_policy(wanted, tokenizer, section="critic")
        trunk.recompute_if_it_can(policy.recompute)
    else:
        if policy.whole_logits:
            raise ConfigError(
                "critic.trunk = 'shared': this model's last layer is not a plain linear map on its decoder's states",
                hint="set critic.trunk to own",
            )
        trunk = policy
    width = trunk.model.get_output_embeddings().weight.shape[1]
    head = nn.Linear(width, 1, bias=False, device=trunk.device, dtype=torch.float32)
    nn.init.zeros_(head.weight)
    return Critic(trunk, head, config)
