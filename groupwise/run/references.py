"""log pi_ref of every judged output, computed once and kept in the run's folder: no second model stays in memory.

The policy itself is the reference before its first step. A resumed run reads the file; where that is gone, or is not
about this model and these examples, the reference is loaded from `model.path`, computes it again and is let go.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from groupwise.activity import counted
from groupwise.atomic import write_whole
from groupwise.config import PreferenceRecipe
from groupwise.errors import CheckpointError, ModelError
from groupwise.learn.preferences import Compared, Method, Preferences, chosen_for, one_before, summed_logprobs
from groupwise.model.lora import without_adapters
from groupwise.model.policy import Policy
from groupwise.model.tokenizer import ChatTokenizer, other_model
from groupwise.run.auxiliary import frozen_policy
from groupwise.run.journal import Journal
from groupwise.run.progress import remark

FILE = "reference.safetensors"
_SAMPLE = 2**20  # bytes read at the start, the middle and the end of a file of weights: training changes all of them


Parts = dict[str, list[Sequence[Compared]]]
"""Outputs by what they are for, in pieces that are computed each by itself."""


@dataclass(frozen=True)
class References:
    """Sums of log pi_ref over whole outputs, nats, on the policy's device.

    train: [n, k], k outputs an example; heldout: [rows]. mismatched: [steps, rows], of the outputs that a step puts
    behind other questions (`one_before`), heldout_mismatched: [rows], the same of the held-out examples; both empty if
    the loss has no reference point.
    """

    train: Tensor
    heldout: Tensor
    mismatched: Tensor
    heldout_mismatched: Tensor

    def of(self, indices: Sequence[int]) -> Tensor:
        """[rows] of these training examples."""
        return self.train[list(indices)].flatten()


def load_references(
    journal: Journal[PreferenceRecipe],
    method: Method,
    found: Preferences,
    *,
    policy: Policy,
    tokenizer: ChatTokenizer,
    tokens: int,
) -> References:
    """The run's references, read from its folder or computed. tokens: of a forward pass."""
    steps = range(journal.recipe.update.steps if method.reads_reference_point else 0)
    orders = [chosen_for(journal.recipe, step, count=len(found.train)) for step in steps]
    # Each step by itself: its sums then do not depend, by roundings, on how many steps a recipe asks for.
    parts: Parts = {
        "train": [found.train],
        "heldout": [found.heldout],
        "mismatched": [one_before([found.train[index] for index in order]) for order in orders],
        "heldout_mismatched": [one_before(found.heldout)] if steps else [],
    }
    kept = _kept(journal, parts, policy=policy, tokenizer=tokenizer, tokens=tokens)
    sums = {name: part.to(policy.device) for name, part in kept.items()}
    return References(
        train=sums["train"].view(len(found.train), -1),
        heldout=sums["heldout"],
        mismatched=sums["mismatched"].view(len(orders), -1) if orders else sums["mismatched"],
        heldout_mismatched=sums["heldout_mismatched"],
    )


def _kept(
    journal: Journal[PreferenceRecipe], parts: Parts, *, policy: Policy, tokenizer: ChatTokenizer, tokens: int
) -> dict[str, Tensor]:
    """The sums of each part: those in the run's file if it is about these outputs and this model, else new ones."""
    path, recipe = journal.folder / FILE, journal.recipe
    identity = {"examples": _fingerprint(parts, policy), "model": _weights_fingerprint(journal, tokenizer)}
    stored = _read(path, identity)
    if stored is not None:
        return stored
    started = time.perf_counter()
    reference = policy
    if recipe.model.lora is not None:
        reference = without_adapters(policy)
    elif journal.resumed_from is not None:
        reference = frozen_policy(journal, tokenizer, recipe.model.path, "model")
    sums = {
        name: torch.cat(
            [
                torch.zeros(0),
                *(
                    summed_logprobs(reference, piece, tokens=tokens).cpu()
                    for piece in counted(pieces, "log-probabilities by the reference", "pieces")
                ),
            ]
        )
        for name, pieces in parts.items()
    }
    _write(path, sums, identity)
    outputs, seconds = sum(map(len, sums.values())), time.perf_counter() - started
    remark(f"log-probabilities of {outputs} outputs by the reference: {seconds:.0f} s, in {path}")
    return sums


def _write(path: Path, sums: dict[str, Tensor], identity: dict[str, str]) -> None:
    """The file whole, or the one before it."""
    try:
        write_whole(path, save(sums, metadata=identity))
    except OSError as error:
        raise CheckpointError(f"{path}: not written: {error}", hint="free some space or repair the disk") from None


def _read(path: Path, identity: dict[str, str]) -> dict[str, Tensor] | None:
    """What the file holds; None if it is not there, is damaged or is about something else."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # An unknown model (its folder is gone) cannot be compared; the run's path of it is fixed.
            if any(metadata.get(name) != value for name, value in identity.items() if value):
                return None
            names = file.keys()  # the file itself is no mapping
            return {name: file.get_tensor(name).clone() for name in names}  # not the file's own memory
    except (OSError, SafetensorError):
        return None


def _fingerprint(parts: Parts, policy: Policy) -> str:
    """Of every token in its place, and of how the products are made."""
    found = hashlib.blake2b(f"{policy.precision} {policy.model.dtype}".encode(), digest_size=16)
    for name, pieces in parts.items():
        for piece in pieces:
            found.update(f"{name} {len(piece)}".encode())
            for ids in (ids for one in piece for ids in (one.question, *one.outputs)):
                found.update(np.array([len(ids), *ids], np.int64).tobytes())
    return found.hexdigest()


def _weights_fingerprint(journal: Journal[PreferenceRecipe], tokenizer: ChatTokenizer) -> str:
    """Of the reference's weights on the disk, a sample of each file; empty if they are not there any more."""
    from transformers.utils import cached_file

    source, recipe = tokenizer.source, journal.recipe
    if journal.resumed_from is not None:
        try:
            source = other_model(tokenizer, recipe.model.path, seed=recipe.seed, section="model").source
        except ModelError:  # told where the model is needed: what is kept may do without it
            return ""
    folder = Path(str(cached_file(source, "config.json"))).parent
    found = hashlib.blake2b(digest_size=16)
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        size = file.stat().st_size
        found.update(f"{file.name} {size}".encode())
        with file.open("rb") as stream:
            for place in (0, size // 2, max(0, size - _SAMPLE)):
                stream.seek(place)
                found.update(stream.read(_SAMPLE))
    return found.hexdigest()
