"""What a model's vision tower makes of pictures, each once: frozen parts are computed on first sight and kept.

The model's own `get_image_features` is called: for what learns with pictures of one shape together, else a picture at a
time. Where the tower is frozen and its projector learns, what the projector reads is kept, and the tower is passed by
afterwards. Knows no text.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from groupwise.errors import RunError
from groupwise.model.gallery import Gallery, Picture, joined
from groupwise.model.parts import Part, learning_parts, projectors

KEPT_BYTES = 2**30
"""Of what is kept of pictures, tower's results and pixels, in all; the picture unseen for longest goes first."""
_READ = ("pooler_output", "deepstack_features")
"""What models read of a tower's output."""


@dataclass
class _Kept:
    """Of a picture. pixels: what the tower reads. read: what each call of a projector reads, in their order; output:
    what comes of all; None: not known yet, or it changes."""

    pixels: dict[str, Any] | None = None
    read: list[Tensor] | None = None
    output: Any = None


class Features:
    """A model's features of the pictures of a gallery. passes: calls of the whole tower so far."""

    def __init__(self, model: Any, gallery: Gallery) -> None:
        self.model, self._gallery = model, gallery
        self.replays = True
        """The tower may be passed by where it is frozen; see `groupwise.model.sighted`."""
        self.precision = torch.float32
        """Of the tower's products, where what they give is kept."""
        self.passes = 0
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._bytes = 0
        self._takes = set(signature(_owner(model).get_image_features).parameters)
        self._projectors = projectors(model)
        self._layers = _tower_layers(model, self._projectors)

    def of(self, pictures: Sequence[Picture]) -> Any:
        """The tower's output for these pictures, one after the other: the model's own, with what models read of it.

        Raises RunError if a picture has another number of features than tokens.
        """
        learning, outputs = learning_parts(self.model), dict[int, Any]()
        if learning & {"vision", "projector"} and self._alike(pictures):
            return _together([self._several(pictures, learning)])
        for picture in pictures:
            if picture.first not in outputs:
                outputs[picture.first] = self._one(picture, learning)
        return _together([outputs[picture.first] for picture in pictures])

    def extras(self, pictures: Sequence[Picture], wanted: Collection[str]) -> dict[str, Any]:
        """What of these names the processor gives besides pixels, such as each picture's grid of patches."""
        found = [self._pixels(self._entry(picture), picture) for picture in pictures]
        names = [name for name in found[0] if name != "pixel_values" and name in wanted]
        return {name: joined([own[name] for own in found]) for name in names}

    def _alike(self, pictures: Sequence[Picture]) -> bool:
        """True for several distinct pictures whose pixels have one shape: they are one batch to every family."""
        if len({picture.first for picture in pictures}) < max(2, len(pictures)):
            return False
        values = [list(self._pixels(self._entry(picture), picture).values()) for picture in pictures]
        shapes = {tuple(v.shape if isinstance(v, Tensor) else None for v in own) for own in values}
        return len(shapes) == 1 and None not in next(iter(shapes))

    def _several(self, pictures: Sequence[Picture], learning: set[Part]) -> Any:
        """The output for pictures that are alike, of which something learns, from one call."""
        if "vision" in learning or not self.replays:
            self.passes += len(pictures)
            return self._call(pictures)
        kept = [self._entry(picture) for picture in pictures]
        read = [self._read(own, picture) for own, picture in zip(kept, pictures, strict=True)]
        with _passed_by(self._layers, self._projectors, [joined(call) for call in zip(*read, strict=True)]):
            return self._call(pictures)

    def _one(self, picture: Picture, learning: set[Part]) -> Any:
        kept = self._entry(picture)
        if kept.output is not None:
            return kept.output
        if "vision" in learning:
            output = self._whole(picture)
        elif "projector" in learning and self.replays:
            with _passed_by(self._layers, self._projectors, self._read(kept, picture)):
                output = self._call([picture])
        elif "projector" in learning:
            output = self._whole(picture)
        else:
            with self._keeping():
                kept.output = output = _together([self._whole(picture)])
            self._count(picture, _size(kept.output) - _size(kept.pixels))
            kept.pixels = {name: value for name, value in (kept.pixels or {}).items() if name != "pixel_values"}
        return output

    def _read(self, kept: _Kept, picture: Picture) -> list[Tensor]:
        """What each call of a projector reads, in their order."""
        if kept.read is None:
            kept.read = []
            with self._keeping(), _noting(self._projectors, kept.read):
                self._whole(picture)
            self._count(picture, sum(map(_size, kept.read)))
        return kept.read

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        """While it holds, what is kept is computed: as precisely as the policy's products are, whatever those of who
        asks first, and not in inference mode, since it is read where a gradient is taken, too."""
        device = next(self.model.parameters()).device.type
        narrow = self.precision == torch.bfloat16
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(device, dtype=torch.bfloat16, enabled=narrow),
        ):
            yield

    def _whole(self, picture: Picture) -> Any:
        self.passes += 1
        return self._call([picture])

    def _call(self, pictures: Sequence[Picture]) -> Any:
        """The model's output for one picture, or for several that are alike."""
        given = [self._pixels(self._entry(picture), picture) for picture in pictures]
        taken = [name for name in given[0] if name in self._takes]
        pixels = given[0] if len(given) == 1 else {name: joined([own[name] for own in given]) for name in taken}
        output = _owner(self.model).get_image_features(**{name: pixels[name] for name in taken}, return_dict=True)
        found, written = _features(output.pooler_output), sum(picture.count for picture in pictures)
        if found != written:
            names = " and ".join(picture.image.name for picture in pictures[:2])
            raise RunError(
                f"{type(self.model).__name__} makes {found} features of {len(pictures)} pictures, {names}, and its "
                f"processor writes {written} tokens",
                hint="use the processor that belongs to the model",
            )
        return output

    def _pixels(self, kept: _Kept, picture: Picture) -> dict[str, Any]:
        if kept.pixels is None or ("pixel_values" not in kept.pixels and kept.output is None):
            device = next(self.model.parameters()).device
            found = self._gallery.pixels(picture)
            kept.pixels = {name: v.to(device) if isinstance(v, Tensor) else v for name, v in found.items()}
            self._count(picture, _size(kept.pixels))
        return kept.pixels

    def _entry(self, picture: Picture) -> _Kept:
        kept = self._kept.setdefault(picture.first, _Kept())
        self._kept.move_to_end(picture.first)
        return kept

    def _count(self, picture: Picture, more: int) -> None:
        """Counts bytes that are kept now; lets go of other pictures beyond KEPT_BYTES."""
        self._bytes += more
        for first in list(self._kept):
            if self._bytes <= KEPT_BYTES or first == picture.first:
                break
            gone = self._kept.pop(first)
            self._bytes -= _size(gone.pixels) + _size(gone.read) + _size(gone.output)


