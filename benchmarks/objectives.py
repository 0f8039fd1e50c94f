"""The objectives beside TRL's and verl's own functions: advantages, losses, gradients on the same random fp64 tensors.

    python -m benchmarks.objectives

Each peer computes in its own environment (trl_objectives.py, verl_objectives.py); tensors go there and back as JSON.
Prints one table. Exits with 1 where a difference is neither below 1e-6 nor the documented one of DIFFERENCES, each of
which is an equation that is itself evaluated and compared.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.objective_cases import GROUP, GROUP_SIZE, Batch, batches, rewards
from benchmarks.peers import PACKAGES, python_of
from benchmarks.table import markdown, plain
from groupwise import registry
from groupwise.objective.advantage import EPSILON, group_centred, group_relative
from groupwise.objective.losses import Denominators
from groupwise.objective.presets import GRPO, Preset
from groupwise.objective.surrogate import Objective, policy_loss

ROOT = Path(__file__).parent.parent
PEERS = ("trl", "verl")
TOLERANCE = 1e-6
MAX_TOKENS = 12
ONE_ADVANTAGE = ("sequence_clip", "geometric_clip")
"""Losses for an advantage that is the same at each token of an output."""


@dataclass(frozen=True)
class Difference:
    """What a peer computes otherwise: in words and symbols, and by our functions."""

    equation: str
    advantage: Callable[[Tensor, Tensor], Tensor] | None = None
    """(rewards [B], mask [B, T]) -> [B, T], as the peer has it."""
    loss: Callable[[Preset, Batch], tuple[Tensor, Tensor]] | None = None
    """(row, batch) -> loss and gradient, as the peer has them."""


@dataclass(frozen=True)
class Cell:
    """The largest relative difference; with a documented one, what is left once its equation is applied."""

    apart: float
    difference: Difference | None = None
    left: float = 0.0

    @property
    def agrees(self) -> bool:
        return (self.apart if self.difference is None else self.left) <= TOLERANCE


def rows() -> dict[str, Preset]:
    """Every preset, and the clip that is bounded on both sides."""
    presets = {name: registry.load(registry.PRESETS, name) for name in registry.PRESETS}
    return presets | {"grpo, dual_clip": replace(GRPO, loss="dual_clip", kl_coef=0.0)}


def batches_of(name: str, row: Preset) -> list[str]:
    """The batches on which a row's loss is compared; RLOO's is defined where it samples."""
    if name == "rloo":
        return ["on_policy"]
    return ["far", "near", "holed"] + ([] if row.loss in ONE_ADVANTAGE else ["uneven"])


def ours(row: Preset, batch: Batch) -> tuple[Tensor, Tensor]:
    """The loss, and its derivative by each log-probability, [B, T]."""
    logprobs = batch["logprobs"].clone().requires_grad_()
    objective = Objective(
        advantage=registry.load(registry.ADVANTAGES, row.advantage),
        loss=registry.load(registry.LOSSES, row.loss),
        aggregate=registry.load(registry.AGGREGATES, row.aggregate),
        kl=registry.load(registry.KL_ESTIMATORS, row.kl_estimator),
        clip_low=row.clip_low,
        clip_high=row.clip_high,
        kl_coef=row.kl_coef,
        entropy_coef=0.0,
    )
    terms = policy_loss(
        objective,
        logprobs,
        old_logprobs=batch["old_logprobs"],
        ref_logprobs=batch["ref_logprobs"],
        entropies=None,
        advantages=batch["advantages"],
        mask=batch["mask"],
        denominators=Denominators.of(batch["mask"], MAX_TOKENS),
    )
    (gradient,) = torch.autograd.grad(terms.loss, logprobs)
    return terms.loss.detach(), gradient


def trl_group_relative(rewards: Tensor, mask: Tensor) -> Tensor:
    centred, relative = group_centred(rewards, GROUP, mask), group_relative(rewards, GROUP, mask)
    std = centred / relative - EPSILON
    return torch.where(relative == 0, 0.0, centred / (std + 1e-4))


def trl_batch_scaled(rewards: Tensor, mask: Tensor) -> Tensor:
    return group_centred(rewards, GROUP, mask) / (rewards[~rewards.isnan()].std() + 1e-4)


def over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """values [B], each counted once for each token of its output: (v - m) / sqrt(variance + 1e-8), [B, T]."""
    counted = values[:, None].expand(mask.shape)[mask]
    whitened = (values - counted.mean()) / (counted.var() + 1e-8).sqrt()
    return torch.where(mask, whitened[:, None], 0.0)


def verl_batch_scaled(rewards: Tensor, mask: Tensor) -> Tensor:
    centred = group_centred(rewards, GROUP, torch.ones(len(rewards), 1, dtype=torch.bool))[:, 0]
    return over_tokens(centred, mask)


def trl_rloo(row: Preset, batch: Batch) -> tuple[Tensor, Tensor]:
    return -batch["advantages"][:, 0].mean(), ours(row, batch)[1] * MAX_TOKENS


def trl_sapo(row: Preset, batch: Batch) -> tuple[Tensor, Tensor]:
    return ours(replace(row, clip_low=torch.tensor(row.clip_low, dtype=torch.float32).item()), batch)


DIFFERENCES = {
    ("trl", "group_relative"): Difference("(r - mean) / (std + 1e-4); ours adds 1e-6, as verl", trl_group_relative),
    ("trl", "group_centred_batch_scaled"): Difference(
        "c / (std r + 1e-4) with the std of the rewards over the batch (scale_rewards='batch'); ours, as the paper, "
        "c / (std c + 1e-6) with that of c = r - mean of the group",
        trl_batch_scaled,
    ),
    ("verl", "batch_normalised"): Difference(
        "(r - m) / sqrt(v + 1e-8), m and v over tokens, so that an output counts as often as it has tokens; ours over "
        "outputs",
        over_tokens,
    ),
    ("verl", "group_centred_batch_scaled"): Difference(
        "(c - m) / sqrt(v + 1e-8), m and v over tokens, c = r - mean of the group; ours c / (std c + 1e-6) over "
        "outputs, whose mean is 0",
        verl_batch_scaled,
    ),
    ("trl", "rloo"): Difference(
        "mean_i -min(s A, clamp(s) A), s = pi / pi_old of the whole output; on policy its gradient is max_tokens times "
        "ours, and its value the mean of -A",
        loss=trl_rloo,
    ),
    ("trl", "sapo"): Difference(
        "tau in float32, so that 1.05 is 1.0499999523 even where all else is fp64", loss=trl_sapo
    ),
}
"""By peer, and by our advantage or our row."""


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference as a share of the largest entry; inf where one is nan."""
    size = float(b.abs().nan_to_num().max())
    return float((a - b).abs().nan_to_num(torch.inf).max()) / (size or 1.0)


