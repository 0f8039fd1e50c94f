"""Bytes that sampling and an update take, beside those that a run counts before it loads a model.

python -m benchmarks.memory

SmolLM2-135M (layers computed as a whole) and a small Gemma 2 (module by module), three sizes of batch each. A part runs
in a process forked for it; what it takes is the growth of that process's peak of resident memory. Linux only.
"""

import argparse
import ctypes
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Gemma2Config

from groupwise.config import ModelConfig, Recipe, RLRecipe, recipe_from
from groupwise.data import Group, Message, Output, Question, Reward, Sample, Sampling
from groupwise.engines.base import Task, generate
from groupwise.engines.local import LocalEngine
from groupwise.model.batch import Rollouts
from groupwise.model.device import pick_device
from groupwise.model.footprint import footprint
from groupwise.model.memory import default_recompute, keep_freed_memory
from groupwise.model.policy import Policy, prepare
from groupwise.model.products import fastest_products
from groupwise.model.tokenizer import load_tokenizer
from groupwise.run.memory_parts import Models, need

QUESTION, OUTPUT, GROUP = 60, 24, 8
ROWS = (16, 64, 200)
"""Held-out questions that are answered side by side."""
TOKENS = (384, 768, 1536)
"""Of a micro-batch."""
GEMMA = Gemma2Config(
    vocab_size=49152, hidden_size=384, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=6,
    num_key_value_heads=3, head_dim=64, final_logit_softcapping=3.0,
    initializer_range=0.1, eos_token_id=2, pad_token_id=1, bos_token_id=None,
)  # fmt: skip
CPU = pick_device("cpu")


def policy_of(name: str) -> Policy:
    tokenizer = load_tokenizer(ModelConfig(path="smollm2-135m-instruct", device="cpu"))
    endless = replace(tokenizer, template=replace(tokenizer.template, end_tokens=frozenset()))
    if name == "smollm2":
        model = AutoModelForCausalLM.from_pretrained(tokenizer.source, dtype=torch.float32)
        for weight in model.parameters():  # else files are mapped, and their pages count when they are first read
            weight.data = weight.data.clone()
    else:
        model = AutoModelForCausalLM.from_config(GEMMA)
    policy = prepare(model.eval(), endless, device=CPU, precision=torch.float32, matmul_backend=fastest_products(CPU))
    policy.recompute_if_it_can(default_recompute(CPU))
    return policy


def recipe_of(*, rows: int = 0, tokens: int | None = None) -> RLRecipe:
    """rows: held-out questions; tokens: of a micro-batch."""
    tree: dict[str, Any] = {
        "model": {"path": "tiny", "device": "cpu", "matmul_backend": fastest_products(CPU)},
        "questions": {"source": "arithmetic", "heldout_size": rows},
        "rewards": [{"function": "number"}],
        "rollout": {"questions_per_step": 1 if rows else 32, "group_size": GROUP, "max_new_tokens": OUTPUT},
        "update": {"steps": 1, "tokens_per_microbatch": tokens},
    }
    return recipe_from(tree, where="benchmarks.memory")


def questions(count: int) -> list[tuple[int, ...]]:
    return [tuple(torch.randint(10, 9000, (QUESTION,)).tolist()) for _ in range(count)]


def sample(policy: Policy, rows: int) -> None:
    tasks = [Task(question, (number,)) for number, question in enumerate(questions(rows))]
    generate(LocalEngine(policy), tasks, Sampling(max_new_tokens=OUTPUT))


def rollouts_of(tokens: int) -> Rollouts:
    """Whole groups of at most so many tokens."""
    return Rollouts.of([_group(question) for question in questions(tokens // (QUESTION + GROUP * OUTPUT))])


def _group(question: tuple[int, ...]) -> Group:
    import numpy as np

    ids = np.array(question, dtype=np.int32)
    outputs = [
        Output(
            question_tokens=ids,
            tokens=np.random.randint(10, 9000, OUTPUT).astype(np.int32),
            sampled=np.ones(OUTPUT, dtype=bool),
            logprobs=np.zeros(OUTPUT, dtype=np.float32),
            text="",
            finish="length",
            policy_version=0,
        )
        for _ in range(GROUP)
    ]
    return Group(Question("q", (Message("user", ""),)), tuple(Sample(output, Reward(0.0)) for output in outputs))


def update(policy: Policy, tokens: int) -> None:
    rollouts = rollouts_of(tokens)
    policy.backward(
        rollouts, rollouts.output_mask, sampling=Sampling(max_new_tokens=OUTPUT), loss=lambda found, _: found.sum()
    )


def growth(part: Callable[[], None]) -> int:
    """Bytes by which the peak of resident memory grows while a forked process does this."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _peak()
        part()
        os.write(writer, str(_peak() - before).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    return int(found)


def _peak() -> int:
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]


def counted(recipe: Recipe, policy: Policy, turn: str) -> int:
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(policy.model.config)
    found = need(
        recipe, Models([empty], [], footprint(empty)), question=QUESTION, heldout=recipe.questions.heldout_size
    )
    return int(sum(getattr(found, turn).values()))


def rows_of(name: str) -> None:
    policy = policy_of(name)
    for weight in policy.model.parameters():
        weight.grad = torch.ones_like(weight)  # every page of it is held before
    parts: list[tuple[str, int, Recipe, Callable[[int], None]]] = [
        *(("sampling", rows, recipe_of(rows=rows), lambda n: sample(policy, n)) for rows in ROWS),
        *(("update", tokens, recipe_of(tokens=tokens), lambda n: update(policy, n)) for tokens in TOKENS),
    ]
    for turn, size, recipe, part in parts:
        took, said = growth(lambda part=part, size=size: part(size)), counted(recipe, policy, turn)  # type: ignore[misc]
        row = {"model": name, "part": turn, "size": size, "MiB taken": took >> 20, "MiB counted": said >> 20}
        print(json.dumps(row | {"counted / taken": round(said / took, 2)}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["smollm2", "gemma2"])
    keep_freed_memory()
    torch.set_num_threads(1)
    for model in parser.parse_args().models:
        rows_of(model)
