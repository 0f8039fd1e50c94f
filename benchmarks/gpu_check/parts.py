"""The parts of the check, in their order: what each runs, for how long at most, and where it cannot run."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """device: its type (cuda, mps, cpu). tiny: the smallest size. scratch: a folder that goes when all is done."""

    device: str
    tiny: bool
    scratch: Path


@dataclass(frozen=True)
class Part:
    """words: the arguments of Python. seconds: at most. impossible: why it cannot run here, or nothing."""

    name: str
    seconds: float
    words: Callable[[Settings], list[str]]
    impossible: Callable[[Settings], str] = lambda _: ""


def _module(name: str, *words: str) -> Callable[[Settings], list[str]]:
    def command(settings: Settings) -> list[str]:
        device = ["--device", settings.device, "--scratch", str(settings.scratch)]
        return ["-m", f"benchmarks.gpu_check.{name}", *words, *device, *(["--tiny"] if settings.tiny else [])]

    return command


def _tests(settings: Settings) -> list[str]:
    chosen = ["-k", "llama or adapters or checkpoint"] if settings.tiny else []
    # The folder alone: collecting the whole suite imports packages that a machine with a GPU may lack.
    words = ["pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu", "--device", settings.device]
    return ["-m", *words, *chosen]


def _no_pytest(_: Settings) -> str:
    return "" if find_spec("pytest") else "pytest is not installed"


def _speed(settings: Settings) -> list[str]:
    return ["-m", "benchmarks.gpu", "--systems", "groupwise,trl", "--device", settings.device] + (
        ["--tiny"] if settings.tiny else []
    )


def _not_cuda(settings: Settings) -> str:
    return "" if settings.device == "cuda" or settings.tiny else "for CUDA alone"


PARTS = (
    Part("agreement", 60, _module("agreement")),
    Part("tests", 100, _tests, _no_pytest),
    Part("tiny", 60, _module("training", "tiny")),
    Part("demo", 60, _module("training", "demo")),
    Part("resume", 60, _module("training", "resume")),
    Part("speed", 110, _speed, _not_cuda),
    Part("memory", 70, _module("training", "memory")),
)
"""Sums up to 520 s."""
