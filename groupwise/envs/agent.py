"""Agents as they are: a function or a command that runs its own loop against an OpenAI-compatible endpoint.

What becomes of its requests is groupwise.rollout.agents' affair.
"""

import asyncio
import contextlib
import inspect
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from groupwise.data import Question
from groupwise.errors import ConfigError
from groupwise.functions import find

KEY = "groupwise"
"""The API key that agents are given; it opens nothing."""
MODEL = "policy"
_LONGEST = 2**20  # bytes of what a command writes that are read


class Plays(Protocol):
    """What drives the policy by itself. seconds: limit of an episode. at_once: episodes side by side."""

    seconds: float
    at_once: int

    def play(self, question: Question, base_url: str) -> Mapping[str, Any]:
        """Plays an episode against the endpoint, in the thread of its call; gives its outcome."""

    def stop(self) -> None:
        """Ends what is still going on."""


class Agent:
    """Plays an episode by calling an agent, which asks the model at a base URL of the episode's own.

    run: path/to/file.py:function, called in a thread with those of base_url, api_key, model, messages, prompt,
    question, answer and the question's columns that it has parameters for. command: a program and its arguments, one
    process an episode: OPENAI_BASE_URL, OPENAI_API_KEY and their like are set, the question is a JSON object on its
    standard input. seconds: limit of an episode. at_once: episodes side by side.

    What comes back is the outcome: a number is the `reward`, a text the `answer`, a dict (of a command, a JSON object
    in the last line) all of it.
    """

    def __init__(
        self,
        *,
        run: str | None = None,
        command: Sequence[str] | None = None,
        seconds: float = 600.0,
        at_once: int = 32,
    ) -> None:
        where = "environment_params of agent"
        if (run is None) == (command is None):
            raise ConfigError(f"{where}: give either run or command", hint="run: my_agent.py:run, for one")
        if command is not None and (isinstance(command, str) or not command):
            raise ConfigError(f"{where}: command = {command!r}: give a list", hint="[python, my_agent.py], for one")
        if not seconds > 0 or isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1:
            raise ConfigError(f"{where}: seconds = {seconds!r}, at_once = {at_once!r}: give numbers above 0")
        self.seconds, self.at_once = float(seconds), at_once
        self._command = None if command is None else [str(word) for word in command]
        self._run: Any = None
        self._processes: set[subprocess.Popen[bytes]] = set()
        if run is not None:
            self._run = find({}, run, f"environment_params.run = {run!r}", ConfigError)
            parameters = inspect.signature(self._run).parameters.values()
            self._any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
            self._names = {parameter.name for parameter in parameters}
            if "base_url" not in self._names and not self._any:
                raise ConfigError(
                    f"environment_params.run = {run!r}: it has no parameter base_url, by which it would find the model",
                    hint="add one and pass it to its client; or name it as a command, which finds OPENAI_BASE_URL",
                )

    def play(self, question: Question, base_url: str) -> Mapping[str, Any]:
        """Runs the agent for one episode, in this thread. Raises what it raises."""
        row = {name: value for name, value in question.meta.items() if not name.startswith("_")}
        messages = [message.as_dict() for message in question.messages]
        given = {"messages": messages, "prompt": question.text, "answer": question.answer}
        if self._command is not None:
            return _outcome(self._of_command({**row, **given, "id": question.id}, base_url))
        given |= {"base_url": base_url, "api_key": KEY, "model": MODEL, "question": question}
        named = {name: value for name, value in {**row, **given}.items() if self._any or name in self._names}
        result = self._run(**named)
        return _outcome(asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result)

    def stop(self) -> None:
        """Ends the commands that run."""
        for process in list(self._processes):
            _end(process)

    def _of_command(self, row: Mapping[str, Any], base_url: str) -> Any:
        assert self._command is not None
        root = base_url.removesuffix("/v1")  # Anthropic's client appends /v1 by itself
        environment = os.environ | {
            "OPENAI_BASE_URL": base_url,
            "OPENAI_API_BASE": base_url,
            "OPENAI_API_KEY": KEY,
            "OPENAI_MODEL": MODEL,
            "ANTHROPIC_BASE_URL": root,
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_MODEL": MODEL,
        }
        with tempfile.TemporaryFile() as written, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=written,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
            self._processes.add(process)
            try:
                process.communicate(json.dumps(row, ensure_ascii=False, default=repr).encode(), timeout=self.seconds)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"no answer within {self.seconds:g} s") from None
            finally:
                _end(process)
                self._processes.discard(process)
            text, last = _tail(written), (_tail(errors).splitlines() or [""])[-1]
        if process.returncode:
            raise RuntimeError(f"{self._command[0]} ended with exit code {process.returncode}: {last[:300]}")
        try:
            found = json.loads((text.splitlines() or [""])[-1])
        except ValueError:
            return text
        return found if isinstance(found, dict) else text


def _outcome(result: Any) -> Mapping[str, Any]:
    if result is None:
        return {}
    if isinstance(result, Mapping):
        return result
    if isinstance(result, str):
        return {"answer": result}
    if isinstance(result, bool | int | float) or hasattr(result, "item"):
        return {"reward": float(result)}
    raise TypeError(f"an agent returns a number, a text, a dict or None, not {type(result).__name__}")


def _tail(file: Any) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LONGEST))
    text: str = file.read().decode("utf-8", "replace").strip()
    return text


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process and what it has started in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


async def _awaited(result: Any) -> Any:
    return await result
