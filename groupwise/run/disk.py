"""How much disk a run takes, told before it starts. Loads nothing."""

import shutil
from pathlib import Path

from groupwise.config import GroupsConfig, Recipe
from groupwise.errors import InputError

PER_TOKEN = {"full": 13, "texts": 5, "scores": 0}
"""Bytes of the record for a token of an output: its id and log-probability are 8, its text some 4 or 5."""
PER_OUTPUT = 500
"""Bytes beside the tokens: rewards, advantage, indices."""
PER_STEP = 4_000
"""Bytes of a step's metrics."""


def record_bytes(recipe: Recipe, *, heldout: int) -> int:
    """Bytes that the record of a run takes if every output is as long as it may be."""
    rollout, evaluate, steps = recipe.rollout, recipe.evaluate, recipe.update.steps
    if rollout is None:
        return steps * PER_STEP
    samples = rollout.questions_per_step * rollout.group_size if isinstance(rollout, GroupsConfig) else 0
    output = PER_TOKEN[recipe.run.record] * rollout.max_new_tokens + PER_OUTPUT
    evaluations = 2 + (steps // evaluate.every if evaluate.every else 0)
    answer = PER_TOKEN["texts"] * rollout.max_new_tokens + PER_OUTPUT
    answers = heldout * (1 + evaluate.samples) * evaluations
    return steps * (samples * output + PER_STEP) + answers * answer


def require_disk(recipe: Recipe, folder: Path, *, checkpoint: int, heldout: int) -> str:
    """What a run takes of its disk, in a line; raises InputError if the checkpoints do not fit.

    checkpoint: bytes of one. One more than is kept must fit, since the old one goes only when the new one is whole, and
    one more if the best is kept.
    """
    most = recipe.run.keep_checkpoints + 1 + (recipe.run.keep_best is not None)
    record, free = record_bytes(recipe, heldout=heldout), _free(folder)
    needed = most * checkpoint
    if free < needed:
        raise InputError(
            f"{folder}: not enough disk for {most} checkpoints of {gigabytes(checkpoint)}: {needed:,} bytes needed, "
            f"{free:,} free",
            hint="free some space, keep fewer checkpoints (run.keep_checkpoints) or name another disk (run.root)",
        )
    text = f"disk: checkpoints up to {gigabytes(needed)}, record up to {gigabytes(record)}, {gigabytes(free)} free"
    if free < needed + record:
        text += "; the longest outputs would not fit: run.record=texts or scores keeps less of each"
    return text


def gigabytes(count: int) -> str:
    """Bytes in words: 0.3 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 5e7 else f"{count / 1e6:.1f} MB"


def _free(path: Path) -> int:
    place = path.absolute()
    return shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free
