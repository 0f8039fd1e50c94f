"""Bytes that a decoder holds for each token, counted on a model without weights. Knows no recipe and no device.

One forward pass on PyTorch's device `meta`, which computes shapes alone: what autograd keeps of it, what the matrix
products give, and the keys and values that attention is handed. So no architecture's sizes are written down here.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from groupwise.model.attention import Form, attending
from groupwise.model.memory import DEAR, Recompute, checkpointed_layers

TOKENS = 16  # of the pass; all that is counted grows with them


@dataclass(frozen=True)
class Footprint:
    """Bytes of one token in fp32. cache: keys and values. kept: for the backward pass, by what is computed again.
    layer: what one layer keeps while it is gone back through. state: the last layer's input. vocabulary: numbers.
    linear, last: bytes of the linear layers' weights, the last layer's among them, and the last layer's alone.
    whole_logits: logits are more than the last layer's product (capped, scaled), and are made of all tokens at once.
    """

    cache: float
    kept: dict[Recompute, float]
    layer: float
    state: float
    vocabulary: int
    linear: int
    last: int
    whole_logits: bool = False


def footprint(model: Any) -> Footprint:
    """Of a decoder on the device meta; where it cannot be run there or takes no attention of ours, by its config."""
    model.eval()  # attention with dropout is not ours
    counted = _Counted(model)
    tokens = torch.zeros(1, TOKENS, dtype=torch.long, device="meta")
    try:
        with torch.enable_grad(), attending(model, counted), counted.kept_by_autograd(), counted:
            states = model.get_decoder()(tokens, use_cache=False, position_ids=tokens).last_hidden_state
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, NotImplementedError):
        states = None
    head = model.get_output_embeddings().weight
    layers = len(checkpointed_layers(model)) or 1
    state = head.shape[1] * 4 if states is None else states[0, 0].numel() * 4
    cache, saved, products = counted.cache / TOKENS, counted.saved / TOKENS, counted.products / TOKENS
    if states is None or not cache:
        cache, saved, products = _by_config(model.config.get_text_config(decoder=True), layers)
    weights = {id(module.weight): module.weight for module in model.modules() if isinstance(module, nn.Linear)}
    return Footprint(
        cache=cache,
        kept={"nothing": saved, "cheap": min(saved, products + layers * state), "layers": layers * state},
        layer=saved / layers,
        state=state,
        vocabulary=len(head),
        linear=sum(weight.numel() * 4 for weight in (weights | {id(head): head}).values()),
        last=head.numel() * 4,
        whole_logits=_whole_logits(model, tokens),
    )


def _whole_logits(model: Any, tokens: Tensor) -> bool:
    """True if something follows the last layer's product."""
    products = _Products()
    try:
        with torch.no_grad(), attending(model, _Counted(model)), products:
            logits = model(tokens, use_cache=False, position_ids=tokens).logits
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, NotImplementedError):
        return False
    return products.newest is None or logits.untyped_storage()._cdata != products.newest.untyped_storage()._cdata


class _Products(TorchDispatchMode):
    """Holds the newest product's result."""

    newest: Tensor | None = None

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in DEAR:
            self.newest = result
        return result


def _by_config(config: Any, layers: int) -> tuple[float, float, float]:
    """Bytes of a token's keys and values, of what is kept, and of products, as a Llama of these sizes has them."""
    hidden = config.hidden_size
    between = getattr(config, "intermediate_size", None) or 4 * hidden
    heads = getattr(config, "num_attention_heads", None) or 1
    share = (getattr(config, "num_key_value_heads", None) or heads) / heads
    counts = 2 * share * hidden, 9 * hidden + 4 * between, 6 * hidden + 2 * between
    cache, saved, products = (4.0 * layers * count for count in counts)
    return cache, saved, products


class _Counted(TorchDispatchMode):
    """Sums bytes: of what autograd keeps, each memory once and no weights; of products; of keys and values."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.saved = self.products = self.cache = 0.0
        self._seen = {weight.untyped_storage()._cdata for weight in [*model.parameters(), *model.buffers()]}
        self._held: list[Tensor] = []  # else a storage's address could come again

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        self.cache += (key.numel() + value.numel()) * 4
        result: Tensor = _Attention.apply(query, key, value)
        self.products += result.numel() * 4
        return result

    def kept_by_autograd(self) -> Any:
        return torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor)

    def _note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._held.append(tensor)
            self.saved += storage.nbytes()
        return tensor

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in DEAR:
            self.products += result.numel() * 4
        return result


class _Attention(torch.autograd.Function):
    """Keeps what fused attention keeps: its inputs and its output."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = query.new_empty(query.shape[0], query.shape[2], query.shape[1], value.shape[3])
        ctx.save_for_backward(query, key, value, result)
        return result
