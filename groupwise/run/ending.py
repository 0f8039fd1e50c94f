"""What a run leaves behind, whatever ends it: the weights of its last finished step, and how to go on."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from torch import nn

from groupwise.errors import GroupwiseError, RunError
from groupwise.learn.microbatches import out_of_memory
from groupwise.model.checkpoint import latest_checkpoint
from groupwise.model.finite import unsound_weight
from groupwise.run.open import Run
from groupwise.run.progress import Progress


def leave(run: Run, progress: Progress, *, save: Callable[[], Path], whole: bool) -> None:
    """Saves what is valid and says where, and the command that goes on. Raises nothing for what fails on the way.

    save: writes the checkpoint of the last finished step. whole: the weights are that step's; else they were changed by
    one that did not come to its end.
    """
    kept = _kept(run, save, whole=whole)
    if run.unrecorded is not None:
        try:
            run.unrecorded()
        except Exception as error:
            kept += f"; the record lacks that step ({_line(error)})"
    progress.stopped(run.folder, run.step, kept)


def memory_error(error: BaseException, *, step: int) -> RunError:
    """That memory ran out after so many steps, in one line."""
    return RunError(
        f"out of memory in step {step + 1}: {_line(error)}",
        hint="lower rollout.max_num_seqs, rollout.max_new_tokens, update.tokens_per_microbatch, or use a smaller model",
    )


def _kept(run: Run, save: Callable[[], Path], *, whole: bool) -> str:
    """What has become of the weights."""
    if not run.step:
        return "no step was finished yet"
    why = "" if whole else "a step was changing the weights"
    if not why and (found := unsound_weight(_named(run))):
        why = f"weights that are not numbers ({found})"
    if not why:
        try:
            return f"saved in {save()}"
        except Exception as error:  # whatever it is, the run's own error is told after it
            why = _line(error)
    with suppress(GroupwiseError, OSError):
        newest = latest_checkpoint(run.folder)
        if newest is not None:
            return f"which could not be saved: {why}; the newest checkpoint is {newest}"
    return f"which could not be saved: {why}; there is no checkpoint, and the run would begin anew"


def _named(run: Run) -> Iterator[tuple[str, nn.Parameter]]:
    beside = ((f"{key}.{name}", w) for key, module in run.beside.items() for name, w in module.named_parameters())
    return chain(run.policy.model.named_parameters(), beside)


def _line(error: BaseException) -> str:
    if out_of_memory(error) or not isinstance(error, GroupwiseError):
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return str(error)
