"""The processor of a model that reads pictures: its tokenizer, and what makes pixels of pictures. Loads no weights.

Where torchvision is missing, transformers' processors for Pillow are used, and a processor of videos, which has no such
form, is left out: its settings are kept for whoever loads what is saved.
"""

import importlib.util
import json
from inspect import signature
from pathlib import Path
from typing import Any

_FILES = ("preprocessor_config.json", "processor_config.json")
_VIDEO = "video_processor"
_VIDEO_FILES = ("video_preprocessor_config.json", "preprocessor_config.json")
_BOUNDS = ("min_pixels", "max_pixels")


def reads_pictures(source: str, config: Any) -> bool:
    """True if a config is that of a model that is given features of pictures and writes text, whose folder, or place on
    the hub, says how pictures are prepared."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as NAMES
    from transformers.utils import cached_file

    kind = getattr(transformers, NAMES.get(config.model_type, ""), None)
    if kind is None or getattr(config, "vision_config", None) is None:
        return False
    if "mm_encoder_outputs" not in signature(kind.forward).parameters:
        return False
    files = (cached_file(source, name, _raise_exceptions_for_missing_entries=False) for name in _FILES)
    return any(file is not None for file in files)


def reads_text(config: Any) -> bool:
    """True if transformers has a model for a config that reads text alone."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    return config.model_type in NAMES


def load_processor(source: str, config: Any, *, trust: bool) -> Any:
    """The processor in a model's folder. Raises what transformers raises of a folder that has none."""
    import transformers
    from transformers import AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    allowed: dict[str, Any] = {"trust_remote_code": trust}
    kind = getattr(transformers, PROCESSOR_MAPPING_NAMES.get(config.model_type, ""), None)
    if kind is None or _VIDEO not in kind.get_attributes() or importlib.util.find_spec("torchvision") is not None:
        return AutoProcessor.from_pretrained(source, **allowed)
    return _without_videos(kind).from_pretrained(source, **allowed)


def bound_pixels(processor: Any, *, least: int | None, most: int | None) -> tuple[int | None, int | None]:
    """Gives the bounds on a picture's pixels to the processor; those that it has no setting for come back."""
    images = processor.image_processor
    known = getattr(getattr(images, "valid_kwargs", None), "__annotations__", {})
    size = getattr(images, "size", None)
    if not all(name in known for name in _BOUNDS) or size is None:
        return least, most
    edges = dict(size) | {
        name: bound for name, bound in (("shortest_edge", least), ("longest_edge", most)) if bound is not None
    }
    if most is None:  # the processor's own bound gives way
        edges["longest_edge"] = max(edges["longest_edge"], edges["shortest_edge"])
    if least is None:
        edges["shortest_edge"] = min(edges["longest_edge"], edges["shortest_edge"])
    images.size = type(size)(**edges) if not isinstance(size, dict) else edges
    return None, None


def _without_videos(kind: Any) -> Any:
    """The class of a processor, whose part for videos holds settings alone; under its own name, which is saved."""

    class Processor(kind):
        @classmethod
        def _get_arguments_from_pretrained(cls, source: str, processor_dict: Any = None, **settings: Any) -> list[Any]:
            from transformers import AutoImageProcessor, AutoTokenizer

            videos = (processor_dict or {}).get(_VIDEO) or _settings(source)
            parts = {
                "image_processor": lambda: AutoImageProcessor.from_pretrained(source, **settings),
                "tokenizer": lambda: AutoTokenizer.from_pretrained(source, **settings),
                _VIDEO: lambda: _videos(videos),
            }
            return [parts[name]() for name in cls.get_attributes()]

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if argument_name != _VIDEO:
                return super().check_argument_for_proper_class(argument_name, argument)
            return type(argument)

    Processor.__name__, Processor.__qualname__ = kind.__name__, kind.__qualname__
    return Processor


def _settings(source: str) -> dict[str, Any]:
    """What a folder says of its processor of videos; {} if nothing."""
    for name in _VIDEO_FILES:
        file = Path(source) / name
        if file.is_file():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                continue
            if isinstance(found, dict):
                return found
    return {}


def _videos(settings: dict[str, Any]) -> Any:
    """Settings of a processor of videos, which processes none."""
    from transformers.utils import PushToHubMixin

    class Videos(PushToHubMixin):  # what transformers' processors write by to_dict()
        _auto_class = None
        model_input_names: tuple[str, ...] = ()
        merge_size = 2
        num_frames, fps = None, None

        def to_dict(self) -> dict[str, Any]:
            return dict(settings)

    return Videos()
