"""GRPO steps by groupwise, as groupwise/stages/rl.py takes them, on the cases that every system is given."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as groupwise/cli/main.py sets it, before torch is loaded

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.measure import Clock, print_row, since_start
from benchmarks.workload import Case, case_of, parser
from groupwise.config import ModelConfig, ObjectiveConfig, UpdateConfig
from groupwise.data import Group, Message, Question, Reward, Sample, Sampling
from groupwise.engines.base import Task, generate, stream
from groupwise.engines.local import LocalEngine, Precision
from groupwise.learn.auxiliary import AuxiliaryModels
from groupwise.learn.make_batch import make_batch
from groupwise.learn.optimizer import make_optimizer
from groupwise.learn.update import update_policy
from groupwise.model.batch import Rollouts
from groupwise.model.loading import load_policy
from groupwise.model.memory import Recompute, default_recompute
from groupwise.model.policy import Policy
from groupwise.model.tokenizer import load_tokenizer
from groupwise.run.resolve import resolve

WITHOUT = ("onednn", "shared_cache", "stream", "whole_layers", "recompute", "kept_layers")
"""Parts that can be left out: oneDNN's products; a cache that keeps each question once; the stream without padding in
the update; layers computed as a whole in it; these and computing again what is cheap; keeping anything but the layers'
inputs for the backward pass."""


def load(model: str, device: str, *, without: Sequence[str] = (), **settings: Any) -> Policy:
    """The policy, with a tokenizer that knows no end token: every output is as long as its task says.

    settings: further ones of the recipe's section `model`."""
    matmul_backend = "torch" if "onednn" in without else "auto"
    config = ModelConfig(path=model, device=device, matmul_backend=matmul_backend, **settings)
    tokenizer = load_tokenizer(config)
    endless = replace(tokenizer, template=replace(tokenizer.template, end_tokens=frozenset()))
    policy = load_policy(config, endless)
    policy.question_once = policy.question_once and "stream" not in without
    if {"whole_layers", "recompute"} & set(without):
        policy.whole_layers = {}
    left_out: dict[str, Recompute] = {"recompute": "nothing", "kept_layers": "layers"}
    policy.recompute = next((left_out[part] for part in without if part in left_out), default_recompute(policy.device))
    return policy


def tasks_of(case: Case, step: int) -> list[Task]:
    return [
        Task(
            tuple(prompt),
            tuple(stream(0, step, str(number), sample) for sample in range(case.outputs)),
            limits=tuple(case.lengths[number * case.outputs : (number + 1) * case.outputs]),
        )
        for number, prompt in enumerate(case.prompts)
    ]


def groups_of(case: Case, outputs: list) -> list[Group]:
    """The sampled outputs with the case's rewards."""
    assert [len(o.tokens) for answers in outputs for o in answers] == case.lengths
    rewards = iter(case.rewards)
    return [
        Group(
            Question(str(number), (Message("user", str(number)),)),
            tuple(Sample(output, Reward(next(rewards))) for output in answers),
        )
        for number, answers in enumerate(outputs)
    ]


def run(
    policy: Policy,
    case: Case,
    *,
    steps: int,
    threads: int,
    without: Sequence[str] = (),
    sampling_precision: Precision = "auto",
) -> None:
    """Prints a row for each step."""
    exact = sampling_precision == "auto"
    objective = resolve(ObjectiveConfig(preset="grpo", kl_coef=case.beta), exact_engine=exact)
    config = UpdateConfig(steps=steps)
    sampling = Sampling(max_new_tokens=case.limit)
    reference = None
    if case.beta:
        precision = "bf16" if policy.precision == torch.bfloat16 else "fp32"
        alike = ModelConfig(path=policy.tokenizer.source, device=policy.device.type, precision=precision)
        reference = load_policy(alike, policy.tokenizer)
        reference.model.requires_grad_(False)
    optimizer = make_optimizer(policy, config)
    sampler = replace(policy, question_once=True) if "stream" in without else policy
    engine = LocalEngine(sampler, precision=sampling_precision, shared="shared_cache" not in without)
    generate(engine, [Task(tuple(case.prompts[0]), (0,))], Sampling(max_new_tokens=1))
    startup = since_start()
    for step in range(steps):
        clock = Clock()
        outputs = generate(engine, tasks_of(case, step), sampling)
        sample_s = clock.wall
        batch = make_batch(
            policy,
            Rollouts.of(groups_of(case, outputs), policy.device),
            objective=objective,
            auxiliary=AuxiliaryModels(reference=reference),
            sampling=sampling,
            truncated=torch.zeros(len(case.lengths), dtype=torch.bool, device=policy.device),
            exact_engine=engine.capabilities.exact,
            config=config,
        )
        update_policy(
            policy,
            optimizer,
            batch=batch,
            objective=objective,
            sampling=sampling,
            config=config,
            seed=0,
            step=step,
        )
        peak = None
        if policy.device.type == "cuda":
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated()
        wall = clock.wall
        print_row(
            "groupwise",
            case,
            threads=threads,
            startup_s=startup,
            sample_s=sample_s,
            update_s=wall - sample_s,
            wall_s=wall,
            cpu_s=clock.cpu,
            peak_bytes=peak,
        )


def main() -> None:
    words = parser(__doc__)
    words.add_argument("--steps", type=int, default=1)
    words.add_argument("--without", default="", help=f"parts left out, of {', '.join(WITHOUT)}")
    words.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of the products")
    words.add_argument("--sampling-precision", choices=("auto", "bf16"), default="auto", help="of the sampler's")
    arguments = words.parse_args()
    torch.set_num_threads(arguments.threads)
    without = [part for part in arguments.without.split(",") if part]
    if unknown := set(without) - set(WITHOUT):
        words.error(f"--without: {', '.join(sorted(unknown))} is not one of {', '.join(WITHOUT)}")
    policy = load(arguments.model, arguments.device, without=without, precision=arguments.precision)
    run(
        policy,
        case_of(arguments),
        steps=arguments.steps,
        threads=arguments.threads,
        without=without,
        sampling_precision=arguments.sampling_precision,
    )


if __name__ == "__main__":
    main()