def _owner(model: Any) -> Any:
    """What has `get_image_features`: the model under the language head, where it has one of its own."""
    return model.base_model if hasattr(model.base_model, "get_image_features") else model


def _features(output: Any) -> int:
    """Feature vectors in a tower's output: a tensor [.., D], or several."""
    if isinstance(output, Tensor):
        return output.numel() // output.shape[-1]
    return sum(map(_features, output))


def _together(outputs: Sequence[Any]) -> Any:
    """One output of several, of the model's own class, with what models read."""
    found: dict[str, Any] = {}
    for name in _READ:
        values = [getattr(output, name, None) for output in outputs]
        if values[0] is None:
            continue
        if name == "pooler_output":
            found[name] = joined(values)
        else:  # of several layers
            found[name] = [joined(layer) for layer in zip(*values, strict=True)]
    return type(outputs[0])(**found)


def _size(value: Any) -> int:
    """Bytes of all tensors in a value."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 0


def _tower_layers(model: Any, inside: Sequence[nn.Module]) -> list[nn.Module]:
    """The tower's layers, which each add to states of one shape; none that is within a projector or the decoder."""
    others = {module for outer in [*inside, model.get_decoder()] for module in outer.modules()}
    return [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer) and layer not in others]


@contextmanager
def _noting(modules: Sequence[nn.Module], found: list[Tensor]) -> Iterator[None]:
    def note(module: nn.Module, inputs: tuple[Any, ...], settings: dict[str, Any]) -> None:
        found.append(next(v for v in [*inputs, *settings.values()] if isinstance(v, Tensor)).detach().clone())

    with ExitStack() as hooks:
        for module in modules:
            hooks.enter_context(module.register_forward_pre_hook(note, with_kwargs=True))
        yield


@contextmanager
def _passed_by(layers: Sequence[nn.Module], modules: Sequence[nn.Module], read: Sequence[Tensor]) -> Iterator[None]:
    """While it holds, the layers give back what they are given, and the modules read what was noted."""
    rest = iter(read)

    def put(module: nn.Module, inputs: tuple[Any, ...], settings: dict[str, Any]) -> tuple[Any, Any]:
        if inputs and isinstance(inputs[0], Tensor):
            return (next(rest), *inputs[1:]), settings
        name = next(name for name, value in settings.items() if isinstance(value, Tensor))
        return inputs, {**settings, name: next(rest)}

    hooks = [module.register_forward_pre_hook(put, with_kwargs=True) for module in modules]
    before = {layer: vars(layer).get("forward") for layer in layers}
    for layer in layers:
        layer.forward = _given
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, forward in before.items():
            del layer.forward
            if forward is not None:
                layer.forward = forward


def _given(*inputs: Any, **settings: Any) -> Any:
    return inputs[0] if inputs else settings["hidden_states"]