def advantage_cell(peer: str, row: Preset, found: dict, given: dict[str, Tensor], mask: Tensor) -> Cell | None:
    if row.advantage not in found["advantages"]:
        return None
    function = registry.load(registry.ADVANTAGES, row.advantage)
    difference = DIFFERENCES.get((peer, row.advantage))
    distance, left = 0.0, 0.0
    for name, values in found["advantages"][row.advantage].items():
        theirs = torch.tensor(values, dtype=torch.float64)
        theirs = torch.where(mask, theirs if theirs.dim() == 2 else theirs[:, None], 0.0)
        distance = max(distance, apart(function(given[name], GROUP, mask), theirs))
        if difference and difference.advantage:
            left = max(left, apart(difference.advantage(given[name], mask), theirs))
    return Cell(distance, difference, left)


def loss_cells(peer: str, name: str, row: Preset, found: dict, given: dict[str, Batch]) -> list[Cell | None]:
    """For the loss, and for its gradient."""
    if name not in found["losses"]:
        return [None, None]
    difference = DIFFERENCES.get((peer, name))
    distances, left = [0.0, 0.0], [0.0, 0.0]
    for batch, answer in found["losses"][name].items():
        theirs = [torch.tensor(answer[part], dtype=torch.float64) for part in ("loss", "gradient")]
        own = ours(row, given[batch])
        distances = [max(d, apart(a, b)) for d, a, b in zip(distances, own, theirs, strict=True)]
        if difference and difference.loss:
            by_equation = difference.loss(row, given[batch])
            left = [max(d, apart(a, b)) for d, a, b in zip(left, by_equation, theirs, strict=True)]
    return [Cell(distance, difference, rest) for distance, rest in zip(distances, left, strict=True)]


def ask(peer: str, told: dict) -> dict:
    """What the peer finds for the tensors that it is told."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "given.json"), Path(folder, "found.json")
        given.write_text(json.dumps(told))
        words = [str(python_of(peer)), "-m", f"benchmarks.{peer}_objectives", str(given), str(found)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{peer}: exit {done.returncode}\n{done.stderr[-3000:]}")
        return json.loads(found.read_text())


def text(cell: Cell | None, notes: list[Difference]) -> str:
    """A difference, or the number of its note and what that leaves of it; - where the peer has no such function."""
    if cell is None:
        return "-"
    if cell.difference is None:
        return f"{cell.apart:.0e}" + ("" if cell.agrees else " DIFFERS")
    if cell.difference not in notes:
        notes.append(cell.difference)
    note = f"({notes.index(cell.difference) + 1})"
    return f"{cell.apart:.0e} {note} {cell.left:.0e}" + ("" if cell.agrees else " DIFFERS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", type=lambda words: words.split(","), default=list(PEERS))
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    given_batches, given_rewards, table_rows = batches(), rewards(), rows()
    mask = given_batches["far"]["mask"]
    told = {
        "group_size": GROUP_SIZE,
        "max_tokens": MAX_TOKENS,
        "mask": mask.tolist(),
        "rewards": {name: values.tolist() for name, values in given_rewards.items()},
        "batches": {name: {k: v.tolist() for k, v in batch.items()} for name, batch in given_batches.items()},
        "rows": {name: asdict(row) | {"batches": batches_of(name, row)} for name, row in table_rows.items()},
    }
    found = {peer: ask(peer, told) for peer in arguments.peers}
    notes: list[Difference] = []
    lines, differing = [], 0
    for name, row in table_rows.items():
        for peer in arguments.peers:
            cells = [advantage_cell(peer, row, found[peer], given_rewards, mask)]
            cells += loss_cells(peer, name, row, found[peer], given_batches)
            differing += sum(cell is not None and not cell.agrees for cell in cells)
            lines.append([name, peer, *(text(cell, notes) for cell in cells)])
    layout = markdown if arguments.markdown else plain
    print("; ".join(PACKAGES[peer][0].replace("==", " ") for peer in arguments.peers))
    print(layout(["row", "peer", "advantage", "loss", "gradient"], lines))
    print("Largest difference as a share of the largest entry; behind a note's number, what its equation leaves of it.")
    for number, note in enumerate(notes, 1):
        print(f"({number}) {note.equation}")
    sys.exit(f"{differing} differ by more than {TOLERANCE:.0e}" if differing else 0)


if __name__ == "__main__":
    main()
