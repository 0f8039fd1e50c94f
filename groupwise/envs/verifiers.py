"""Environments of the package verifiers (0.4 and later), played as they are: its harness drives the policy.

The package works in an event loop of its own, in a thread.
"""

import asyncio
import json
import os
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

from groupwise.data import Question
from groupwise.envs.agent import KEY, MODEL
from groupwise.errors import ConfigError
from groupwise.functions import last_line

_KEY_VARIABLE = "GROUPWISE_AGENT_KEY"
"""Where the package's client looks for its API key."""


class Verifiers:
    """Plays an episode of a verifiers environment against the run's endpoint.

    taskset: its id, as `eval` of the package takes it, or a dict with `id` and the taskset's own settings. harness: id
    or dict; None: the taskset's own. runtime: where the harness runs; a subprocess of this machine unless another is
    named. env: further settings of the package's [env] block. seconds, at_once: as of an agent.

    Questions come from the source `verifiers` with the same taskset. The outcome has the environment's `reward`, and
    its rewards and metrics by name.
    """

    def __init__(
        self,
        *,
        taskset: str | Mapping[str, Any],
        harness: str | Mapping[str, Any] | None = None,
        runtime: str | Mapping[str, Any] = "subprocess",
        env: Mapping[str, Any] | None = None,
        seconds: float = 600.0,
        at_once: int = 16,
    ) -> None:
        self.seconds, self.at_once = float(seconds), at_once
        agent: dict[str, Any] = {"runtime": {"type": runtime} if isinstance(runtime, str) else dict(runtime)}
        if harness is not None:
            agent["harness"] = _by_id(harness)
        self._env = _served({"agent": agent, **(env or {}), "taskset": _by_id(taskset)})

    def play(self, question: Question, base_url: str) -> Mapping[str, Any]:
        """One episode. Raises RuntimeError with what the environment reports as its error."""
        place = question.meta.get("verifiers")
        if not isinstance(place, int) or place >= len(self._env.tasks):
            raise LookupError(f"question {question.id!r} is none of the taskset's: take the source verifiers")
        return self._env.play(place, base_url, self.seconds)

    def stop(self) -> None:
        """Nothing: what is still going on is refused by the endpoint, and ends with the process."""


class _Environment:
    """A verifiers environment with what it serves, open for the life of the process."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        from verifiers.v1.utils.loaders import load_environment, resolve_env_config

        os.environ.setdefault(_KEY_VARIABLE, KEY)
        self._env = load_environment(resolve_env_config(dict(config)))
        if not self._env.taskset.bounded:
            raise ValueError("the taskset is endless: bound it in its settings")
        self.tasks = list(self._env.taskset)
        self._loop = asyncio.new_event_loop()
        self._opened = threading.Event()
        self._failure: BaseException | None = None
        threading.Thread(target=self._serve, name="verifiers", daemon=True).start()
        self._opened.wait()
        if self._failure is not None:
            raise self._failure

    def _serve(self) -> None:
        async def open_for_ever() -> None:
            async with self._env.serving():
                self._opened.set()
                await asyncio.Event().wait()

        try:
            self._loop.run_until_complete(open_for_ever())
        except BaseException as error:  # SystemExit where the package misses a login
            self._failure = RuntimeError(f"{type(error).__name__}: {error}")
            self._opened.set()

    def play(self, place: int, base_url: str, seconds: float) -> dict[str, Any]:
        from verifiers.v1.clients import ModelContext
        from verifiers.v1.configs.client import EvalClientConfig

        client = EvalClientConfig(base_url=base_url, api_key_var=_KEY_VARIABLE)
        coroutine = self._env.run_episode(self.tasks[place], ModelContext(model=MODEL, client=client))
        episode = asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(seconds)
        if not episode.ok:
            errors = [*episode.errors, *(error for trace in episode.traces for error in trace.errors)]
            raise RuntimeError(f"{errors[-1].type}: {errors[-1].message}" if errors else "the episode is not complete")
        found: dict[str, Any] = {"reward": sum(trace.reward for trace in episode.traces) / len(episode.traces)}
        for trace in episode.traces:
            found |= {name: value for name, value in trace.metrics.items() if value is not None}
            found |= {name: reward.value for name, reward in trace.rewards.items() if reward is not None}
        return found


def _by_id(named: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"id": named} if isinstance(named, str) else dict(named)


def _served(config: Mapping[str, Any]) -> _Environment:
    """The environment of these settings, opened once in a process. Raises ConfigError."""
    return _opened(json.dumps(config, sort_keys=True, default=repr))


@cache
def _opened(config: str) -> _Environment:
    where = "rollout.environment = 'verifiers'"
    try:
        return _Environment(json.loads(config))
    except ImportError as error:
        hint = "pip install 'verifiers>=0.4' uv, and the taskset's package"
        raise ConfigError(f"{where}: {last_line(error, [])}", hint=hint) from None
    except Exception as error:  # whatever the package or the taskset raises
        raise ConfigError(f"{where}: {last_line(error, [])}", hint="mend rollout.environment_params") from None
