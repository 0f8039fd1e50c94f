"""Advantages, losses and gradients by verl's own functions, on tensors given as JSON. Runs in verl's environment.

python -m benchmarks.verl_objectives given.json found.json

What verl has no function for is left out of the answer.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy
import torch
from torch import Tensor
from verl.trainer.ppo import core_algos
from verl.workers.config import ActorConfig

ADVANTAGES = {
    "group_relative": ("grpo", {"norm_adv_by_std_in_grpo": True}),
    "group_centred": ("grpo", {"norm_adv_by_std_in_grpo": False}),
    "leave_one_out": ("rloo", {}),
    "batch_normalised": ("reinforce_plus_plus", {}),
    "group_centred_batch_scaled": ("reinforce_plus_plus_baseline", {}),
}
"""verl's name and settings for our advantages."""
LOSSES = {
    "clip": "vanilla",
    "dual_clip": "vanilla",
    "reinforce": "gpg",
    "sequence_clip": "gspo",
    "sequence_token_clip": "gspo",
    "cispo": "cispo",
    "geometric_clip": "geo_mean",
    "soft_gate": "sapo",
}
AGGREGATES = {
    "per_output": "seq-mean-token-mean",
    "per_token": "token-mean",
    "fixed_length": "seq-mean-token-sum-norm",
}
KL_ESTIMATORS = {"k1": "kl", "k2": "mse", "k3": "low_var_kl"}


def tensor(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def advantages(name: str, rewards: Tensor, group_size: int, mask: Tensor) -> Tensor:
    """[B, T], 0 outside the mask."""
    estimator, settings = ADVANTAGES[name]
    function = core_algos.get_adv_estimator_fn(estimator)
    at_the_end = torch.zeros(mask.shape, dtype=torch.float64)
    last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
    at_the_end[torch.arange(len(mask)), last] = rewards
    if estimator == "reinforce_plus_plus":
        config = SimpleNamespace(gamma=1.0)
        return function(token_level_rewards=at_the_end, response_mask=mask, config=config)[0]
    index = numpy.arange(len(mask)) // group_size
    return function(token_level_rewards=at_the_end, response_mask=mask, index=index, **settings)[0]


def loss_and_gradient(row: dict, batch: dict, max_tokens: int) -> dict:
    logprobs = tensor(batch["logprobs"]).requires_grad_()
    mask = torch.tensor(batch["mask"]).long()
    mode = AGGREGATES[row["aggregate"]]
    scale = {"loss_scale_factor": max_tokens} if row["aggregate"] == "fixed_length" else {}
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=row["clip_low"],
        clip_ratio_high=row["clip_high"],
        clip_ratio_c=3.0 if row["loss"] == "dual_clip" else 1e9,  # its "vanilla" is always clipped twice
        tau_pos=row["clip_high"],
        tau_neg=row["clip_low"],
        global_batch_info=scale,
    )
    loss, _ = core_algos.get_policy_loss_fn(LOSSES[row["loss"]])(
        old_log_prob=tensor(batch["old_logprobs"]),
        log_prob=logprobs,
        advantages=tensor(batch["advantages"]),
        response_mask=mask,
        loss_agg_mode=mode,
        config=config,
    )
    if row["kl_coef"]:
        kl = core_algos.kl_penalty(logprobs, tensor(batch["ref_logprobs"]), KL_ESTIMATORS[row["kl_estimator"]])
        loss = loss + row["kl_coef"] * core_algos.agg_loss(kl, mask, mode, **scale)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return {"loss": loss.item(), "gradient": gradient.tolist()}


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text())
    size, limit = given["group_size"], given["max_tokens"]
    mask = torch.tensor(given["mask"]).long()
    found: dict[str, dict] = {"advantages": {}, "losses": {}}
    for name in ADVANTAGES:
        values = advantages(name, tensor(given["rewards"]["all"]), size, mask)
        found["advantages"][name] = {"all": values.tolist()}
    for name, row in given["rows"].items():
        if row["loss"] in LOSSES:
            batches = {batch: given["batches"][batch] for batch in row["batches"]}
            found["losses"][name] = {key: loss_and_gradient(row, batch, limit) for key, batch in batches.items()}
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
