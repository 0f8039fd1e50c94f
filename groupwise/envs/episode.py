"""The protocol of an episode: what an environment shows the policy, and what it says to each of its turns.

Knows conversations alone: no tokens, no rewards. An environment is code of the user's that runs in the process of the
training, with all its rights, in a thread: episodes are played side by side, each by one thread at a time.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_args

from groupwise import registry
from groupwise.config.sections import SamplingConfig
from groupwise.contents import Place, parts_of
from groupwise.data import Message, Question, Role, message_of_parts
from groupwise.envs.agent import Plays
from groupwise.envs.trl import OfTrl, is_of_trl
from groupwise.errors import ConfigError, DataError, GroupwiseError
from groupwise.functions import find, last_line
from groupwise.strict_json import json_line

SINGLE = "single_turn"


class Environment(Protocol):
    """One episode. A class that a recipe names is called with `rollout.environment_params` for each episode.

    Messages are `Message`s, or dicts with role and content: text, or a list of texts, pictures in memory (Pillow's) and
    parts as in OpenAI's and transformers' messages. The same question and turns must give the same messages, or
    a resumed run would sample others.
    """

    tools: Sequence[Mapping[str, Any]]
    """Tools as JSON schemas, handed to the chat template; may be left out."""
    reply_tokens: int
    """Most tokens of all replies of an episode, with what the chat template writes around them; may be left out."""

    def reset(self, question: Question) -> Sequence[Any]:
        """The conversation that the policy's first turn follows."""

    def reply(self, messages: Sequence[Message]) -> Sequence[Any] | None:
        """What follows the policy's turn, the last of these messages; None: the episode is done.

        Where there are tools, that message's `calls` are those that the policy made.
        """

    def outcome(self) -> Mapping[str, Any]:
        """What came of the episode, asked once at its end: plain values, the environment's own `reward` among them,
        which the reward function `environment` pays. May be left out."""

    def close(self) -> None:
        """Gives back what the episode took. Called once, whatever happened. May be left out."""


class SingleTurn:
    """The question, and one turn."""

    tools: Sequence[Mapping[str, Any]] = ()
    reply_tokens = 0

    def reset(self, question: Question) -> Sequence[Message]:
        return question.messages

    def reply(self, messages: Sequence[Message]) -> None:
        return None

    def outcome(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Environments:
    """How episodes are made. several: an episode may have several turns. max_turns: of the policy; None: no limit.

    reply_tokens: most tokens of all replies of an episode; None: the environment does not say. seconds: limit of one
    call of an environment. rewards: episodes have an outcome. agent: one that drives the policy by itself; it then
    plays the episodes.
    """

    make: Callable[[], Environment] = SingleTurn
    several: bool = False
    max_turns: int | None = None
    reply_tokens: int | None = 0
    seconds: float = 60.0
    rewards: bool = False
    agent: Plays | None = None

    def start(self, question: Question) -> tuple[tuple[Message, ...], tuple[Mapping[str, Any], ...]]:
        """The conversation that a question's first turn follows, and the tools. Raises DataError if reset() fails."""
        if not self.several or self.agent is not None:
            return question.messages, ()
        try:
            environment = self.make()
            try:
                return messages_of(environment.reset(question)), tools_of(environment)
            finally:
                close(environment)
        except Exception as error:
            place = f"{question.where}: " if question.where else ""
            raise DataError(
                f"{place}question {question.id!r}: the environment's reset() failed: {last_line(error)}",
                hint="mend the environment, or drop the question",
            ) from None


SINGLE_TURN = Environments()


_known: dict[str, Environments] = {}


def environments_of(rollout: SamplingConfig) -> Environments:
    """What `rollout.environment` names. Raises ConfigError if it is none, or cannot be made.

    A user's file is imported and an agent made once in a process for the same settings: each step asks anew.
    """
    settings = [rollout.environment, rollout.environment_params, rollout.max_turns, rollout.environment_timeout_seconds]
    key = json.dumps(settings, sort_keys=True, default=repr)
    if key not in _known:
        _known[key] = _named(rollout)
    return _known[key]


def _named(rollout: SamplingConfig) -> Environments:
    where = f"rollout.environment = {rollout.environment!r}"
    several, params = rollout.environment != SINGLE, rollout.environment_params
    if not several and (params or rollout.max_turns is not None):
        raise ConfigError(f"{where} reads no environment_params and no max_turns", hint="leave them out")
    kind: Any = find(registry.ENVIRONMENTS, rollout.environment, where, ConfigError)
    missing = [name for name in ("reset", "reply") if not callable(getattr(kind, name, None))]
    of_trl, drives = is_of_trl(kind), len(missing) == 2 and callable(getattr(kind, "play", None))
    if missing and not of_trl and not drives:
        raise ConfigError(f"{where}: it has no {missing[0]}()", hint="docs/own_environment.md shows an environment")

    def make() -> Any:
        return OfTrl(kind, params) if of_trl else kind(**params)

    try:
        tried = make()
        most = getattr(tried, "reply_tokens", None)
        close(tried)
    except GroupwiseError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None
    except Exception as error:
        raise ConfigError(f"{where}: {last_line(error)}", hint="fix it, or rollout.environment_params") from None
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 0):
        raise ConfigError(f"{where}: its reply_tokens = {most!r}: no number of tokens", hint="give an int, or leave it")
    return Environments(
        make=make,
        several=several,
        max_turns=rollout.max_turns,
        reply_tokens=most,
        seconds=rollout.environment_timeout_seconds,
        rewards=drives or (several and callable(getattr(tried, "outcome", None)) and getattr(tried, "scores", True)),
        agent=tried if drives else None,
    )


def tools_of(environment: Environment) -> tuple[Mapping[str, Any], ...]:
    """The tools that an environment offers; none if it says nothing of them."""
    return tuple(getattr(environment, "tools", ()))


def outcome_of(environment: Environment) -> dict[str, Any]:
    """What an environment says of its episode; {} if it says nothing. Raises TypeError for what no JSON holds."""
    if not callable(getattr(environment, "outcome", None)):
        return {}
    return plain_outcome(environment.outcome())


def plain_outcome(found: Mapping[str, Any]) -> dict[str, Any]:
    """An outcome as the plain values of JSON. Raises TypeError for what is none."""
    if not isinstance(found, Mapping):
        raise TypeError(f"outcome() gives a dict, not {type(found).__name__}")
    values = {str(name): value.item() if hasattr(value, "item") else value for name, value in found.items()}
    reward = values.get("reward")
    if reward is not None and (isinstance(reward, str) or not math.isfinite(reward)):
        raise TypeError(f"outcome()['reward'] = {reward!r}: no finite number")
    kept: dict[str, Any] = json.loads(json_line(values))
    return kept


def close(environment: Environment) -> None:
    """Tells an environment that its episode is over, if it wants to hear of it."""
    if callable(getattr(environment, "close", None)):
        environment.close()


def messages_of(given: Any) -> tuple[Message, ...]:
    """An environment's messages. Raises TypeError for what is none, DataError for a picture that cannot be read."""
    if isinstance(given, str | bytes | Mapping | Message) or not isinstance(given, Sequence):
        raise TypeError(f"an environment gives a list of messages, not {type(given).__name__}")
    found = tuple(
        _message(one, f"messages[{number}]") if isinstance(one, Mapping) else one for number, one in enumerate(given)
    )
    for message in found:
        if not isinstance(message, Message) or message.role not in get_args(Role):
            raise TypeError(f"not a message: {message!r}"[:200])
        if not isinstance(message.content, str):
            raise TypeError(f"a message's content is text, not {type(message.content).__name__}")
    return found


def _message(one: Mapping[str, Any], where: str) -> Message:
    content = one.get("content")
    if not isinstance(content, list | tuple) or not set(one) <= {"role", "content"}:
        return Message(**one)
    return message_of_parts(one["role"], parts_of(content, f"{where}.content", Place(".")))
