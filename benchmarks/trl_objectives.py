"""Advantages, losses and gradients by TRL's own methods, on tensors given as JSON. Runs in TRL's environment.

python -m benchmarks.trl_objectives given.json found.json

TRL has them inside its trainers. Their methods are called here with a stand-in for the trainer that has what they read:
no model, no tokenizer, no text. What TRL has no method for is left out of the answer.
"""

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from torch import Tensor
from trl.experimental.gmpo import GMPOTrainer
from trl.experimental.iw_opd.iw_opd_trainer import IWOPDTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

ADVANTAGES = {
    "group_relative": {"scale_rewards": "group"},
    "group_centred": {"scale_rewards": "none"},
    "group_centred_batch_scaled": {"scale_rewards": "batch"},
    "per_reward": {"multi_objective_aggregation": "normalize_then_sum"},
}
"""GRPOTrainer's settings for our advantages."""
LOSSES = {
    ("clip", "per_output"): {"loss_type": "grpo"},
    ("clip", "fixed_length"): {"loss_type": "dr_grpo"},
    ("clip", "per_token"): {"loss_type": "dapo"},
    ("dual_clip", "per_output"): {"loss_type": "grpo", "delta": 3.0},
    ("sequence_clip", "per_output"): {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    ("cispo", "per_token"): {"loss_type": "cispo"},
    ("soft_gate", "per_output"): {"loss_type": "sapo"},
    ("geometric_clip", "per_output"): {"loss_type": "gmpo"},
}
"""Settings for our losses under our aggregates."""
CORRECTIONS = {
    "token_truncated": "token_truncate",
    "token_masked": "token_mask",
    "sequence_truncated": "sequence_truncate",
    "sequence_masked": "sequence_mask",
}


def tensor(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def trainer(**settings: Any) -> SimpleNamespace:
    """A stand-in with what every method reads, and the settings."""
    common = {
        "accelerator": SimpleNamespace(
            device=torch.device("cpu"),
            num_processes=1,
            process_index=0,
            sync_gradients=True,
            gather=lambda x: x,
            reduce=lambda x, reduction: x,
        ),
        "args": SimpleNamespace(
            use_bias_correction_kl=settings.pop("ratio_times_kl", False),
            delta=settings.pop("delta", None),
            sapo_temperature_pos=settings.get("epsilon_high"),
            sapo_temperature_neg=settings.get("epsilon_low"),
            per_device_train_batch_size=1,
            gradient_checkpointing_kwargs=None,
            gradient_accumulation_steps=1,
            steps_per_generation=1,
            **settings.pop("steering", {}),
        ),
        "model": SimpleNamespace(training=True, is_gradient_checkpointing=False),
        "aux_loss_enabled": False,
        "beta": 0.0,
        "current_gradient_accumulation_steps": 1,
        "importance_sampling_level": "token",
        "off_policy_mask_threshold": None,
        "top_entropy_quantile": 1.0,
        "use_vllm": False,
        "use_adaptive_entropy": False,
        "_entropy_bonus_enabled": False,
        "_metrics": {"train": defaultdict(list)},
    }
    return SimpleNamespace(**(common | settings))


def scored(kind: type, parts: Tensor, group_size: int, batch: dict, **settings: Any) -> dict:
    """What the method that samples and scores returns, with sampling and scoring replaced by what is given.

    parts: [B, K] rewards; batch: the mask, and the log-probabilities of pi_old and of reference or sampler.
    """
    rows, mask = len(parts), torch.tensor(batch["mask"])
    lengths = (mask.shape[1] - mask.flip(1).long().argmax(1)).tolist()
    width, reference = max(lengths), object()

    def logprobs(model: object, *_: Any, **__: Any) -> tuple[Tensor, None, None]:
        return tensor(batch["ref_logprobs" if model is reference else "old_logprobs"])[:, :width], None, None

    def cut(values: list) -> list:
        return [row[:length] for row, length in zip(values, lengths, strict=True)]

    prompts, texts = [[0]] * rows, [""] * rows
    tokens = cut([[0] * width] * rows)
    sampled = cut(batch["sampled_logprobs"]) if "sampled_logprobs" in batch else None
    drawn = cut(mask.long().tolist())
    answer = (
        (prompts, tokens, texts) if kind is RLOOTrainer else (prompts, tokens, drawn, texts, sampled, {}, None, None)
    )
    common = {
        "num_generations": group_size,
        "num_iterations": 1,
        "multi_objective_aggregation": "sum_then_normalize",
        "reward_funcs": [None] * parts.shape[1],
        "reward_weights": torch.ones(parts.shape[1], dtype=torch.float64),
        "reward_func_names": [],
        "reward_clip_range": None,
        "normalize_advantages": False,
        "environment_factories": None,
        "environments": None,
        "tools": None,
        "mask_truncated_completions": False,
        "pad_to_multiple_of": None,
        "log_multimodal": False,
        "ref_model": reference,
        "_tokenizer": SimpleNamespace(pad_token_id=0),
        "_generate": lambda _: answer,
        "_calculate_rewards": lambda *_: parts,
        "_get_per_token_logps_and_entropies": logprobs,
        "_logs": defaultdict(list) | {"rewards": defaultdict(list), "extra": defaultdict(list)},
        "_pending_extra_logs": {},
        "_pending_metrics": {},
    }
    stand_in = trainer(**(common | settings))
    return kind._generate_and_score_completions(stand_in, [{"prompt": ""}] * rows)


def advantages(row: dict, outcome: dict, group_size: int) -> Tensor | None:
    """[B] or [B, T]; None if TRL has no such advantage."""
    rewards, name = tensor(outcome["rewards"])[:, None], row["advantage"]
    in_reward = row["kl_coef"] > 0 and row["kl_in"] == "reward"
    if name == "leave_one_out" and (not in_reward or row["kl_estimator"] == "k1"):
        beta = row["kl_coef"] if in_reward else 0.0
        return scored(RLOOTrainer, rewards, group_size, outcome, beta=beta)["advantages"]
    if name == "teacher_gap":
        mask = tensor(outcome["mask"])
        now = {"logprobs": torch.full_like(mask, -1.0).tolist()}  # any: the derivative by log pi is -A / tokens
        return -distillation(outcome | now, outcome["teacher_logprobs"])[1] * mask.sum()
    if name not in ADVANTAGES or in_reward:
        return None
    settings = dict(ADVANTAGES[name])
    if name == "per_reward":
        rewards, settings["reward_weights"] = tensor(outcome["reward_parts"]), tensor(outcome["reward_weights"])
    return scored(GRPOTrainer, rewards, group_size, outcome, **{"scale_rewards": "group"} | settings)["advantages"]


def weights(batch: dict, correction: str, low: float, high: float) -> Tensor:
    """The importance sampling ratio, [B, T]; 0 outside the mask."""
    mask = tensor(batch["mask"])
    ratio = scored(
        GRPOTrainer,
        torch.zeros(len(mask), 1, dtype=torch.float64),
        1,
        batch,
        scale_rewards="none",
        use_vllm=True,
        vllm_importance_sampling_correction=True,
        vllm_importance_sampling_mode=CORRECTIONS[correction],
        vllm_importance_sampling_clip_min=low,
        vllm_importance_sampling_clip_max=high,
    )["importance_sampling_ratio"]
    return mask * ratio


def loss_and_gradient(row: dict, batch: dict, max_tokens: int) -> dict | None:
    """The loss and its derivatives by log-probabilities and entropies; None if TRL has no such loss."""
    settings, kind = LOSSES.get((row["loss"], row["aggregate"])), GRPOTrainer
    if row["loss"] == "geometric_clip":
        kind = GMPOTrainer
    if row["loss"] == "reinforce" and row["advantage"] == "leave_one_out":
        kind, settings = RLOOTrainer, {}
    beta = row["kl_coef"] if row["kl_in"] == "loss" else 0.0
    if row["advantage"] == "teacher_gap":
        return answer(*distillation(batch, (tensor(batch["old_logprobs"]) + tensor(batch["advantages"])).tolist()))
    if settings is None or (beta and row["kl_estimator"] not in ("k3", "k3_weighted")) or row["rejection"]:
        return None
    logprobs, entropies = (tensor(batch[name]).requires_grad_() for name in ("logprobs", "entropies"))
    corrected = row["correction"] != "uncorrected"
    stand_in = trainer(
        beta=beta,
        epsilon_low=row.get("clip_low", row.get("tau_neg", 0.0)),
        # TRL's bound of CISPO is the ratio itself
        epsilon_high=row.get("clip_high", row.get("tau_pos", 0.0)) + (settings.get("loss_type") == "cispo"),
        max_completion_length=max_tokens,
        ratio_times_kl=row["kl_estimator"] == "k3_weighted",
        use_vllm=corrected,
        vllm_importance_sampling_correction=corrected,
        entropy_coef=row["entropy_coef"],
        _entropy_bonus_enabled=row["entropy_coef"] != 0,
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, entropies, None),
        **settings,
    )
    arguments = inputs(batch)
    if corrected:
        arguments["importance_sampling_ratio"] = weights(batch, row["correction"], row["low"], row["high"])
    loss = kind._compute_loss(stand_in, None, arguments)
    found = torch.autograd.grad(loss, (logprobs, entropies), allow_unused=True)
    return answer(loss, *(torch.zeros_like(logprobs) if slope is None else slope for slope in found))


def inputs(batch: dict) -> dict[str, Tensor]:
    """A batch as the losses take it."""
    mask, given, old = torch.tensor(batch["mask"]).long(), tensor(batch["advantages"]), tensor(batch["old_logprobs"])
    whole = bool((given == given[:, :1]).all())  # then TRL's [B]: it takes [B, T] in some losses only
    return {
        "prompt_ids": torch.zeros(len(mask), 1).long(),
        "prompt_mask": torch.ones(len(mask), 1).long(),
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask,
        "advantages": given[:, 0] if whole else given,
        "old_per_token_logps": old,
        "old_logps": (old * mask).sum(1),
        "ref_per_token_logps": tensor(batch["ref_logprobs"]),
        "num_items_in_batch": mask.sum(),
    }


def answer(loss: Tensor, by_logprobs: Tensor, by_entropies: Tensor) -> dict:
    return {"loss": loss.item(), "gradient": [by_logprobs.tolist(), by_entropies.tolist()]}


def distillation(batch: dict, teacher: list) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of sampled tokens without its weights by position, and its derivatives."""
    logprobs, mask = tensor(batch["logprobs"]).requires_grad_(), torch.tensor(batch["mask"])
    logits = torch.stack([logprobs, torch.log1p(-logprobs.exp())], 2)  # two tokens, of which the first was drawn
    stand_in = trainer(temperature=1.0, iw_opd_gamma=0.0, iw_opd_epsilon=1e-8)
    loss = IWOPDTrainer._compute_iw_opd_loss(
        stand_in,
        logits,
        completion_tokens=torch.zeros(mask.shape).long(),
        labels=torch.where(mask, 0, -100),
        teacher_actual_logprobs=tensor(teacher),
        rollout_logprobs=tensor(batch["old_logprobs"]),
        num_items_in_batch=mask.sum(),
    )
    (slope,) = torch.autograd.grad(loss, logprobs)
    return loss, slope, torch.zeros_like(slope)


def entropy_coefs(steered: dict) -> list[float]:
    """The bonus's coefficient in the step after each: of a loss that is the bonus alone, its share of the entropy."""
    entropy = torch.zeros((), dtype=torch.float64)
    shape, zeros = (2, 3), torch.zeros(2, 3, dtype=torch.float64)
    stand_in = trainer(
        loss_type="grpo",
        epsilon_low=0.2,
        epsilon_high=0.2,
        entropy_coef=steered["entropy_coef"],
        use_adaptive_entropy=True,
        steering={
            "entropy_target": steered["entropy_target"],
            "entropy_coef_delta": steered["entropy_step"],
            "entropy_coef_min": 0.0,
            "entropy_coef_max": 1.0,
        },
        _entropy_bonus_enabled=True,
        _entropy_window_stats=None,
        _last_world_entropy=float("inf"),
        _get_per_token_logps_and_entropies=lambda *_, **__: (zeros, entropy.expand(shape), None),
    )
    arguments = inputs(
        {"mask": [[True] * 3] * 2, "advantages": zeros.tolist()}
        | {name: zeros.tolist() for name in ("old_logprobs", "ref_logprobs")}
    )
    found = []
    for value in [*steered["entropy"], 1.0]:
        entropy.fill_(value)
        found.append(-GRPOTrainer._compute_loss(stand_in, None, arguments).item() / value)
    return found[1:]


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text())
    size, limit = given["group_size"], given["max_tokens"]
    found: dict[str, dict] = {"advantages": {}, "losses": {}, "functions": {}}
    for name, row in given["rows"].items():
        for case in ("all", "missing"):  # with gaps nothing else happens: they are of whole outputs
            values = advantages(row, given["outcomes"][case], size)
            if values is not None:
                found["advantages"].setdefault(name, {})[case] = values.tolist()
        for case in row["batches"]:
            values = loss_and_gradient(row, given["batches"][case], limit)
            if values is not None:
                found["losses"].setdefault(name, {})[case] = values
    for name, bounds in given["corrections"].items():
        found["functions"][name] = {
            case: {"value": weights(given["batches"][case], name, *bounds).tolist()}
            for case in ("far", "near", "holed")
        }
    found["functions"]["entropy_coef after each step"] = {"steps": {"value": entropy_coefs(given["steered"])}}
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
