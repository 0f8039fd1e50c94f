"""groupwise: reinforcement learning for language models by comparing each answer with its siblings.

`train`, `evaluate`, `open_run`, `Recipe` and `objective` are loaded when they are first used, so importing is cheap.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Recipe", "evaluate", "objective", "open_run", "train"]

if TYPE_CHECKING:
    from groupwise import objective
    from groupwise.api import evaluate, open_run, train
    from groupwise.config import Recipe


def __getattr__(name: str) -> Any:
    import importlib

    if name == "objective":
        return importlib.import_module("groupwise.objective")
    if name == "Recipe":
        return importlib.import_module("groupwise.config").Recipe
    if name in __all__:
        return getattr(importlib.import_module("groupwise.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
