"""An agent as people write them for OpenAI's API: a loop of requests, with a calculator as its tool.

Nothing in it knows of training. `recipes/agent.yaml` trains the model behind it.
"""

import json
from typing import Any

from openai import OpenAI

from groupwise.envs.tools import calculator

CALCULATOR: Any = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Works out an arithmetic expression.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string", "description": "For example 12 * (3 + 4)."}},
            "required": ["expression"],
        },
    },
}


def example(expression: str, result: str) -> list[Any]:
    """A question that was answered with a call: without one to look at, a small model never calls."""
    arguments = json.dumps({"expression": expression})
    call = {"id": "call_1", "type": "function", "function": {"name": "calculator", "arguments": arguments}}
    return [
        {"role": "user", "content": f"What is {expression}?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
        {"role": "assistant", "content": f"{expression} = {result}."},
    ]


def run(base_url: str, api_key: str, model: str, prompt: str) -> str:
    """Answers a question in at most four requests; returns the last answer."""
    messages = [*example("12 * 7", "84"), *example("45 + 38", "83"), {"role": "user", "content": prompt}]
    with OpenAI(base_url=base_url, api_key=api_key) as client:
        for _ in range(4):
            message = (
                client.chat.completions.create(model=model, messages=messages, tools=[CALCULATOR]).choices[0].message
            )
            messages.append(message)
            if not message.tool_calls:
                break
            for call in message.tool_calls:
                result = calculated(call.function.arguments)
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return message.content or ""


def calculated(arguments: str) -> str:
    """What the tool answers, or why it cannot."""
    try:
        return calculator(json.loads(arguments)["expression"])
    except Exception as error:
        return f"error: {error!r}"
