"""What came of a question's episodes: outputs, failures, and figures of each episode."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from groupwise.data import Finish, Message, Output

UNKNOWN = "(unknown)"
"""Stands for every name of a tool that there is none of: a policy may invent any number of names."""
FAILED = "error:"
"""How the reply to a call of a tool begins that failed."""


@dataclass(frozen=True)
class Figures:
    """What an episode of several turns took. turns: of the policy. seconds: of each call of its environment.

    calls: of tools, each with its name and whether it failed: it could not be read, or its reply says so.
    """

    turns: int
    finish: Finish
    seconds: tuple[float, ...]
    calls: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Played:
    """The outputs of a question, one an episode; failures: of each what its environment raised, "" for none.

    further: an episode's other outputs with its place among the outputs: an agent may have asked several things. They
    get the episode's reward. figures: of each episode; () where an episode is one turn.
    """

    outputs: tuple[Output, ...]
    failures: tuple[str, ...]
    further: tuple[tuple[int, Output], ...] = ()
    figures: tuple[Figures, ...] = ()

    @property
    def sound(self) -> list[Output]:
        """The outputs whose environment did not fail."""
        return [output for output, failure in zip(self.outputs, self.failures, strict=True) if not failure]


def tool_calls(messages: Sequence[Message], known: Collection[str]) -> tuple[tuple[str, bool], ...]:
    """The policy's calls of tools in a conversation as `Figures.calls`. known: names of the tools that there are."""
    found = []
    for place, message in enumerate(messages):
        replies = [reply.content for reply in messages[place + 1 : place + 1 + len(message.calls)]]
        for number, call in enumerate(message.calls):
            said = replies[number] if number < len(replies) else ""
            name = call.name if call.name in known else UNKNOWN
            found.append((name, bool(call.error) or name == UNKNOWN or said.lstrip().lower().startswith(FAILED)))
    return tuple(found)


def episode_metrics(figures: Sequence[Figures]) -> dict[str, float]:
    """Metrics of a step's episodes of several turns; {} if there are none."""
    if not figures:
        return {}
    calls: Mapping[str, list[bool]] = defaultdict(list)
    for name, failed in (call for one in figures for call in one.calls):
        calls[name].append(failed)
    return {
        "turns/mean": fmean(one.turns for one in figures),
        "turns/max": float(max(one.turns for one in figures)),
        "finish/turns": fmean(one.finish == "turns" for one in figures),
        "finish/error": fmean(one.finish == "error" for one in figures),
        "time/environment": fmean(sum(one.seconds) for one in figures),
        "time/environment_slowest": max((second for one in figures for second in one.seconds), default=0.0),
        **{f"tools/calls/{name}": float(len(own)) for name, own in sorted(calls.items())},
        **{f"tools/failed/{name}": fmean(own) for name, own in sorted(calls.items())},
    }
