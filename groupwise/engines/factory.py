"""The engine that a recipe names: built, opened, given the policy's weights, closed whatever happens."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from inspect import signature
from typing import Any

from groupwise import registry
from groupwise.config.sections import SamplingConfig
from groupwise.data import Output, Sampling
from groupwise.engines.base import Capabilities, Engine, Task
from groupwise.errors import ConfigError, GroupwiseError, RunError
from groupwise.functions import find, last_line
from groupwise.model.policy import Policy


def capabilities_of(rollout: SamplingConfig) -> Capabilities:
    """What may be relied on in the engine that `rollout.engine` names; nothing is built. Raises ConfigError.

    Where its products are less precise than the policy's it is not exact.
    """
    found = getattr(_named(rollout.engine), "capabilities", None)
    if not isinstance(found, Capabilities):
        raise ConfigError(
            f"{_where(rollout.engine)}: it has no `capabilities`, a groupwise.engines.base.Capabilities",
            hint="docs/own_engine.md shows an engine",
        )
    if rollout.precision == "auto":
        return found
    if "precision" not in signature(_named(rollout.engine)).parameters:
        raise ConfigError(
            f"rollout.precision = {rollout.precision!r}: {_where(rollout.engine)}: takes no precision",
            hint="leave it out, or give the engine's class the parameter precision",
        )
    return replace(found, exact=False)


@contextmanager
def open_engine(policy: Policy, rollout: SamplingConfig, *, version: int = 0) -> Iterator[Engine]:
    """The engine that `rollout.engine` names, sampling from the policy. version: optimizer steps that it has done.

    Whatever an engine of the user's raises is a RunError of one line.
    """
    capabilities_of(rollout)
    kind: Any = _named(rollout.engine)
    settings: dict[str, Any] = {"max_num_seqs": rollout.max_num_seqs}
    if rollout.precision != "auto":
        settings["precision"] = rollout.precision
    if rollout.engine in registry.ENGINES:
        engine: Engine = kind(policy, **settings)
    else:
        with _one_line(_where(rollout.engine), "the call of its class"):
            engine = _Own(kind(policy, **settings), _where(rollout.engine))
    try:
        engine.open()
        engine.sync(policy, version)
        yield engine
    except BaseException:
        with suppress(Exception):  # the first error is the one to hear of
            engine.close()
        raise
    engine.close()


class _Own:
    """An engine of the user's: the same calls, whose errors are one line each."""

    def __init__(self, engine: Engine, where: str) -> None:
        self._engine, self._where = engine, where
        self.capabilities = engine.capabilities

    def open(self) -> None:
        with _one_line(self._where, "open"):
            self._engine.open()

    def sync(self, policy: Policy, version: int) -> None:
        with _one_line(self._where, "sync"):
            self._engine.sync(policy, version)

    def submit(self, tasks: Sequence[Task], sampling: Sampling) -> list[int]:
        with _one_line(self._where, "submit"):
            return self._engine.submit(tasks, sampling)

    def poll(self, timeout: float) -> list[tuple[int, list[Output]]]:
        with _one_line(self._where, "poll"):
            return self._engine.poll(timeout)

    def release(self, questions: Sequence[tuple[int, ...]] | None = None) -> None:
        with _one_line(self._where, "release"):
            self._engine.release(questions)

    def close(self) -> None:
        with _one_line(self._where, "close"):
            self._engine.close()


@contextmanager
def _one_line(where: str, what: str) -> Iterator[None]:
    try:
        yield
    except GroupwiseError:
        raise
    except Exception as error:
        raise RunError(f"{where}: {what} failed: {last_line(error)}", hint="fix the engine, then --resume") from error


@cache
def _named(engine: str) -> Any:
    return find(registry.ENGINES, engine, _where(engine), ConfigError)


def _where(engine: str) -> str:
    return f"rollout.engine = {engine!r}"
