"""Where each second of a step goes: one step under PyTorch's profiler, its own time by kind of work, as a picture.

    python -m benchmarks.seconds --picture docs/step_seconds.png

One thread, so that CPU seconds are seconds. Needs matplotlib (the extra `plot`).
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.groupwise_step import groups_of, load, tasks_of
from benchmarks.workload import Case
from groupwise.config import ObjectiveConfig, UpdateConfig
from groupwise.data import Sampling
from groupwise.engines.base import generate
from groupwise.engines.local import LocalEngine
from groupwise.learn.make_batch import make_batch
from groupwise.learn.optimizer import make_optimizer
from groupwise.learn.update import update_policy
from groupwise.model.batch import Rollouts
from groupwise.run.resolve import resolve

KINDS = {
    "matrix products": ("mkldnn::", "aten::mm", "aten::addmm", "_LinearProduct"),
    "attention": ("groupwise::attend", "aten::_scaled_dot_product", "aten::bmm", "aten::_softmax", "aten::baddbmm"),
    "softmax over the vocabulary": (
        "aten::exp",
        "aten::amax",
        "aten::log",
        "aten::gather",
        "_TokenScores",
        "aten::cumsum",
    ),
    "moving and packing": ("aten::copy_", "aten::cat", "aten::index", "mkldnn::_reorder", "aten::fill_", "aten::zero_"),
    "optimizer": ("aten::_fused_adamw", "aten::linalg_vector_norm", "aten::_foreach"),
}
"""Beginnings of the operators' names; the first kind that fits counts. What fits none: norms, activations, the rest."""
REST = "norms, activations, rotary angles, the rest"


def kind_of(name: str) -> str:
    if name.startswith("mkldnn::_reorder"):
        return "moving and packing"
    return next((kind for kind, starts in KINDS.items() if name.startswith(starts)), REST)


def by_kind(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """CPU seconds of each kind while the work is done, and what it returned."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        result = work()
    seconds = dict.fromkeys([*KINDS, REST], 0.0)
    for event in found.key_averages():
        seconds[kind_of(event.key)] += event.self_cpu_time_total / 1e6
    return seconds, result


def step_seconds(case: Case, model: str) -> dict[str, dict[str, float]]:
    """Seconds of sampling and of the update, by kind; the second step of the process."""
    policy = load(model, "cpu")
    objective, sampling = resolve(ObjectiveConfig(kl_coef=0.0)), Sampling(max_new_tokens=case.limit)
    config = UpdateConfig(steps=2)
    optimizer, engine = make_optimizer(policy, config), LocalEngine(policy)
    engine.open()
    engine.sync(policy, 0)

    def update(outputs: list) -> None:
        batch = make_batch(
            policy,
            Rollouts.of(groups_of(case, outputs)),
            objective=objective,
            sampling=sampling,
            truncated=torch.zeros(len(case.lengths), dtype=torch.bool),
            exact_engine=True,
            config=config,
        )
        update_policy(
            policy, optimizer, batch=batch, objective=objective, sampling=sampling, config=config, seed=0, step=0
        )

    update(generate(engine, tasks_of(case, 0), sampling))
    sampled, outputs = by_kind(lambda: generate(engine, tasks_of(case, 1), sampling))
    updated, _ = by_kind(lambda: update(outputs))
    return {"sampling": sampled, "update": updated}


def draw(parts: dict[str, dict[str, float]], title: str, picture: Path) -> None:
    """Stacked bars, one a part of the step."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 3), layout="constrained")
    names = list(parts)
    left = [0.0] * len(names)
    colours = ["#2f5d8a", "#d98032", "#7aa95c", "#9a9a9a", "#8a5fa8", "#d9c04a"]
    for kind, colour in zip([*KINDS, REST], colours, strict=True):
        widths = [parts[name][kind] for name in names]
        axes.barh(names, widths, left=left, label=kind, color=colour)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("CPU seconds, one thread")
    axes.set_title(title, fontsize=10)
    figure.legend(fontsize=8, ncols=3, loc="outside lower center")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", default="fixed", choices=["fixed", "real"])
    parser.add_argument("--prompt-tokens", type=int, default=100)
    parser.add_argument("--limit", type=int, default=64, help="the most tokens of an output; the profile grows with it")
    parser.add_argument("--model", help="a folder; default SmolLM2-135M-Instruct, made if need be")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.model is None:
        from groupwise.model.builtin import smollm2_135m_instruct

        arguments.model = str(smollm2_135m_instruct())
    case = Case(arguments.case, arguments.prompt_tokens, limit=arguments.limit)
    parts = step_seconds(case, arguments.model)
    print("| CPU seconds, one thread | sampling | update |\n|---|---|---|")
    for kind in [*KINDS, REST]:
        print(f"| {kind} | {parts['sampling'][kind]:.1f} | {parts['update'][kind]:.1f} |")
    print(f"| together | {sum(parts['sampling'].values()):.1f} | {sum(parts['update'].values()):.1f} |")
    if arguments.picture:
        size = f"{case.questions} x {case.outputs} outputs, {sum(case.lengths)} tokens"
        rows = f"{size}, {case.prompt_tokens}-token questions"
        draw(parts, f"One GRPO step of SmolLM2-135M: {rows}", arguments.picture)


if __name__ == "__main__":
    main()
