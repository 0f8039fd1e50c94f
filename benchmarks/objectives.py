"""The objectives beside TRL's and verl's own functions: advantages, losses, gradients on the same random fp64 tensors.

    python -m benchmarks.objectives

Each peer computes in its own environment (trl_objectives.py, verl_objectives.py); tensors go there and back as JSON.
Prints two tables: of the rows, and of functions that are no part of a row. Exits with 1 where a difference is neither
below 1e-6 nor the documented one of DIFFERENCES, each of which is an equation that is itself evaluated and compared,
and has a size that it does not exceed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.objective_cases import (
    DISCOUNT,
    GAE_LAMBDA,
    GROUP_SIZE,
    MAX_TOKENS,
    Batch,
    Steered,
    batches,
    outcomes,
)
from benchmarks.our_objectives import (
    CLIP_VALUE,
    CORRECTIONS,
    KL_IN_REWARD,
    Row,
    Value,
    advantages,
    functions,
    inputs,
    loss_and_gradient,
    rows,
)
from benchmarks.peer_objectives import DIFFERENCES, Difference
from benchmarks.peers import PACKAGES, python_of
from benchmarks.table import markdown, plain

ROOT = Path(__file__).parent.parent
PEERS = ("trl", "verl")
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Cell:
    """The largest relative difference; with a documented one, what is left once its equation is applied."""

    apart: float
    difference: Difference | None = None
    left: float = 0.0

    @property
    def agrees(self) -> bool:
        if self.difference is None:
            return self.apart <= TOLERANCE
        return self.left <= TOLERANCE and self.apart <= self.difference.within


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference as a share of the largest entry; inf where one is nan."""
    size = float(b.abs().nan_to_num().max())
    return float((a - b).abs().nan_to_num(torch.inf).max()) / (size or 1.0)


def advantage_cell(peer: str, name: str, row: Row, found: dict, outcomes_of: dict[str, Batch]) -> Cell | None:
    difference = DIFFERENCES.get((peer, row.preset.advantage))
    distance, left = 0.0, 0.0
    for case, values in found["advantages"].get(name, {}).items():
        mask, theirs = outcomes_of[case]["mask"], torch.tensor(values, dtype=torch.float64)
        theirs = torch.where(mask, theirs if theirs.dim() == 2 else theirs[:, None], 0.0)
        distance = max(distance, apart(advantages(row.preset, outcomes_of[case]), theirs))
        if difference and difference.advantage:
            left = max(left, apart(difference.advantage(inputs(row.preset, outcomes_of[case])), theirs))
    return Cell(distance, difference, left) if name in found["advantages"] else None


def loss_cells(peer: str, name: str, row: Row, found: dict, given: dict[str, Batch]) -> list[Cell | None]:
    """For the loss, and for its gradient."""
    if name not in found["losses"]:
        return [None, None]
    difference = DIFFERENCES.get((peer, name))
    distances, left = [0.0, 0.0], [0.0, 0.0]
    for batch, answer in found["losses"][name].items():
        theirs = [torch.tensor(answer[part], dtype=torch.float64) for part in ("loss", "gradient")]
        own = loss_and_gradient(row, given[batch])
        distances = [max(d, apart(a, b)) for d, a, b in zip(distances, own, theirs, strict=True)]
        if difference and difference.loss:
            by_equation = difference.loss(row, given[batch])
            left = [max(d, apart(a, b)) for d, a, b in zip(left, by_equation, theirs, strict=True)]
    return [Cell(distance, difference, rest) for distance, rest in zip(distances, left, strict=True)]


def function_cells(name: str, found: dict, own: dict[str, Value]) -> list[Cell | None]:
    """For the function's value, and for its gradient."""
    distances: list[float | None] = [None, None]
    for case, answer in found["functions"].get(name, {}).items():
        for place, part in enumerate(("value", "gradient")):
            ours = own[case][place]
            if part in answer and ours is not None:
                theirs = torch.tensor(answer[part], dtype=torch.float64)
                distances[place] = max(distances[place] or 0.0, apart(ours, theirs))
    return [None if distance is None else Cell(distance) for distance in distances]


