"""Anthropic's messages."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from groupwise.agents.wire import (
    Answer,
    Asked,
    Call,
    Protocol,
    Turn,
    canonical,
    chosen_tools,
    function_of,
    limit_of,
    objects,
    role_of,
    stops_of,
    turn_of,
    unused_of,
)

_READ = {"model", "messages", "system", "tools", "tool_choice", "max_tokens", "stop_sequences", "stream", "metadata"}


def _asked(body: Mapping[str, Any]) -> Asked:
    turns = [turn_of("system", body["system"], "system")] if body.get("system") else []
    for where, message in objects(body, "messages", some=True):
        turns += _anthropic_turns(message, where)
    tools = [
        function_of(
            {
                "name": tool.get("name"),
                "description": tool.get("description", ""),
                "parameters": tool.get("input_schema", {"type": "object", "properties": {}}),
            },
            where,
        )
        for where, tool in objects(body, "tools")
    ]
    return Asked(
        turns=tuple(turns),
        tools=chosen_tools(body, tools),
        limit=limit_of(body.get("max_tokens")),
        stop=stops_of(body.get("stop_sequences")),
        stream=bool(body.get("stream")),
        unused=unused_of(body, _READ),
    )


def _anthropic_turns(message: Mapping[str, Any], where: str) -> list[Turn]:
    role, content = role_of(message.get("role"), where), message.get("content")
    if isinstance(content, str):
        return [Turn(role, content)]
    texts: list[Any] = []
    calls: list[Call] = []
    results: list[Turn] = []
    for block in content or ():
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind == "tool_use":
            calls.append(Call(str(block.get("name")), canonical(block.get("input"))))
        elif kind == "tool_result":
            results.append(turn_of("tool", block.get("content"), f"{where}.content"))
        elif kind not in ("thinking", "redacted_thinking"):
            texts.append(block)
    said = turn_of(role, texts, f"{where}.content", tuple(calls))
    return [*results, *([said] if texts or calls or not results else [])]


_STOP_REASON = {"stop": "end_turn", "length": "max_tokens", "calls": "tool_use"}


def _whole(answer: Answer, key: str, model: str) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": answer.content}] if answer.content else []
    for place, call in enumerate(answer.calls):
        try:
            given = json.loads(call.arguments)
        except ValueError:
            given = {}
        content.append({"type": "tool_use", "id": f"toolu_{key}_{place}", "name": call.name, "input": given})
    return {
        "id": f"msg_{key}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": _STOP_REASON[answer.finish],
        "stop_sequence": None,
        "usage": {"input_tokens": len(answer.prompt_tokens), "output_tokens": len(answer.tokens)},
    }


def _events(answer: Answer, key: str, model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    whole = _whole(answer, key, model)
    usage = {**whole["usage"], "output_tokens": 0}
    yield (
        "message_start",
        {
            "type": "message_start",
            "message": {**whole, "content": [], "stop_reason": None, "usage": usage},
        },
    )
    for place, block in enumerate(whole["content"]):
        if block["type"] == "text":
            start, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            partial = json.dumps(block["input"], ensure_ascii=False)
            start, delta = {**block, "input": {}}, {"type": "input_json_delta", "partial_json": partial}
        yield "content_block_start", {"type": "content_block_start", "index": place, "content_block": start}
        yield "content_block_delta", {"type": "content_block_delta", "index": place, "delta": delta}
        yield "content_block_stop", {"type": "content_block_stop", "index": place}
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield "message_delta", {"type": "message_delta", "delta": ended, "usage": whole["usage"]}
    yield "message_stop", {"type": "message_stop"}


def _anthropic_error(message: str, code: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


MESSAGES = Protocol(_asked, _whole, _events, _anthropic_error)
