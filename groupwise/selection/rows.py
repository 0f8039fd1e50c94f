"""The file of kept outputs: one JSON object a line, prompt, completion and where it comes from. Whole or absent."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from groupwise.atomic import write_whole
from groupwise.contents import part_of
from groupwise.data import Example, Message
from groupwise.selection.select import Kept, drawn

Row = dict[str, Any]


def row_of_kept(kept: Kept, origin: Mapping[str, Any]) -> Row:
    """A kept output as `stage: sft` reads it: the question as it was asked, and the answer as it was said.

    made: what sampled it (model, seed, policy).
    """
    candidate = kept.candidate
    return {
        "prompt": _turns(kept.question.prompt),
        "completion": _turns([Message("assistant", kept.question.prefill + candidate.text)]),
        "provenance": {
            **origin,
            "step": candidate.step,
            "question_id": candidate.question_id,
            "sample": candidate.sample,
            "tokens": candidate.tokens,
            "reward": candidate.reward,
            "rewards": dict(candidate.rewards),
        },
    }


def row_of_example(example: Example, source: str) -> Row:
    """Another example in the same columns: every turn of its assistant that is learned stands in the completion."""
    start = example.prompt_messages or example.learned[0]
    completion: list[dict[str, Any]] = [*_turns(example.messages[start:])]
    for index in example.unlearned:
        if index >= start:
            completion[index - start]["weight"] = 0
    return {
        "prompt": _turns(example.messages[:start]),
        "completion": completion,
        "provenance": {"source": source, "where": example.where},
    }


def lines(rows: Iterable[Row], *, seed: int) -> list[str]:
    """The rows as JSON, in an order drawn by the seed from what they say, wherever that came from."""
    ordered = sorted(rows, key=lambda row: drawn(seed, "order", _json([_told(row["prompt"]), row["completion"]])))
    return [_json(row) for row in ordered]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def write_lines(path: Path, found: Sequence[str]) -> None:
    """Writes a file of lines as a whole or not at all."""
    write_whole(path, "".join(f"{line}\n" for line in found))


def _turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [{"role": turn.role, "content": _content(turn)} for turn in messages]


def _content(turn: Message) -> Any:
    if not turn.images:
        return turn.content
    return [{"type": "text", "text": part} if isinstance(part, str) else part_of(part) for part in turn.parts]


def _told(said: Any) -> Any:
    """Turns without where their pictures are: these have digests."""
    if isinstance(said, list):
        return [_told(inner) for inner in said]
    if not isinstance(said, dict):
        return said
    return {key: _told(value) for key, value in said.items() if key != "image" or "digest" not in said}
