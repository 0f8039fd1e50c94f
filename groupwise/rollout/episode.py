"""One episode on its way: what was said and drawn so far, and what comes of it. Asks nobody."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from groupwise.data import Finish, Message, Output
from groupwise.envs.episode import Environment
from groupwise.functions import last_line
from groupwise.rollout.played import Figures, tool_calls


@dataclass
class Episode:
    """One output on its way. tokens, sampled, logprobs: after the question; drawn: numbers taken from its stream.

    spans: of the messages from `start` on. seconds: of each call of its environment that has ended.
    """

    question: int
    stream: int
    environment: Environment | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    messages: list[Message] = field(default_factory=list)
    start: int = 0  # of the policy's first turn among the messages
    asked: tuple[int, ...] = ()
    tokens: list[int] = field(default_factory=list)
    sampled: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    turns: int = 0
    text: str = ""
    opening: str = ""
    version: int = 0
    finish: Finish | None = None
    failure: str = ""
    outcome: dict[str, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    over: bool = False  # nothing more is asked of its environment

    @property
    def drawn(self) -> int:
        return sum(self.sampled)

    def add(
        self, tokens: Sequence[int], sampled: Sequence[bool], logprobs: Sequence[float], *, messages: int = 1
    ) -> None:
        """Puts tokens behind the others; they stand for so many messages."""
        self.spans += [(len(self.tokens), len(self.tokens) + len(tokens))] * messages
        self.tokens += tokens
        self.sampled += sampled
        self.logprobs += logprobs


def fail(episode: Episode, error: Exception) -> None:
    """Ends an episode whose environment raised."""
    episode.finish, episode.failure = "error", f"the environment failed: {last_line(error)}"


def output_of(episode: Episode, *, turns: bool) -> Output:
    """An episode that has ended, as an output. turns: with its messages."""
    assert episode.finish is not None
    messages = tuple(episode.messages[episode.start :]) if turns else ()
    return Output(
        question_tokens=np.array(episode.asked, dtype=np.int32),
        tokens=np.array(episode.tokens, dtype=np.int32),
        sampled=np.array(episode.sampled, dtype=bool),
        logprobs=np.array(episode.logprobs, dtype=np.float32),
        text=episode.text,
        finish=episode.finish,
        policy_version=episode.version,
        opening=episode.opening,
        messages=messages,
        spans=tuple(episode.spans[: len(messages)]),
        outcome=episode.outcome,
    )


def figures_of(episode: Episode) -> Figures:
    """The figures of an episode that has ended."""
    assert episode.finish is not None
    known = {str(tool.get("function", tool).get("name")) for tool in episode.tools}
    calls = tool_calls(episode.messages[episode.start :], known)
    return Figures(episode.turns, episode.finish, tuple(episode.seconds), calls)
