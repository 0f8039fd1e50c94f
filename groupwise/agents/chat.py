"""OpenAI's chat completions."""

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
    listed,
    openai_error,
    refuse,
    role_of,
    stops_of,
    text_of,
    unused_of,
)

_READ = {"model", "messages", "tools", "tool_choice", "max_tokens", "max_completion_tokens", "stop", "stream", "n"}
_READ |= {"stream_options", "user", "metadata", "store", "parallel_tool_calls", "return_token_ids", "safety_identifier"}


def _asked(body: Mapping[str, Any]) -> Asked:
    refuse(body, {"n": [1], "response_format": [{"type": "text"}], "logit_bias": [{}], "functions": [[]]})
    turns = []
    for place, message in enumerate(listed(body, "messages")):
        where = f"messages[{place}]"
        if not isinstance(message, Mapping):
            raise BadRequest(f"{where} is no object")
        calls = tuple(
            Call(str(call["function"].get("name")), canonical(call["function"].get("arguments")))
            for call in message.get("tool_calls") or ()
            if isinstance(call, Mapping) and isinstance(call.get("function"), Mapping)
        )
        content = text_of(message.get("content"), f"{where}.content")
        turns.append(Turn(role_of(message.get("role"), where), content, calls))
    if not turns:
        raise BadRequest("messages is empty")
    tools = [function_of(tool, f"tools[{place}]") for place, tool in enumerate(listed(body, "tools"))]
    return Asked(
        turns=tuple(turns),
        tools=chosen_tools(body, tools),
        limit=limit_of(body.get("max_tokens"), body.get("max_completion_tokens")),
        stop=stops_of(body.get("stop")),
        stream=bool(body.get("stream")),
        unused=unused_of(body, _READ),
        ids=bool(body.get("return_token_ids")),
    )


_FINISH = {"stop": "stop", "length": "length", "calls": "tool_calls"}


def _calls(answer: Answer, key: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{key}_{place}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for place, call in enumerate(answer.calls)
    ]


def _usage(answer: Answer) -> dict[str, int]:
    asked, said = len(answer.prompt_tokens), len(answer.tokens)
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _whole(answer: Answer, key: str, model: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.content or (None if answer.calls else "")}
    if answer.calls:
        message["tool_calls"] = _calls(answer, key)
    return {
        "id": f"chatcmpl-{key}",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": _FINISH[answer.finish], "logprobs": None}],
        "usage": _usage(answer),
    }


def _events(answer: Answer, key: str, model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> tuple[str, dict[str, Any]]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        base = {"id": f"chatcmpl-{key}", "object": "chat.completion.chunk", "created": 0, "model": model}
        return "", {**base, "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    if answer.content:
        yield chunk({"content": answer.content})
    for place, call in enumerate(_calls(answer, key)):
        yield chunk({"tool_calls": [{"index": place, **call}]})
    yield chunk({}, _FINISH[answer.finish])
    base = {"id": f"chatcmpl-{key}", "object": "chat.completion.chunk", "created": 0, "model": model}
    yield "", {**base, "choices": [], "usage": _usage(answer)}


CHAT = Protocol(_asked, _whole, _events, openai_error, "[DONE]")
