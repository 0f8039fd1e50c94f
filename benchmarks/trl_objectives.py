"""Advantages, losses and gradients by TRL's own methods, on tensors given as JSON. Runs in TRL's environment.

python -m benchmarks.trl_objectives given.json found.json

TRL has them inside its trainers. Their methods are called here with a stand-in for the trainer that has what they read:
no model, no tokenizer, no text. What TRL has no method for is left out of the answer.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from trl.experimental.gmpo import GMPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

SCALES = {"group_relative": "group", "group_centred": "none", "group_centred_batch_scaled": "batch"}
"""`scale_rewards` for our advantages."""
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


def tensor(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def trainer(**settings: Any) -> SimpleNamespace:
    """A stand-in with what every method reads, and the settings."""
    common = {
        "accelerator": SimpleNamespace(
            device=torch.device("cpu"),
            num_processes=1,
            process_index=0,
            gather=lambda x: x,
            reduce=lambda x, reduction: x,
        ),
        "args": SimpleNamespace(
            use_bias_correction_kl=False,
            delta=settings.pop("delta", None),
            sapo_temperature_pos=settings.get("epsilon_high"),
            sapo_temperature_neg=settings.get("epsilon_low"),
            per_device_train_batch_size=1,
            gradient_checkpointing_kwargs=None,
            gradient_accumulation_steps=1,
            steps_per_generation=1,
        ),
        "model": SimpleNamespace(training=True, is_gradient_checkpointing=False),
        "aux_loss_enabled": False,
        "current_gradient_accumulation_steps": 1,
        "importance_sampling_level": "token",
        "off_policy_mask_threshold": None,
        "top_entropy_quantile": 1.0,
        "use_vllm": False,
        "_entropy_bonus_enabled": False,
        "_metrics": {"train": defaultdict(list)},
    }
    return SimpleNamespace(**(common | settings))


def advantages(kind: type, rewards: Tensor, group_size: int, **settings: Any) -> Tensor:
    """[B], by the method that samples and scores, with sampling and scoring replaced by what is given."""
    rows = len(rewards)
    prompts, tokens, texts = [[0]] * rows, [[0]] * rows, [""] * rows
    sampled = (prompts, tokens, texts) if kind is RLOOTrainer else (prompts, tokens, None, texts, None, {}, None, None)
    stand_in = trainer(
        beta=0.0,
        num_generations=group_size,
        num_iterations=1,
        multi_objective_aggregation="sum_then_normalize",
        reward_weights=torch.ones(1, dtype=torch.float64),
        reward_func_names=[],
        reward_clip_range=None,
        normalize_advantages=False,
        environment_factories=None,
        environments=None,
        tools=None,
        mask_truncated_completions=False,
        pad_to_multiple_of=None,
        log_multimodal=False,
        _tokenizer=SimpleNamespace(pad_token_id=0),
        _generate=lambda _: sampled,
        _calculate_rewards=lambda *_: rewards[:, None],
        _get_per_token_logps_and_entropies=lambda *_, **__: (torch.zeros(rows, 1), None, None),
        _logs=defaultdict(list) | {"rewards": defaultdict(list), "extra": defaultdict(list)},
        _pending_extra_logs={},
        _pending_metrics={},
        **settings,
    )
    return kind._generate_and_score_completions(stand_in, [{"prompt": ""}] * rows)["advantages"]


def loss_and_gradient(kind: type, row: dict, batch: dict, max_tokens: int, **settings: Any) -> dict:
    logprobs = tensor(batch["logprobs"]).requires_grad_()
    given = tensor(batch["advantages"])
    mask = torch.tensor(batch["mask"]).long()
    whole = bool((given == given[:, :1]).all())  # then TRL's [B]: it takes [B, T] in some losses only
    old = tensor(batch["old_logprobs"])
    stand_in = trainer(
        beta=row["kl_coef"],
        epsilon_low=row["clip_low"],
        # TRL's bound of CISPO is the ratio itself
        epsilon_high=row["clip_high"] + (settings.get("loss_type") == "cispo"),
        max_completion_length=max_tokens,
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros_like(given), None),
        **settings,
    )
    inputs = {
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
    loss = kind._compute_loss(stand_in, None, inputs)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return {"loss": loss.item(), "gradient": gradient.tolist()}


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text())
    size, limit = given["group_size"], given["max_tokens"]
    found: dict[str, dict] = {"advantages": {}, "losses": {}}
    for name, rewards in given["rewards"].items():
        told = {
            row: advantages(GRPOTrainer, tensor(rewards), size, scale_rewards=scale) for row, scale in SCALES.items()
        }
        told["leave_one_out"] = advantages(RLOOTrainer, tensor(rewards), size)
        for row, values in told.items():
            found["advantages"].setdefault(row, {})[name] = values.tolist()
    for name, row in given["rows"].items():
        settings = LOSSES.get((row["loss"], row["aggregate"]))
        kind = GMPOTrainer if row["loss"] == "geometric_clip" else GRPOTrainer
        if name == "rloo":
            kind, settings = RLOOTrainer, {}
        if settings is not None and (row["kl_coef"] == 0 or row["kl_estimator"] == "k3"):
            found["losses"][name] = {
                batch: loss_and_gradient(kind, row, given["batches"][batch], limit, **settings)
                for batch in row["batches"]
            }
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
