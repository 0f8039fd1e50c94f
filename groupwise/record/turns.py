"""The turns of an episode as the record keeps them, and its outcome: JSON with the tokens of each turn. No SQL."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from groupwise.data import Message, Output, ToolCall, message_of_dict
from groupwise.record.schema import Answer

MOST_OUTCOME = 64 * 1024
"""Characters of an outcome's JSON; of a longer one the short entries are kept, and the names of the others."""
SHORT = 256
"""Characters of such an entry."""
LEFT_OUT = "(left out)"
"""Key of those names."""


def turns_of(messages: Sequence[Message], spans: Sequence[tuple[int, int]] = ()) -> list[dict[str, Any]]:
    """Each turn as a dict: role, content, `tokens` [first, end) of the output, where known, and `calls` of tools.

    The question is not among them. A call's `raw` is its place [start, end) in the turn's text.
    """
    known = len(spans) == len(messages)
    return [
        {
            **message.as_dict(),
            **({"tokens": list(spans[place])} if known else {}),
            **({"calls": list(_calls(message))} if message.calls else {}),
        }
        for place, message in enumerate(messages)
    ]


def messages_from(
    turns: Sequence[Mapping[str, Any]] | None,
) -> tuple[tuple[Message, ...], tuple[tuple[int, int], ...]]:
    """The messages and their spans of what `turns_of` gave; None: there are none."""
    messages = [
        replace(message, calls=tuple(_call(one, message.content) for one in turn.get("calls", ())))
        for turn, message in ((turn, message_of_dict(turn)) for turn in turns or ())
    ]
    return tuple(messages), tuple((turn["tokens"][0], turn["tokens"][1]) for turn in turns or () if "tokens" in turn)


def episode_row(episode: Output | Answer) -> dict[str, Any]:
    """What a row about an output of several turns has beside it: `turns`, and `outcome` where there is one."""
    return {
        **({"turns": turns_of(episode.messages, episode.spans)} if episode.messages else {}),
        **({"outcome": dict(episode.outcome)} if episode.outcome else {}),
    }


def bounded(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """An outcome of at most MOST_OUTCOME characters of JSON."""
    if len(json.dumps(outcome)) <= MOST_OUTCOME:
        return dict(outcome)
    kept: dict[str, Any] = {}
    left: list[str] = []
    room = MOST_OUTCOME // 2
    for name, value in outcome.items():
        size = len(json.dumps([name, value]))
        if size <= SHORT and size <= room:
            kept[name], room = value, room - size
        elif len(left) < 100:
            left.append(name[:SHORT])
    return {**kept, LEFT_OUT: left}


def conversation(turns: Sequence[Mapping[str, Any]] | Sequence[Message]) -> str:
    """Turns as a person reads them, each with who says it."""
    messages = [turn if isinstance(turn, Message) else message_of_dict(turn) for turn in turns]
    return "\n".join(f"{message.role}: {message.content.strip()}" for message in messages)


def shown(row: Mapping[str, Any], most: int) -> list[str]:
    """Lines that show a row's output: its text; of several turns each, with who says it. most: characters of a line."""
    messages = [message_of_dict(turn) for turn in row.get("turns", ())]
    if not messages:
        return [repr(row["text"][:most])]
    lines = [f"{message.role}: {message.content[:most]!r}" for message in messages]
    return lines if len(lines) <= 12 else [*lines[:6], f"... {len(lines) - 12} more turns", *lines[-6:]]


def _calls(message: Message) -> Iterator[dict[str, Any]]:
    place = 0
    for call in message.calls:
        start = message.content.find(call.raw, place) if call.raw else -1
        place = start + len(call.raw) if start >= 0 else place
        found = {
            "name": call.name,
            "arguments": dict(call.arguments),
            "raw": [start, place] if start >= 0 else call.raw,
        }
        yield {**found, "error": call.error} if call.error else found


def _call(found: Mapping[str, Any], content: str) -> ToolCall:
    raw = found["raw"]
    text = raw if isinstance(raw, str) else content[raw[0] : raw[1]]
    return ToolCall(found["name"], found["arguments"], text, found.get("error", ""))
