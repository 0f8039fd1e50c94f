"""How models that read pictures are computed, and that it is right: `python -m tests.equality.pictures`.

Prints a table of docs/models.md. Small models of each family, with processors made of parts, on questions with two
pictures, one and none side by side. What is compared with: the processor and the model's own forward pass over a row.
"""

import logging
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch
import transformers
from torch import Tensor

from groupwise.engines.base import Task, generate
from groupwise.engines.local import LocalEngine
from groupwise.errors import ModelError
from groupwise.model.batch import Rollouts, microbatches
from groupwise.model.policy import Policy
from tests.equality import more_pictures
from tests.equality.walk import Way
from tests.model import test_sight as rows
from tests.model import vision

FAMILIES = {**vision.FAMILIES, **more_pictures.FAMILIES}
MOST = 1e-5
"""Nats that log-probabilities may be off, and the gradient, relative to its largest number; in fp32."""
MICROBATCH = 60


def errors(policy: Policy, engine: LocalEngine) -> tuple[float, float, float]:
    """Largest errors of the trainer's log-probabilities, nats, of the sampler's beside those, and of the gradient."""
    rollouts, own = rows.rollouts_of(policy)
    expected = [rows.by_transformers(policy, *row) for row in own]
    torch.cat(expected).sum().backward()
    right, trained, gradient = rows.gradients(policy), 0.0, 0.0
    for tokens in (10_000, MICROBATCH):
        found = _trained(policy, rollouts, tokens)
        trained = max(trained, *(float((found[row] - wanted).abs().max()) for row, wanted in enumerate(expected)))
        pairs = zip(rows.gradients(policy), right, strict=True)
        gradient = max(gradient, *(float((mine - g).abs().max()) / max(1.0, float(g.abs().max())) for mine, g in pairs))
    return trained, _sampled(policy, engine), gradient


def _trained(policy: Policy, rollouts: Rollouts, tokens: int) -> dict[int, Tensor]:
    found: dict[int, Tensor] = {}
    for part in microbatches(rollouts, tokens, question_once=policy.question_once):
        piece = rollouts[part]
        mask = piece.output_mask
        scored = policy.backward(piece, mask, sampling=rows.SAMPLING, loss=lambda logprobs, _: logprobs.sum())
        found |= {row: scored.logprobs[place][mask[place]] for place, row in enumerate(part.tolist())}
    return found


def _sampled(policy: Policy, engine: LocalEngine) -> float:
    tasks = [Task(tuple(policy.tokenizer.encode(asked)), (n, 7 + n)) for n, asked in enumerate(rows.ASKED)]
    outputs = [output for group in generate(engine, tasks, rows.SAMPLING) for output in group]
    rollouts = rows.rows_of(outputs)
    scored = policy.logprobs(rollouts, rollouts.output_mask, sampling=rows.SAMPLING).logprobs
    drawn = torch.cat([torch.from_numpy(output.logprobs) for output in outputs])
    return float((scored[rollouts.output_mask] - drawn).abs().max())


def main(names: Sequence[str]) -> None:
    """Prints the table, of all or of the families named. Exits 1 if a row is wrong."""
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"{date.today()}, transformers {transformers.__version__}, torch {torch.__version__}\n")
    print("| family | in training | in sampling | log-probabilities | sampler | gradient |\n|---|---|---|---|---|---|")
    wrong = False
    with tempfile.TemporaryDirectory() as place:
        for family in names or FAMILIES:
            line, right = _row(family, Path(place))
            print(line, flush=True)
            wrong = wrong or not right
    sys.exit(wrong)


def _row(family: str, place: Path) -> tuple[str, bool]:
    try:
        policy = rows.loaded(vision.write(place / family, family, families=FAMILIES))
    except ModelError as error:
        return f"| {family} |  |  | refused: {error.message.partition(': ')[2]} |  |  |", True
    engine = LocalEngine(policy)
    way, found = Way.of(policy, engine), errors(policy, engine)
    cells = " | ".join(f"{error:.0e}" for error in found)
    both = ", both ways" if policy.sight is not None and policy.sight.joint else ""
    right = max(found) <= MOST
    return f"| {family} | {way.training}{both} | {way.sampling} | {cells}{'' if right else ' WRONG'} |", right


if __name__ == "__main__":
    main(sys.argv[1:])
