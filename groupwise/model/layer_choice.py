"""Which of a decoder's layers are computed as a whole (`groupwise.model.whole_layer`), and how they are put in.

A layer is, if it is built as Llama's is and gives what its own modules give, output and gradients, tried when the model
is loaded; and only while its modules are as they were then: nothing hooks them, and products are fp32 on the CPU.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from groupwise.model.attention import Block, BlockPlan, Form, attending
from groupwise.model.layer_kernels import layer_kernels
from groupwise.model.llama_like import read_layer
from groupwise.model.memory import Recompute, checkpointed_layers
from groupwise.model.products import OneDnnLinear, Products
from groupwise.model.stream_attention import functions
from groupwise.model.tokenizer import first_line
from groupwise.model.whole_layer import Adapter, Pass, Projection

log = logging.getLogger(__name__)

Forms = Mapping[int, Form]
"""How layers attend that are computed as a whole, by their place in the decoder."""
TOLERANCE = 1e-5
"""Of the norm of what the modules give; fp32 rounding is a tenth of it."""
_STREAM = (Block(0, 5), Block(5, 9, 0, 5), Block(9, 16, 0, 5))
_REFUSALS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError)


@contextmanager
def whole_layers(
    model: nn.Module, forms: Forms, plan: BlockPlan | None, products: Products, what: Recompute = "nothing"
) -> Iterator[None]:
    """While it holds, layers that have a form are computed as a whole; a backward pass must be over before this is.

    plan: how the stream attends; None: it is none, and no layer is. what: is computed again going back: `layers` all
    of it, else what is cheap, as ever.
    """
    layers = checkpointed_layers(model) if forms and plan is not None else []
    before = {layer: vars(layer).get("forward") for layer in layers}
    for place, layer in enumerate(layers):
        if place in forms and plan is not None:
            layer.forward = partial(_forward, layer, layer.forward, plan, forms[place], products, what == "layers")
    try:
        yield
    finally:
        for layer, forward in before.items():
            vars(layer).pop("forward", None)
            if forward is not None:
                layer.forward = forward


def forms_of(model: Any, products: Products) -> dict[int, Form]:
    """How those layers of a decoder attend that can be computed as a whole, tried on random states."""
    layers = checkpointed_layers(model)
    if not layers or functions() is None or layer_kernels() is None or _reading(layers[0]) is None:
        return {}
    plan, found = _Noting(_STREAM), dict[int, Form]()
    for place, layer in enumerate(layers):
        layer.forward = partial(_tried, layer, layer.forward, plan, products, place, found)
    tokens = torch.zeros(1, _STREAM[-1].end, dtype=torch.long)
    places = torch.cat([torch.arange(b.seen_end, b.seen_end + b.end - b.start) for b in _STREAM])[None]
    try:
        with torch.no_grad(), attending(model, plan):
            model.get_decoder()(tokens, position_ids=places, use_cache=False)
    except _REFUSALS as error:
        log.warning("%s: its layers are computed by their modules (%s)", type(model).__name__, first_line(error))
        return {}
    finally:
        for layer in layers:
            del layer.forward
    return found


class _Noting(BlockPlan):
    """Block attention that notes how the last layer attended."""

    form: Form | None = None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        self.form = form
        return super().attend(layer, query, key, value, form)


def _tried(
    layer: Any,
    own: Callable[..., Any],
    plan: _Noting,
    products: Products,
    place: int,
    found: dict[int, Form],
    states: Tensor,
    **settings: Any,
) -> Tensor:
    """Gives the states back; notes the layer's form if its output and gradients are its modules' from random ones."""
    if not _reading(layer):
        return states
    random = torch.randn(states.shape, generator=torch.Generator().manual_seed(place))
    slope = torch.randn(states.shape, generator=torch.Generator().manual_seed(1000 + place))
    expected = _values(lambda x: own(x, **settings), layer, random, slope)
    form = plan.form
    if form is None or form.cap is not None:
        return states
    made = partial(_forward, layer, _refuse, plan, form, products, False)
    if all(map(_near, expected, _values(lambda x: made(x, **settings), layer, random, slope))):
        found[place] = form
    return states


def _refuse(*_: Any, **__: Any) -> Tensor:
    raise ValueError("a layer that is not computed as a whole")


def _values(forward: Callable[[Tensor], Tensor], layer: nn.Module, x: Tensor, slope: Tensor) -> list[Tensor | None]:
    """What a layer adds to its input, and the gradients of the input and of its weights."""
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        added = forward(x) - x
        weights = [weight for weight in layer.parameters() if weight.requires_grad]
        return [added.detach(), *torch.autograd.grad(added, [x, *weights], slope, allow_unused=True)]


def _near(expected: Tensor | None, found: Tensor | None) -> bool:
    if expected is None or found is None:
        return expected is found
    return expected.shape == found.shape and bool((found - expected).norm() <= TOLERANCE * expected.norm())


def _forward(
    layer: Any,
    own: Callable[..., Any],
    plan: BlockPlan,
    form: Form,
    products: Products,
    again: bool,
    *inputs: Any,
    **settings: Any,
) -> Any:
    """The layer's output; by `own` if it is not to be computed as a whole this time. again: also going back."""
    made, states = _pass(layer, plan, form, products, inputs, settings), inputs[0]
    if made is None:
        return own(*inputs, **settings)
    if again and torch.is_grad_enabled():
        return checkpoint(made.output, states, use_reentrant=False, preserve_rng_state=False)
    return made.output(states)


