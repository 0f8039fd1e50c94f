"""Environments of OpenEnv, played over the network by OpenEnv's own client. The one file that knows it.

Each episode has a connection, and so a session, of its own on the server.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from groupwise.data import Message, Question
from groupwise.envs.actions import spoken
from groupwise.errors import ConfigError

_FIELDS = ("message", "text", "prompt", "content", "output", "result", "observation")
"""Fields of an observation that hold its text, the first that is there, where the recipe names none."""


class OpenEnv:
    """One episode on an OpenEnv server: reset, a step for each turn of the policy, until the environment is done.

    url: of the server. action: the field of an action that the turn, without its reasoning, goes into; fields: what
    else each action has. observation: the field that is shown; None: the first of some usual ones, else all as JSON.
    tools: the policy calls the environment's MCP tools instead; a turn without a call ends the episode. reset: columns
    of the question that reset() gets beside the seed. reward: sum of the steps' rewards, or the last one.
    timeout_seconds: for one answer of the server.
    """

    def __init__(
        self,
        *,
        url: str,
        action: str = "message",
        fields: Mapping[str, Any] | None = None,
        observation: str | None = None,
        tools: bool = False,
        reset: Sequence[str] = (),
        reward: str = "sum",
        timeout_seconds: float = 60,
    ) -> None:
        if not isinstance(url, str) or not url.startswith(("http://", "https://", "ws://", "wss://")):
            raise ConfigError(f"environment_params.url = {url!r}", hint="give the server's, http://127.0.0.1:8000")
        if reward not in ("sum", "last"):
            raise ConfigError(f"environment_params.reward = {reward!r}", hint="choose from: sum, last")
        if isinstance(reset, str):
            raise ConfigError(f"environment_params.reset = {reset!r}", hint="give a list of columns")
        if tools and (fields or action != "message"):
            raise ConfigError(
                "environment_params.tools: actions are the calls then", hint="leave action and fields out"
            )
        _client_of(url, timeout_seconds)
        self._url, self._seconds = url, timeout_seconds
        self._action, self._fields, self._observation = action, dict(fields or {}), observation
        self._offers, self._columns, self._reward = tools, tuple(reset), reward
        self.tools: tuple[dict[str, Any], ...] = ()
        self._client: Any = None
        self._rewards: list[float] = []
        self._steps, self._done = 0, False

    def reset(self, question: Question) -> list[Message]:
        self._client = _client_of(self._url, self._seconds)
        self._client.connect()
        given = {name: question.meta[name] for name in self._columns if name in question.meta}
        result = self._client.reset(**{"seed": _seed(question)} | given)
        if self._offers:
            listed = self._client.step({"type": "list_tools"}).observation.get("tools") or ()
            self.tools = tuple(_schema(tool) for tool in listed)
        text = _text(result.observation, self._observation)
        messages = list(question.messages)
        last = max((place for place, message in enumerate(messages) if message.role == "user"), default=None)
        if last is None:
            return [*messages, Message("user", text)]
        if text:
            messages[last] = Message("user", f"{messages[last].content}\n{text}")
        return messages

    def reply(self, messages: Sequence[Message]) -> list[Message] | None:
        if self._offers:
            return self._called(messages[-1])
        shown = self._step({self._action: spoken(messages[-1].content).strip(), **self._fields})
        return None if self._done else [Message("user", _text(shown, self._observation))]

    def outcome(self) -> dict[str, Any]:
        paid = sum(self._rewards) if self._reward == "sum" else (self._rewards or [0.0])[-1]
        return {"reward": float(paid), "turns": self._steps, "done": float(self._done)}

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # the server is gone, and so is the session
                client.close()

    def _called(self, turn: Message) -> list[Message] | None:
        if not turn.calls:
            return None
        replies = []
        for call in turn.calls:
            if call.error:
                replies.append(f"error: the call cannot be read: {call.error}")
                continue
            arguments = {"tool_name": call.name, "arguments": dict(call.arguments)}
            replies.append(_result(self._step({"type": "call_tool", **arguments})))
        return None if self._done else [Message("tool", text) for text in replies]

    def _step(self, action: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            result = self._client.step(dict(action))
        except TimeoutError:
            raise TimeoutError(f"the OpenEnv server {self._url} took longer than {self._seconds:g} s") from None
        except RuntimeError as error:
            given = ", ".join(action)
            raise RuntimeError(f"{error}; the action had the fields: {given}") from None
        self._steps += 1
        self._done = bool(result.done)
        if result.reward is not None:
            self._rewards.append(float(result.reward))
        observation: Mapping[str, Any] = result.observation
        return observation


def _client_of(url: str, seconds: float) -> Any:
    """A client that is not connected. Raises ConfigError if the package cannot be imported."""
    try:
        from openenv.core import GenericEnvClient
    except ImportError as error:
        what = f"the package openenv (0.3 or later) cannot be imported: {error}"
        raise ConfigError(what, hint="docs/environments.md says how to install it") from None
    return GenericEnvClient(base_url=url, message_timeout_s=seconds).sync()


def _text(observation: Mapping[str, Any], field: str | None) -> str:
    """What an observation shows. Raises ValueError if it lacks the field."""
    if field is not None and field not in observation:
        raise ValueError(f"the observation has no field {field!r}; it has: {', '.join(observation)}")
    name = field or next((name for name in _FIELDS if isinstance(observation.get(name), str)), None)
    others = {key: value for key, value in observation.items() if key != "metadata"}
    shown = others if name is None else observation[name]
    if isinstance(shown, str):
        return shown
    return json.dumps(shown, ensure_ascii=False) if shown else ""


def _result(observation: Mapping[str, Any]) -> str:
    """The text of a tool's result, in the forms in which MCP results come."""
    if observation.get("error"):
        error = observation["error"]
        return f"error: {error.get('message', error) if isinstance(error, Mapping) else error}"
    result = observation.get("result")
    if isinstance(result, Mapping):
        parts = [part.get("text") for part in result.get("content") or () if isinstance(part, Mapping)]
        if any(isinstance(part, str) for part in parts):
            text = "\n".join(part for part in parts if isinstance(part, str))
            return f"error: {text}" if result.get("is_error") or result.get("isError") else text
        result = result.get("data", result)
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _schema(tool: Mapping[str, Any]) -> dict[str, Any]:
    parameters = tool.get("input_schema") or tool.get("inputSchema") or {"type": "object", "properties": {}}
    function = {"name": tool["name"], "description": tool.get("description") or "", "parameters": parameters}
    return {"type": "function", "function": function}


def _seed(question: Question) -> int:
    """The question's own seed, or one that follows from its id."""
    given = question.meta.get("seed")
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    name = question.id.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "little") >> 1
