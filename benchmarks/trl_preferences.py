"""Losses of preferences and their gradients by TRL's own methods, on tensors given as JSON. Runs in TRL's environment.

python -m benchmarks.trl_preferences given.json found.json

The methods are called with a stand-in for the trainer and one for the model, which returns the log-probabilities given.
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
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer


def tensor(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Model:
    """Returns log-probabilities, 0 where there is no label, by the first id: 0 judged outputs, 1 mismatched ones."""

    training = True

    def __init__(self, *logprobs: Tensor) -> None:
        self.logprobs = logprobs

    def __call__(self, input_ids: Tensor, labels: Tensor, **_: Any) -> SimpleNamespace:
        found = torch.where(labels[:, 1:] == -100, 0.0, self.logprobs[int(input_ids[0, 0])])
        nothing = torch.zeros_like(found)
        return SimpleNamespace(log_probs=found, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())


def trainer(**settings: Any) -> SimpleNamespace:
    """A stand-in with what both methods read, and the settings."""
    common = {
        "accelerator": SimpleNamespace(device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x),
        "model": SimpleNamespace(training=True),
        "aux_loss_enabled": False,
        "ld_alpha": None,
        "precompute_ref_logps": True,
        "f_divergence_type": "reverse_kl",
        "loss_weights": [1.0],
        "use_weighting": False,
        "calculate_KL": True,
        "loss_type": "kto",
        "_metrics": {"train": defaultdict(list)},
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    return SimpleNamespace(**(common | settings))


def shaped(mask: Tensor, first: int) -> dict[str, Tensor]:
    """Ids, attention and mask with the column before the first log-probability."""
    column = torch.zeros(len(mask), 1).long()
    ids = torch.cat([column, torch.zeros_like(mask)], 1) + first
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "completion_mask": torch.cat([column, mask], 1),
    }


def of_pairs(case: dict, loss_type: str, *, swapped: bool = False) -> dict:
    """Rows are TRL's: all chosen ones, then all rejected ones. swapped: the other way round."""
    logprobs, mask = tensor(case["logprobs"]).requires_grad_(), torch.tensor(case["mask"]).long()
    reference = tensor(case["reference"]).chunk(2)
    half = len(mask) // 2
    order = torch.arange(len(mask)).roll(half) if swapped else torch.arange(len(mask))
    stand_in = trainer(beta=case["beta"], loss_types=[loss_type])
    arguments = shaped(mask[order], 0)
    arguments |= dict(
        zip(("ref_chosen_logps", "ref_rejected_logps"), reference[::-1] if swapped else reference, strict=True)
    )
    loss = DPOTrainer._compute_loss(stand_in, Model(logprobs[order]), arguments, False)
    return {"loss": loss.item(), "gradient": torch.autograd.grad(loss, logprobs)[0].tolist()}


def smoothed(case: dict, share: float) -> dict:
    """Conservative DPO from TRL's loss: the pairs, and with a share of it the pairs the other way round."""
    right, wrong = of_pairs(case, "sigmoid"), of_pairs(case, "sigmoid", swapped=True)
    gradient = (1 - share) * tensor(right["gradient"]) + share * tensor(wrong["gradient"])
    return {"loss": (1 - share) * right["loss"] + share * wrong["loss"], "gradient": gradient.tolist()}


def of_judged(case: dict) -> dict:
    logprobs, mask = tensor(case["logprobs"]).requires_grad_(), torch.tensor(case["mask"]).long()
    others, of_others = tensor(case["others"]), tensor(case["reference_of_others"])
    stand_in = trainer(
        beta=case["beta"],
        desirable_weight=case["desirable_weight"],
        undesirable_weight=case["undesirable_weight"],
    )
    stand_in._compute_kl_logps = lambda model, batch: KTOTrainer._compute_kl_logps(stand_in, model, batch)
    arguments = shaped(mask, 0) | {f"KL_{name}": values for name, values in shaped(mask, 1).items()}
    arguments |= {
        "label": torch.tensor(case["liked"]),
        "ref_logps": tensor(case["reference"]),
        "ref_KL_logps": of_others,
    }
    loss = KTOTrainer._compute_loss(stand_in, Model(logprobs, others), arguments, False)
    return {
        "loss": loss.item(),
        "gradient": torch.autograd.grad(loss, logprobs)[0].tolist(),
        "reference_point": stand_in._metrics["train"]["kl"][0],
    }


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text())
    found = {}
    for name, case in given.items():
        if case["loss"] == "kto":
            found[name] = of_judged(case)
        elif case.get("label_smoothing"):
            found[name] = smoothed(case, case["label_smoothing"])
        else:
            found[name] = of_pairs(case, {"dpo": "sigmoid", "ipo": "ipo"}[case["loss"]])
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
