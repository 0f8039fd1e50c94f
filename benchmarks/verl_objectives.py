"""Advantages, losses and gradients by verl's own functions, on tensors given as JSON. Runs in verl's environment.

python -m benchmarks.verl_objectives given.json found.json

What verl has no function for is left out of the answer.
"""

import __future__

import ast
import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import torch
from tensordict import TensorDict
from torch import Tensor
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_and_rejection_mask
from verl.utils.metric import AggregationType, Metric
from verl.utils.torch_functional import masked_mean
from verl.workers.config import ActorConfig

ADVANTAGES = {
    "group_relative": ("grpo", {"norm_adv_by_std_in_grpo": True}),
    "group_centred": ("grpo", {"norm_adv_by_std_in_grpo": False}),
    "leave_one_out": ("rloo", {}),
    "batch_normalised": ("reinforce_plus_plus", {"config": SimpleNamespace(gamma=1.0)}),
    "return_normalised": ("reinforce_plus_plus", {"config": SimpleNamespace(gamma=1.0)}),
    "group_centred_batch_scaled": ("reinforce_plus_plus_baseline", {}),
    "per_reward": ("gdpo", {}),
    "reward": ("remax", {}),
    "gae": ("gae", {}),
    "gae_whitened": ("gae", {}),
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
KL_ESTIMATORS = {"k1": "k1", "k2": "k2", "k3": "k3", "k3_plus": "k3+"}
FAR = 1e9
"""In place of a bound that is not to be reached."""


def tensor(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def alone(path: str, name: str, **names: Any) -> Callable:
    """A function of a file of verl that cannot be imported here: the file asks for packages that serve and store.

    names: what the function itself reads of the file's.
    """
    file = Path(find_spec("verl").origin).parent / path
    found = [part for part in ast.parse(file.read_text()).body if getattr(part, "name", None) == name]
    found[0].decorator_list = []
    code = compile(ast.Module(found, []), file, "exec", flags=__future__.annotations.compiler_flag)
    exec(code, names)
    return names[name]


apply_kl_penalty = alone(
    "trainer/ppo/ray_trainer.py", "apply_kl_penalty", core_algos=core_algos, masked_mean=masked_mean, torch=torch
)
distillation = alone(
    "trainer/distillation/losses.py",
    "compute_distillation_loss_reverse_kl_estimator",
    kl_penalty=core_algos.kl_penalty,
    no_padding_2_padding=lambda values, _: values,
    AggregationType=AggregationType,
    Metric=Metric,
)


def token_rewards(outcome: dict, beta: float, estimator: str) -> Tensor:
    """[B, T]: the rewards at the last tokens, less the KL's."""
    mask = torch.tensor(outcome["mask"]).long()
    scores = torch.zeros(mask.shape, dtype=torch.float64)
    scores[torch.arange(len(mask)), last(mask)] = tensor(outcome["rewards"])
    parts = {
        "response_mask": mask,
        "token_level_scores": scores,
        "old_log_probs": tensor(outcome["old_logprobs"]),
        "ref_log_prob": tensor(outcome["ref_logprobs"]),
    }
    data = SimpleNamespace(batch=TensorDict(parts, batch_size=[len(mask)]))
    data, _ = apply_kl_penalty(data, core_algos.FixedKLController(beta), KL_ESTIMATORS[estimator])
    return data.batch["token_level_rewards"]


def last(mask: Tensor) -> Tensor:
    return mask.shape[1] - 1 - mask.flip(1).argmax(1)


def advantages(row: dict, outcome: dict, given: dict) -> tuple[Tensor, Tensor] | None:
    """Advantages and returns, [B, T]; None if verl has no such advantage."""
    mask = torch.tensor(outcome["mask"]).long()
    if row["advantage"] == "teacher_gap":
        return teacher_gap(outcome, mask), torch.zeros(mask.shape)
    if row["advantage"] not in ADVANTAGES:
        return None
    estimator, settings = ADVANTAGES[row["advantage"]]
    beta, kl = (row["kl_coef"], row["kl_estimator"]) if row["kl_in"] == "reward" else (0.0, "k1")
    arguments = {"token_level_rewards": token_rewards(outcome, beta, kl), "response_mask": mask} | settings
    if estimator == "gae":
        arguments |= {"values": tensor(outcome["values"]), "gamma": given["discount"], "lam": given["gae_lambda"]}
    elif estimator == "remax":
        arguments["reward_baselines"] = torch.zeros(len(mask))
    elif estimator != "reinforce_plus_plus":
        arguments["index"] = numpy.arange(len(mask)) // given["group_size"]
    if estimator == "gdpo":
        arguments |= gdpo(outcome, mask)
    return core_algos.get_adv_estimator_fn(estimator)(**arguments)


def gdpo(outcome: dict, mask: Tensor) -> dict:
    """Each reward by its name, and what verl finds an output's last token by."""
    parts = tensor(outcome["reward_parts"])
    names = [str(number) for number in range(parts.shape[1])]
    ends = torch.arange(mask.shape[1]) <= last(mask)[:, None]
    return {
        "config": {"gdpo_reward_keys": names, "gdpo_reward_weights": outcome["reward_weights"]},
        "non_tensor_batch": {name: part.tolist() for name, part in zip(names, parts.unbind(1), strict=True)},
        "batch": {"prompts": torch.zeros(len(mask), 0), "attention_mask": ends.long()},
    }


def teacher_gap(outcome: dict, mask: Tensor) -> Tensor:
    """The negative of the distillation's loss, as where it is learned from by policy gradient."""
    config = SimpleNamespace(distillation_loss=SimpleNamespace(loss_mode="k1"))
    data = {"teacher_logprobs": tensor(outcome["teacher_logprobs"])[:, :, None], "response_mask": mask}
    losses, _ = distillation(None, config, {"log_probs": tensor(outcome["old_logprobs"])}, data)
    return -losses


def correction(row: dict, batch: dict, mask: Tensor) -> tuple[Tensor | None, Tensor]:
    """Weights, None where there are none, and the mask of what is left."""
    level, _, kind = row["correction"].partition("_")
    settings: dict[str, Any] = {}
    if row["rejection"]:  # verl bounds sampler / pi_old
        settings = {"rollout_rs": row["rejection"], "rollout_rs_threshold": f"{1 / row['high']}_{1 / row['low']}"}
    elif kind:
        bounds = row["high"] if kind == "truncated" else f"{row['low']}_{row['high']}"
        settings = {"rollout_is": level, "rollout_is_threshold": bounds}
    old, sampled = tensor(batch["old_logprobs"]), tensor(batch["sampled_logprobs"])
    weights, kept, _ = compute_rollout_correction_and_rejection_mask(old, sampled, mask, **settings)
    return (weights.batch["rollout_is_weights"] if weights else None), kept


def loss_and_gradient(row: dict, batch: dict, max_tokens: int) -> dict:
    """The loss and its derivatives by log-probabilities and entropies."""
    logprobs, entropies = (tensor(batch[name]).requires_grad_() for name in ("logprobs", "entropies"))
    weights, mask = correction(row, batch, torch.tensor(batch["mask"]).long())
    mode = AGGREGATES[row["aggregate"]]
    scale = {"loss_scale_factor": max_tokens} if row["aggregate"] == "fixed_length" else {}
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=row.get("clip_low", 0.0),
        clip_ratio_high=row.get("clip_high", 0.0),
        clip_ratio_c=3.0 if row["loss"] == "dual_clip" else FAR,  # its "vanilla" is always clipped twice
        tau_pos=row.get("tau_pos", 1.0),
        tau_neg=row.get("tau_neg", 1.05),
        global_batch_info=scale,
    )
    loss, _ = core_algos.get_policy_loss_fn(LOSSES[row["loss"]])(
        old_log_prob=tensor(batch["old_logprobs"]),
        log_prob=logprobs,
        advantages=tensor(batch["advantages"]),
        response_mask=mask,
        loss_agg_mode=mode,
        config=config,
        rollout_is_weights=weights,
    )
    loss = loss - row["entropy_coef"] * core_algos.agg_loss(entropies, mask, mode, **scale)
    if row["kl_coef"] and row["kl_in"] == "loss":
        kl = core_algos.kl_penalty(logprobs, tensor(batch["ref_logprobs"]), KL_ESTIMATORS[row["kl_estimator"]])
        loss = loss + row["kl_coef"] * core_algos.agg_loss(kl, mask, mode, **scale)
    gradient = torch.autograd.grad(loss, (logprobs, entropies))
    return {"loss": loss.item(), "gradient": [slope.tolist() for slope in gradient]}


def value_loss(outcome: dict, clip: float) -> dict:
    values = tensor(outcome["values_now"]).requires_grad_()
    mask = torch.tensor(outcome["mask"]).long()
    old, returns = tensor(outcome["values"]), tensor(outcome["returns"])
    loss, _ = core_algos.compute_value_loss(values, returns, old, mask, cliprange_value=clip)
    (gradient,) = torch.autograd.grad(loss, values)
    return {"value": loss.item(), "gradient": gradient.tolist()}


def kl_coefs(steered: dict, outputs: int) -> list[float]:
    controller = core_algos.AdaptiveKLController(steered["kl_coef"], steered["kl_target"], steered["kl_horizon"])
    found = []
    for kl in steered["kl"]:
        controller.update(kl, outputs)
        found.append(float(controller.value))
    return found


def functions(given: dict) -> dict[str, dict]:
    """What is no part of a row, by name and case."""
    found: dict[str, dict] = {}
    for name, (low, high) in given["corrections"].items():
        row = {"correction": name, "low": low, "high": high, "rejection": ""}
        masks = {case: torch.tensor(given["batches"][case]["mask"]).long() for case in ("far", "near", "holed")}
        found[name] = {
            case: {"value": correction(row, given["batches"][case], mask)[0].tolist()} for case, mask in masks.items()
        }
    outcomes = {case: given["outcomes"][case] for case in ("all", "holed")}
    rewards = {case: token_rewards(outcome, given["kl_coef"], "k1") for case, outcome in outcomes.items()}
    found["token_rewards with KL"] = {case: {"value": value.tolist()} for case, value in rewards.items()}
    found["lambda-returns"] = {}
    for case, outcome in outcomes.items():
        returns = advantages({"advantage": "gae", "kl_in": "loss"}, outcome, given)[1] * tensor(outcome["mask"])
        found["lambda-returns"][case] = {"value": returns.tolist()}
    for name, clip in (("value_loss", FAR), ("value_loss, clipped", given["clip_value"])):
        found[name] = {case: value_loss(outcome, clip) for case, outcome in outcomes.items()}
    steered = kl_coefs(given["steered"], len(given["outcomes"]["all"]["rewards"]))
    return found | {"kl_coef after each step": {"steps": {"value": steered}}}


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text())
    found: dict[str, dict] = {"advantages": {}, "losses": {}, "functions": functions(given)}
    for name, row in given["rows"].items():
        for case in ("all", "holed"):
            values = advantages(row, given["outcomes"][case], given)
            if values is not None:
                found["advantages"].setdefault(name, {})[case] = values[0].tolist()
        if row["loss"] in LOSSES and (row["kl_in"] == "reward" or row["kl_estimator"] in KL_ESTIMATORS):
            found["losses"][name] = {
                case: loss_and_gradient(row, given["batches"][case], given["max_tokens"]) for case in row["batches"]
            }
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
