"""The floor of a step: the seconds that its unavoidable matrix products take at the rate torch reaches on each shape.

Counted: what no exact implementation can leave out. Sampling: each question once, then one token a decode step for the
outputs that are not yet finished. Update: each question once with the outputs that have signal (all of them with a KL
term), forward, gradient of the input, gradient of the weight; the last layer at the output tokens alone; with a KL term
one more forward pass of the reference. Not counted, and so in favour of a low floor: attention, norms, softmax,
drawing, the optimizer, reading the weights more often than once a product.

Two floors: at the rate of `torch.mm`, and at that of the fastest product that torch has on this machine.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from benchmarks.workload import Case, case_of, parser

Product = Callable[[Tensor, Tensor], Tensor]
DECODE_ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 128, 256, 512)
"""Rows at which a decode step's products are timed; fewer take the next one's rate, which is the better one."""
TRUNK_ROWS, HEAD_ROWS = 2048, 1024  # tokens to a product where there are many
LARGE_LAYERS = 2  # layers timed where the product, not the reading of its weight, is what costs
REPEATS = 3
KINDS = ("forward", "input gradient", "weight gradient")


@dataclass(frozen=True)
class Model:
    """[out, in] of each weight of a Llama-like model: of a layer, with what shares an input joined; and of the last."""

    layers: int
    trunk: dict[str, tuple[int, int]]
    head: tuple[int, int]

    @classmethod
    def of(cls, folder: Path) -> "Model":
        config = json.loads((folder / "config.json").read_text())
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
        size = config.get("head_dim") or hidden // heads
        queries, keys = heads * size, config["num_key_value_heads"] * size
        trunk = {
            "query, key, value": (queries + 2 * keys, hidden),
            "attention output": (hidden, queries),
            "gate, up": (2 * config["intermediate_size"], hidden),
            "down": (hidden, config["intermediate_size"]),
        }
        return cls(config["num_hidden_layers"], trunk, (config["vocab_size"], hidden))


@dataclass(frozen=True)
class Work:
    """Products of one shape: `rows` tokens to a product, `tokens` altogether, in each layer (or in the last one)."""

    phase: str
    name: str
    kind: str
    rows: int
    tokens: int


def work_of(case: Case, model: Model) -> Iterator[Work]:
    """Everything that has to be multiplied in a step of this case."""
    questions = case.questions * case.prompt_tokens
    yield from _passes("sample", model, trunk=questions, head=case.questions, kinds=KINDS[:1])
    for step in range(1, case.limit):  # the first token comes from the question's own pass
        alive = sum(length > step for length in case.lengths)
        if alive:
            rows = next(size for size in DECODE_ROWS if size >= alive)
            for name in (*model.trunk, "last layer"):
                yield Work("sample", name, "forward", rows, alive)
    used = [signal or bool(case.beta) for signal in case.with_signal]
    outputs = sum(length for length, use in zip(case.lengths, used, strict=True) if use)
    asked = sum(used) // case.outputs * case.prompt_tokens
    trunk = asked + outputs - sum(used)  # nothing is predicted from an output's last token
    yield from _passes("update", model, trunk=trunk, head=outputs, kinds=KINDS)
    if case.beta:
        yield from _passes("update", model, trunk=trunk, head=outputs, kinds=KINDS[:1])


def _passes(phase: str, model: Model, *, trunk: int, head: int, kinds: tuple[str, ...]) -> Iterator[Work]:
    for kind in kinds:
        for name in model.trunk:
            yield Work(phase, name, kind, min(trunk, TRUNK_ROWS), trunk)
        yield Work(phase, "last layer", kind, min(head, HEAD_ROWS), head)


class Rates:
    """Seconds of a product of so many rows in all layers, timed once each, over as many weights as the model has."""

    def __init__(self, model: Model) -> None:
        self.weights = {
            name: [torch.randn(shape) for _ in range(model.layers)] for name, shape in model.trunk.items()
        } | {"last layer": [torch.randn(model.head)]}
        self.seconds = cache(self._seconds)

    def _seconds(self, product: Product, name: str, kind: str, rows: int) -> float:
        weights = self.weights[name]
        timed = weights if rows <= DECODE_ROWS[-1] else weights[:LARGE_LAYERS]
        out, into = weights[0].shape
        inputs, gradients = torch.randn(rows, into), torch.randn(rows, out)
        operands = {
            "forward": lambda weight: (inputs, weight.t()),
            "input gradient": lambda weight: (gradients, weight),
            "weight gradient": lambda weight: (gradients.t(), inputs),
        }[kind]
        times = []
        for _ in range(REPEATS + 1):  # the first is to warm up
            started = perf_counter()
            for weight in timed:
                product(*operands(weight))
            times.append(perf_counter() - started)
        return median(times[1:]) * len(weights) / len(timed)


def floor(case: Case, model: Model, rates: Rates) -> dict:
    """Seconds of sampling, update and both, at torch.mm's rate and at the fastest one's; and each shape's own."""
    joined: dict[Work, int] = {}
    for work in work_of(case, model):
        joined[replace(work, tokens=0)] = joined.get(replace(work, tokens=0), 0) + work.tokens
    shapes = []
    for work, tokens in joined.items():
        seconds = [rates.seconds(product, work.name, work.kind, work.rows) for product in products()]
        out, into = rates.weights[work.name][0].shape
        operations = 2 * out * into * len(rates.weights[work.name])
        shapes.append(
            {"phase": work.phase, "name": work.name, "kind": work.kind, "rows": work.rows, "tokens": tokens}
            | {
                "mm_s": round(seconds[0] * tokens / work.rows, 4),
                "fastest_s": round(min(seconds) * tokens / work.rows, 4),
            }
            | {"mm_gflops": round(operations * work.rows / seconds[0] / 1e9, 1)}
        )
    sums = {
        (phase, rate): sum(shape[rate] for shape in shapes if shape["phase"] == phase)
        for phase in ("sample", "update")
        for rate in ("mm_s", "fastest_s")
    }
    return {
        "sample_s": round(sums["sample", "mm_s"], 3),
        "update_s": round(sums["update", "mm_s"], 3),
        "floor_s": round(sums["sample", "mm_s"] + sums["update", "mm_s"], 3),
        "fastest_sample_s": round(sums["sample", "fastest_s"], 3),
        "fastest_update_s": round(sums["update", "fastest_s"], 3),
        "floor_fastest_s": round(sums["sample", "fastest_s"] + sums["update", "fastest_s"], 3),
        "shapes": shapes,
    }


@cache
def products() -> tuple[Product, ...]:
    """torch.mm, and beside it oneDNN's product where torch has it and it gives the same numbers."""
    try:
        linear = torch.ops.mkldnn._linear_pointwise

        def onednn(left: Tensor, right: Tensor) -> Tensor:
            return linear(left, right.t(), None, "none", [], "")

        left, right = torch.randn(8, 16), torch.randn(16, 4)
        torch.testing.assert_close(onednn(left, right), left @ right, rtol=1e-4, atol=1e-4)
    except (AttributeError, RuntimeError, AssertionError):
        return (torch.mm,)
    return torch.mm, onednn


def main() -> None:
    arguments = parser(__doc__.partition("\n")[0]).parse_args()
    torch.set_num_threads(arguments.threads)
    case, model = case_of(arguments), Model.of(Path(arguments.model))
    named = {"case": case.name, "prompt_tokens": case.prompt_tokens, "beta": case.beta, "threads": arguments.threads}
    with torch.inference_mode():
        print(json.dumps({"system": "floor"} | named | floor(case, model, Rates(model))))


if __name__ == "__main__":
    main()
