"""A tiny model, made from nothing, learns to call a calculator: by the environment `tools`, or as an agent."""

import argparse
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import groupwise


def calc(e: str) -> str:
    """Multiplies.

    Args:
        e: A product, such as 12*3.
    """
    first, second = e.split("*")
    return str(int(first) * int(second))


def agent(base_url: str, api_key: str, model: str, prompt: str) -> None:
    """The same as an agent with a loop of its own, which knows nothing of training."""
    parameters = {"type": "object", "properties": {"e": {"type": "string"}}, "required": ["e"]}
    tool = {"type": "function", "function": {"name": "calc", "description": "Multiplies.", "parameters": parameters}}
    messages: list[Any] = [{"role": "user", "content": prompt}]
    client = connection().with_options(base_url=base_url)
    for _ in range(2):
        message = client.chat.completions.create(model=model, messages=messages, tools=[tool]).choices[0].message
        messages.append(message)
        for call in message.tool_calls or ():
            try:
                result = calc(**json.loads(call.function.arguments))
            except Exception:
                result = "no"
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        if not message.tool_calls:
            return


@cache
def connection() -> Any:
    """One client for all episodes: to make one takes longer than an answer of this model."""
    from openai import OpenAI

    return OpenAI(base_url="http://127.0.0.1", api_key="none")


def write_data(folder: Path) -> None:
    """Questions; and examples for the start, of which half call the tool and the others guess a number."""
    folder.mkdir(parents=True, exist_ok=True)
    draw, pairs = random.Random(0), [(first, second) for first in range(10, 100) for second in range(2, 10)]
    rows = [{"prompt": f"{first}*{second}", "answer": str(first * second)} for first, second in pairs]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    examples = []
    for row in draw.choices(rows, k=20_000):
        called = [f"[calc(e='{row['prompt']}')]", row["answer"], row["answer"]]
        turns = list(zip(("assistant", "tool", "assistant"), called, strict=True))
        turns = turns if draw.random() < 0.5 else [("assistant", str(draw.randint(20, 891)))]
        # The system turn is what the template writes of the tool: without it the start learns another prompt.
        turns = [("system", "calc"), ("user", row["prompt"]), *turns]
        messages = [{"role": role, "content": text} for role, text in turns]
        examples.append(json.dumps({"messages": messages}))
    (folder / "examples.jsonl").write_text("\n".join(examples))


WAYS = {
    "tools": {"environment": "tools", "environment_params": {"tools": [f"{__file__}:calc"]}, "max_turns": 3},
    "agent": {"environment": "agent", "environment_params": {"run": f"{__file__}:agent"}, "max_turns": 3},
    "none": {},  # the same prompt, and nobody who answers a call
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="runs/calculator", help="the folder of both runs")
    parser.add_argument("--way", choices=WAYS, default="tools", help="how the model gets at the calculator")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=160, help="of learning from rewards")
    chosen = parser.parse_args()
    folder = Path(chosen.run)
    write_data(folder)
    start = {
        "seed": chosen.seed,
        "stage": "sft",
        "model": {"path": "tiny_tools"},
        "examples": {"source": str(folder / "examples.jsonl"), "per_step": 40, "heldout_size": 64},
        "update": {"steps": 700, "learning_rate": 3e-3, "schedule": "linear"},
    }
    begun = groupwise.train(start, run=folder / "start")
    learn = {
        "seed": chosen.seed,
        "model": {"path": str(begun.checkpoint)},
        "questions": {"source": str(folder / "questions.jsonl"), "heldout_size": 200}
        | ({"system": "calc"} if chosen.way == "none" else {}),
        "rewards": [{"function": "number", "params": {"where": "first"}}],
        "rollout": {"questions_per_step": 16, "group_size": 8, "max_new_tokens": 32, **WAYS[chosen.way]},
        "objective": {"kl_coef": 0},
        "update": {"steps": chosen.steps, "learning_rate": 5e-4},
        "evaluate": {"samples": 4},
    }
    groupwise.train(learn, run=folder / chosen.way)
