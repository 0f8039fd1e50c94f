"""OpenAI's chat completions."""

from collections.abc import Iterator, Mapping
from typing import Any

from groupwise.agents.wire import (
    Answer,
    Asked,
    BadRequest,
    Call,
    Protocol,
    canonical,
    chosen_tools,
    function_of,
    limit_of,
    objects,
    openai_error,
    refuse,
    role_of,
    stops_of,
    turn_of,
    unused_of,
)

_READ = {"model", "messages", "tools", "tool_choice", "max_tokens", "max_completion_tokens", "stop", "stream", "n"}
_READ |= {"stream_options", "user", "metadata", "store", "parallel_tool_calls", "return_token_ids", "safety_identifier"}


def _asked(body: Mapping[str, Any]) -> Asked:
    refuse(body, {"n": [1], "response_format": [{"type": "text"}], "logit_bias": [{}], "functions": [[]]})
    turns = []
    for where, message in objects(body, "messages", some=True):
        calls = tuple(_call(call.get("function"), where) for _, call in objects(message, "tool_calls"))
        role = role_of(message.get("role"), where)
        turns.append(turn_of(role, message.get("content"), f"{where}.content", calls))
    tools = [function_of(tool.get("function"), where) for where, tool in objects(body, "tools")]
    return Asked(
        turns=tuple(turns),
        tools=chosen_tools(body, tools),
        limit=limit_of(body.get("max_tokens"), body.get("max_completion_tokens")),
        stop=stops_of(body.get("stop")),
        stream=bool(body.get("stream")),
        unused=unused_of(body, _READ),
        ids=bool(body.get("return_token_ids")),
    )


def _call(function: Any, where: str) -> Call:
    if not isinstance(function, Mapping):
        raise BadRequest(f"{where}.tool_calls has one that calls no function")
    return Call(str(function.get("name")), canonical(function.get("arguments")))


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