def _pass(
    layer: Any, plan: BlockPlan, form: Form, products: Products, inputs: tuple[Any, ...], settings: dict[str, Any]
) -> Pass | None:
    """What the layer's passes read; None if something is given that they do not know, or the layer has changed."""
    kernels, angles = layer_kernels(), settings.get("position_embeddings")
    unknown = {name for name, given in settings.items() if given is not None and given is not False} - _KNOWN
    if kernels is None or angles is None or unknown or len(inputs) != 1 or torch.is_autocast_enabled("cpu"):
        return None
    states, read = inputs[0], _reading(layer)
    if read is None or states.dtype != torch.float32 or len(states) != 1 or len(angles[0]) != 1:
        return None
    cos, sin = (angle[0].contiguous() for angle in angles)
    return Pass(read, kernels, products, plan, form, cos, sin)


_KNOWN = {"position_embeddings", "position_ids", "cache_position"}


def _reading(layer: Any) -> Any:
    """The layer's parts; None if they are not Llama's, not plain fp32 on the CPU, or hooked."""
    modules = list(layer.modules())
    weights = list(layer.parameters())
    if layer.training or any(map(_is_watched, modules)) or any("forward" in vars(m) for m in modules if m is not layer):
        return None
    if any(type(w) is not nn.Parameter or w.dtype != torch.float32 or w.device.type != "cpu" for w in weights):
        return None
    if not all(weight.is_contiguous() for weight in weights):
        return None
    try:
        return read_layer(layer, _projection)
    except (AttributeError, TypeError, ValueError, KeyError):
        return None


def _is_watched(module: nn.Module) -> bool:
    own = vars(module)
    return any(own[name] for name in _HOOKS)


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _projection(module: Any) -> Projection:
    """Of a linear layer, plain or with one adapter of peft's plainest kind. Raises TypeError for another module."""
    if type(module) in (nn.Linear, OneDnnLinear):
        return Projection(module.weight, module.bias)
    if type(module).__module__ != "peft.tuners.lora.layer" or type(module).__name__ != "Linear" or module.merged:
        raise TypeError("not a linear layer")
    base = _projection(module.base_layer)
    if module.disable_adapters:
        return base
    (name,) = module.active_adapters
    down, up = module.lora_A[name], module.lora_B[name]
    plain = type(module.lora_dropout[name]) is nn.Identity and down.bias is None and up.bias is None
    if not plain or module.fan_in_fan_out or getattr(module, "lora_variant", {}).get(name) is not None:
        raise TypeError("not a plain adapter")
    return Projection(base.weight, base.bias, Adapter(down.weight, up.weight, float(module.scaling[name])))
