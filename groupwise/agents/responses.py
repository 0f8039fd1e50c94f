"""OpenAI's responses."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from groupwise.agents.wire import (
    Answer,
    Asked,
    BadRequest,
    Call,
    Protocol,
    Turn,
    canonical,
    chosen_tools,
    function_of,
    limit_of,
    objects,
    openai_error,
    refuse,
    role_of,
    turn_of,
    unused_of,
)

_READ = {"model", "input", "instructions", "tools", "tool_choice", "max_output_tokens", "stream", "store"}
_READ |= {"metadata", "user", "parallel_tool_calls", "include", "truncation", "previous_response_id"}


def _asked(body: Mapping[str, Any]) -> Asked:
    if body.get("previous_response_id"):
        raise BadRequest("previous_response_id: answers are not kept; send the whole conversation as input")
    refuse(body, {"text": [{"format": {"type": "text"}}], "background": [False], "truncation": ["disabled"]})
    turns = [Turn("system", str(body["instructions"]))] if body.get("instructions") else []
    asked = body.get("input")
    items = {"input": [{"role": "user", "content": asked}] if isinstance(asked, str) else asked}
    for where, item in objects(items, "input", some=True):
        kind = item.get("type", "message")
        if kind == "message":
            turn = turn_of(role_of(item.get("role"), where), item.get("content"), f"{where}.content")
            turns = _joined(turns, turn) if turn.role == "assistant" else [*turns, turn]
        elif kind == "function_call":
            call = Call(str(item.get("name")), canonical(item.get("arguments")))
            turns = _joined(turns, Turn("assistant", "", (call,)))
        elif kind == "function_call_output":
            turns.append(turn_of("tool", item.get("output"), f"{where}.output"))
        elif kind != "reasoning":
            raise BadRequest(f"{where}.type = {kind!r} is not read here")
    tools = [
        function_of({key: value for key, value in tool.items() if key != "type"}, where)
        for where, tool in objects(body, "tools")
    ]
    return Asked(
        turns=tuple(turns),
        tools=chosen_tools(body, tools),
        limit=limit_of(body.get("max_output_tokens")),
        stream=bool(body.get("stream")),
        unused=unused_of(body, _READ),
    )


def _joined(turns: list[Turn], more: Turn) -> list[Turn]:
    """The turns with what the assistant says further in its last one: text and calls are items of their own here."""
    if not turns or turns[-1].role != "assistant":
        return [*turns, more]
    last = turns[-1]
    return [*turns[:-1], Turn("assistant", last.content + more.content, last.calls + more.calls)]


def _items(answer: Answer, key: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if answer.content or not answer.calls:
        part = {"type": "output_text", "text": answer.content, "annotations": []}
        items.append(
            {"type": "message", "id": f"msg_{key}", "role": "assistant", "status": "completed", "content": [part]}
        )
    for place, call in enumerate(answer.calls):
        item = {"type": "function_call", "id": f"fc_{key}_{place}", "call_id": f"call_{key}_{place}"}
        items.append({**item, "name": call.name, "arguments": call.arguments, "status": "completed"})
    return items


def _whole(answer: Answer, key: str, model: str) -> dict[str, Any]:
    asked, said = len(answer.prompt_tokens), len(answer.tokens)
    cut = answer.finish == "length"
    return {
        "id": f"resp_{key}",
        "object": "response",
        "created_at": 0,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "model": model,
        "output": _items(answer, key),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": asked,
            "output_tokens": said,
            "total_tokens": asked + said,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }


def _events(answer: Answer, key: str, model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    whole, number = _whole(answer, key, model), itertools.count()

    def event(kind: str, **content: Any) -> tuple[str, dict[str, Any]]:
        return kind, {"type": kind, "sequence_number": next(number), **content}

    yield event("response.created", response={**whole, "status": "in_progress", "output": [], "usage": None})
    for place, item in enumerate(whole["output"]):
        at = {"output_index": place, "item_id": item["id"]}
        if item["type"] == "message":
            part = item["content"][0]
            yield event("response.output_item.added", output_index=place, item={**item, "content": []})
            empty = {**part, "text": ""}
            yield event("response.content_part.added", **at, content_index=0, part=empty)
            yield event("response.output_text.delta", **at, content_index=0, delta=part["text"], logprobs=[])
            yield event("response.output_text.done", **at, content_index=0, text=part["text"], logprobs=[])
            yield event("response.content_part.done", **at, content_index=0, part=part)
        else:
            yield event("response.output_item.added", output_index=place, item={**item, "arguments": ""})
            yield event("response.function_call_arguments.delta", **at, delta=item["arguments"])
            arguments = {"name": item["name"], "arguments": item["arguments"]}
            yield event("response.function_call_arguments.done", **at, **arguments)
        yield event("response.output_item.done", output_index=place, item=item)
    ended = "response.incomplete" if whole["status"] == "incomplete" else "response.completed"
    yield event(ended, response=whole)


RESPONSES = Protocol(_asked, _whole, _events, openai_error)
