"""The losses of preferences beside TRL's own methods: loss and gradient on the same random fp64 log-probabilities.

    python -m benchmarks.peer_preferences

TRL computes in its own environment (trl_preferences.py); tensors go there and back as JSON. Exits with 1 where a
difference is above 1e-6 of the largest entry.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.peers import python_of, versions
from groupwise import registry
from groupwise.learn.preferences import Compared, Method, rollouts_of
from groupwise.objective.preference import of_pairs, reference_point

ROOT = Path(__file__).parent.parent
TOLERANCE = 1e-6
CASES = {
    "dpo": {"loss": "dpo", "beta": 0.1},
    "dpo, beta 2": {"loss": "dpo", "beta": 2.0},
    "dpo, label_smoothing 0.2": {"loss": "dpo", "beta": 0.5, "label_smoothing": 0.2},
    "ipo": {"loss": "ipo", "beta": 0.1},
    "kto, z0 above 0": {"loss": "kto", "beta": 0.1, "shift": 1.0},
    "kto, z0 at 0, weights": {
        "loss": "kto",
        "beta": 0.7,
        "shift": -3.0,
        "desirable_weight": 1.3,
        "undesirable_weight": 0.4,
    },
}
"""Settings; shift: by how much the policy is above the reference on outputs behind other questions."""


def inputs_of(case: dict, *, seed: int, examples: int = 8) -> tuple[dict, list[Compared]]:
    """What TRL is told, its rows all chosen and then all rejected, and our examples in their own order."""
    generator = torch.Generator().manual_seed(seed)
    pairs = of_pairs(registry.load(registry.PREFERENCES, case["loss"]))
    rows = examples * (1 + pairs)
    lengths = torch.randint(1, 10, (rows,), generator=generator)
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]

    def drawn() -> Tensor:
        return torch.where(mask, -3 * torch.rand(mask.shape, generator=generator, dtype=torch.float64), 0.0)

    logprobs, others = drawn(), drawn()
    noise = 2 * torch.randn(2, rows, generator=generator, dtype=torch.float64)
    liked = torch.arange(rows) < examples if pairs else torch.rand(rows, generator=generator) < 0.5
    defaults = {"label_smoothing": 0.0, "desirable_weight": 1.0, "undesirable_weight": 1.0, "shift": 0.0}
    inputs = {
        **(defaults | case),
        "logprobs": logprobs.tolist(),
        "mask": mask.tolist(),
        "reference": (logprobs.sum(1) + noise[0]).tolist(),
        "others": others.tolist(),
        "reference_of_others": (others.sum(1) - (defaults | case)["shift"] + 0.1 * noise[1]).tolist(),
        "liked": liked.tolist(),
    }
    sizes = lengths.tolist()
    if pairs:
        made_of = [(sizes[row], sizes[row + examples]) for row in range(examples)]
        return inputs, [Compared("", (1,), tuple((2,) * size for size in both), (True, False)) for both in made_of]
    return inputs, [Compared("", (1,), ((2,) * size,), (bool(liked[row]),)) for row, size in enumerate(sizes)]


def ours(inputs: dict, examples: list[Compared]) -> dict[str, Tensor]:
    """Loss and gradient of the step, in TRL's order of rows."""
    names = ("beta", "label_smoothing", "desirable_weight", "undesirable_weight")
    loss = registry.load(registry.PREFERENCES, inputs["loss"])
    method = Method(inputs["loss"], loss, {name: inputs[name] for name in names})
    rollouts = rollouts_of(examples, torch.device("cpu"))
    theirs = torch.tensor(inputs["logprobs"], dtype=torch.float64).requires_grad_()
    order = torch.arange(len(theirs))
    if method.of_pairs:
        order = order.view(2, -1).T.flatten()  # ours: chosen and rejected of one pair behind each other
    reference = torch.tensor(inputs["reference"], dtype=torch.float64)
    others, of_others = (torch.tensor(inputs[k], dtype=torch.float64) for k in ("others", "reference_of_others"))
    z0 = reference_point(others.sum(1) - of_others)
    liked = torch.tensor(inputs["liked"])[order]
    losses = method.losses((theirs.sum(1) - reference)[order], rollouts, liked, z0)
    found = losses.sum() / len(examples)
    mask = torch.tensor(inputs["mask"])
    return {"loss": found, "gradient": torch.autograd.grad(found, theirs)[0] * mask, "reference_point": z0}


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference as a share of the largest entry."""
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-300))


def main() -> None:
    given = {name: inputs_of(case, seed=number) for number, (name, case) in enumerate(CASES.items())}
    python = python_of("trl")
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "given.json"), Path(folder, "found.json")
        asked.write_text(json.dumps({name: inputs for name, (inputs, _) in given.items()}))
        words = [str(python), "-m", "benchmarks.trl_preferences", str(asked), str(answered)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"trl: exit {done.returncode}\n{done.stderr[-3000:]}")
        found = json.loads(answered.read_text())
    print(f"TRL {versions(python, ('trl',))['trl']}, torch {torch.__version__}; largest difference by largest entry")
    worst = 0.0
    for name, (inputs, examples) in given.items():
        own = ours(inputs, examples)
        theirs = {part: torch.tensor(values, dtype=torch.float64) for part, values in found[name].items()}
        figures = {part: apart(own[part].detach(), theirs[part]) for part in theirs}
        worst = max(worst, *figures.values())
        print(f"{name:<26} {', '.join(f'{part} {figure:.0e}' for part, figure in figures.items())}")
    sys.exit(int(worst > TOLERANCE))


if __name__ == "__main__":
    main()