def ask(peer: str, inputs_by_name: dict) -> dict:
    """What the peer finds for the tensors that it is told."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "given.json"), Path(folder, "found.json")
        given.write_text(json.dumps(inputs_by_name))
        words = [str(python_of(peer)), "-m", f"benchmarks.{peer}_objectives", str(given), str(found)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{peer}: exit {done.returncode}\n{done.stderr[-3000:]}")
        return json.loads(found.read_text())


def peer_inputs(given: dict[str, Batch], outcomes_of: dict[str, Batch], table_rows: dict[str, Row]) -> dict:
    def lists(batch: Batch) -> dict[str, list]:
        return {name: values.tolist() for name, values in batch.items()}

    return {
        "group_size": GROUP_SIZE,
        "max_tokens": MAX_TOKENS,
        "discount": DISCOUNT,
        "gae_lambda": GAE_LAMBDA,
        "clip_value": CLIP_VALUE,
        "kl_coef": KL_IN_REWARD.kl_coef,
        "corrections": CORRECTIONS,
        "steered": asdict(Steered()),
        "batches": {name: lists(batch) for name, batch in given.items()},
        "outcomes": {name: lists(outcome) for name, outcome in outcomes_of.items()},
        "rows": {name: row.inputs_by_name() for name, row in table_rows.items()},
    }


def text(cell: Cell | None, notes: list[Difference]) -> str:
    """A difference, or the number of its note and what that leaves of it; - where the peer has no such function."""
    if cell is None:
        return "-"
    if cell.difference is None:
        return figure(cell.apart) + ("" if cell.agrees else " DIFFERS")
    if cell.difference not in notes:
        notes.append(cell.difference)
    note = f"({notes.index(cell.difference) + 1})"
    return f"{figure(cell.apart)} {note} {figure(cell.left)}" + ("" if cell.agrees else " DIFFERS")


def figure(value: float) -> str:
    return f"{value:.0e}" if 0 < value < 0.1 else f"{value:.1g}"


def table(
    first: str, parts: tuple[str, ...], peers: list[str], cells: dict[str, list[Cell | None]], notes: list[Difference]
) -> tuple[list[str], list[list[str]]]:
    """Headings and lines: under each peer its parts."""
    headings = [first, *(f"{peer}: {part}" for peer in peers for part in parts)]
    return headings, [[name, *(text(cell, notes) for cell in row)] for name, row in cells.items()]


def printed(layout: Callable, peers: list[str], of_rows: dict, of_functions: dict) -> None:
    notes: list[Difference] = []
    print("; ".join(PACKAGES[peer][0].replace("==", " ") for peer in peers))
    print(layout(*table("row", ("advantage", "loss", "gradient"), peers, of_rows, notes)), end="\n\n")
    print(layout(*table("function", ("value", "gradient"), peers, of_functions, notes)), end="\n\n")
    print("Largest difference as a share of the largest entry; behind a note's number, what its equation leaves of it.")
    for number, note in enumerate(notes, 1):
        print(f"({number}) {note.equation}")


def flat(lists: Iterable[list[Cell | None]]) -> list[Cell | None]:
    return [cell for part in lists for cell in part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", type=lambda words: words.split(","), default=list(PEERS))
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    given, outcomes_of, table_rows = batches(), outcomes(), rows()
    inputs_by_name = peer_inputs(given, outcomes_of, table_rows)
    found = {peer: ask(peer, inputs_by_name) for peer in arguments.peers}
    of_rows = {
        name: flat(
            [
                advantage_cell(peer, name, row, found[peer], outcomes_of),
                *loss_cells(peer, name, row, found[peer], given),
            ]
            for peer in arguments.peers
        )
        for name, row in table_rows.items()
    }
    of_functions = {
        name: flat(function_cells(name, found[peer], own) for peer in arguments.peers)
        for name, own in functions(given, outcomes_of).items()
    }
    printed(markdown if arguments.markdown else plain, arguments.peers, of_rows, of_functions)
    differing = sum(cell is not None and not cell.agrees for cell in flat([*of_rows.values(), *of_functions.values()]))
    sys.exit(f"{differing} differ by more than {TOLERANCE:.0e}" if differing else 0)


if __name__ == "__main__":
    main()
