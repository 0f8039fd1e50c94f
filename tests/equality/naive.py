"""What everything fast is compared with: one padded row an output, eager attention, all logits, float64.

Plain transformers and torch; knows nothing of the package's layouts, its log-probabilities or its last layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import PretrainedConfig

from groupwise.data import Sampling
from groupwise.model.batch import Rollouts
from tests.equality import families

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logprobs [B, T], entropies [B, T]) -> scalar."""


@dataclass(frozen=True)
class Reference:
    """logprobs, entropies: [B, T] nats, 0 outside the mask. gradients: of each weight by its name."""

    logprobs: Tensor
    entropies: Tensor
    gradients: dict[str, Tensor]


class Unnarrowed(TorchFunctionMode):
    """Keeps float64 where transformers asks for float32: in norms, softmax and rotary angles."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if args and isinstance(args[0], Tensor) and args[0].dtype == torch.float64:
            if func is torch.Tensor.float:
                return args[0]
            args = tuple(torch.float64 if item is torch.float32 else item for item in args)
            kwargs = {name: torch.float64 if item is torch.float32 else item for name, item in kwargs.items()}
        return func(*args, **kwargs)


def reference_model(config: PretrainedConfig, *, angles: torch.dtype = torch.float64) -> Any:
    """The weights of families.model in float64, with transformers' eager attention.

    angles: of the rotary positions. A float32 policy is compared with float32 angles, which at place 2000 are off by
    1e-4 in any layout.
    """
    model = families.model(config).double()
    model.set_attn_implementation("eager")
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if "inv_freq" in name:
                setattr(module, name, buffer.to(angles))
    return model


def scored(model: Any, rollouts: Rollouts, mask: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """log pi of the masked tokens and the entropies there, [B, T], from one plain forward pass."""
    columns = torch.arange(rollouts.tokens.shape[1])
    attended = (columns < rollouts.lengths[:, None]).long()
    with Unnarrowed():
        logits = model(rollouts.tokens, attention_mask=attended, use_cache=False).logits
        # a token's distribution is in the logits of the place before it; nothing predicts the first
        drawn_from = distribution(logits[:, :-1], rollouts.tokens[:, 1:], sampling)
        log_p = torch.log_softmax(drawn_from, dim=-1)
    logprobs = log_p.gather(-1, rollouts.tokens[:, 1:, None])[..., 0]
    entropies = -(log_p.exp() * log_p.masked_fill(log_p == -torch.inf, 0.0)).sum(-1)
    first = torch.zeros_like(logprobs[:, :1])
    return (
        torch.where(mask, torch.cat([first, logprobs], 1), 0.0),
        torch.where(mask, torch.cat([first, entropies], 1), 0.0),
    )


def reference(model: Any, rollouts: Rollouts, mask: Tensor, *, sampling: Sampling, loss: Loss) -> Reference:
    """The log-probabilities, entropies and gradients that a policy of these weights should give."""
    model.zero_grad(set_to_none=True)
    logprobs, entropies = scored(model, rollouts, mask, sampling)
    with Unnarrowed():
        loss(logprobs, entropies).backward()
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad(set_to_none=True)
    return Reference(logprobs.detach(), entropies.detach(), found)


def distribution(logits: Tensor, tokens: Tensor, sampling: Sampling) -> Tensor:
    """Logits [B, T, V] over the temperature, with -inf outside top-k and then top-p, but never on the token itself.

    Ranks instead of thresholds, by a sort of every row; no two logits are equal here.
    """
    logits = logits / sampling.temperature
    order = logits.argsort(dim=-1, descending=True)
    rank = order.argsort(dim=-1)
    kept = torch.ones_like(rank, dtype=torch.bool)
    if sampling.top_k:
        kept = rank < sampling.top_k
    if sampling.top_p < 1:
        p = torch.softmax(logits.masked_fill(~kept, -torch.inf), dim=-1)
        above = p.gather(-1, order).cumsum(-1).gather(-1, rank) - p  # the probability of all that is likelier
        kept = kept & (above < sampling.top_p)
    itself = torch.arange(logits.shape[-1]) == tokens[..., None]
    return logits.masked_fill(~(kept | itself), -torch.inf)


def greedy(model: Any, question: tuple[int, ...], count: int) -> list[int]:
    """The most likely token after another, each from a forward pass over all before it."""
    tokens = list(question)
    with torch.no_grad(), Unnarrowed():
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tokens[len(question) :]


def errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Euclidean error of each gradient relative to its expected norm, and under "" that of all of them together."""
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    misses = {name: float((found[name].double() - wanted).norm()) for name, wanted in expected.items()}
    norms = {name: float(wanted.norm()) for name, wanted in expected.items()}
    whole = sum(miss**2 for miss in misses.values()) ** 0.5 / sum(norm**2 for norm in norms.values()) ** 0.5
    return {"": whole} | {name: misses[name] / norms[name] for name in expected}
