"""What the record and the checkpoints of the demo cost: `python -m benchmarks.safety [--steps 3]`.

Wall clock and CPU seconds of each step, of its transaction in the record, and of a checkpoint, on this machine.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from groupwise.config import read_recipe
from groupwise.model import checkpoint
from groupwise.record.write import Recorder
from groupwise.stages import rl

Spent = dict[str, list[tuple[float, float]]]


def timed(spent: Spent, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with (wall clock, CPU) seconds of each call written down."""

    def call(*given: Any, **named: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            return function(*given, **named)
        finally:
            spent.setdefault(name, []).append((time.perf_counter() - wall, time.process_time() - cpu))

    return call


def measured(steps: int) -> dict[str, Any]:
    """Seconds of a demo's steps, of their records, and of its checkpoint; and both as shares of a run of 30 steps."""
    spent: Spent = {}
    recipe = read_recipe("recipes/demo.yaml", [f"update.steps={steps}", "questions.heldout_size=0"])
    Recorder.write_step = timed(spent, "record", Recorder.write_step)  # type: ignore[method-assign]
    rl.rl_step = timed(spent, "step", rl.rl_step)
    checkpoint.save_checkpoint = timed(spent, "checkpoint", checkpoint.save_checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        rl.train(recipe, Path(folder) / "run")
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    mean = {name: [sum(values) / len(values) for values in zip(*calls, strict=True)] for name, calls in spent.items()}
    share = [
        (30 * record + checkpoint) / (30 * step + checkpoint)
        for record, checkpoint, step in zip(mean["record"], mean["checkpoint"], mean["step"], strict=True)
    ]
    named = {name: dict(zip(("wall", "cpu"), values, strict=True)) for name, values in mean.items()}
    return {"seconds": named, "share of 30 steps": dict(zip(("wall", "cpu"), share, strict=True)), "bytes": size}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3)
    print(json.dumps(measured(parser.parse_args().steps), indent=1))
