"""What a run leaves behind, whatever ends it: the weights of its last finished step, and how to go on."""

from contextlib import suppress

from groupwise.errors import GroupwiseError, RunError
from groupwise.model.checkpoint import latest_checkpoint
from groupwise.model.finite import unsound_weight
from groupwise.model.memory import out_of_memory
from groupwise.run.journal import Journal, Learned, saved
from groupwise.run.progress import Progress


def leave(journal: Journal, learned: Learned, progress: Progress, *, whole: bool) -> None:
    """Saves what is valid and says where, and the command that goes on. Raises nothing for what fails on the way.

    whole: the weights are those of the last finished step; else they were changed by one that did not come to its end.
    """
    kept = _kept(journal, learned, whole=whole)
    if journal.state.unrecorded is not None:
        try:
            journal.state.unrecorded()
        except Exception as error:
            kept += f"; the record lacks that step ({_line(error)})"
    progress.stopped(journal.folder, journal.state.step, kept)


def memory_error(error: BaseException, *, step: int) -> RunError:
    """That memory ran out after so many steps, in one line."""
    return RunError(
        f"out of memory in step {step + 1}: {_line(error)}",
        hint="lower rollout.max_num_seqs, rollout.max_new_tokens, update.tokens_per_microbatch, or use a smaller model",
    )


def _kept(journal: Journal, learned: Learned, *, whole: bool) -> str:
    """What has become of the weights."""
    if not journal.state.step:
        return "no step was finished yet"
    why = "" if whole else "a step was changing the weights"
    if not why and (found := unsound_weight(learned.named_parameters())):
        why = f"weights that are not numbers ({found})"
    if not why:
        try:
            return f"saved in {saved(journal, learned)}"
        except Exception as error:  # whatever it is, the run's own error is told after it
            why = _line(error)
    with suppress(GroupwiseError, OSError):
        newest = latest_checkpoint(journal.folder)
        if newest is not None:
            return f"which could not be saved: {why}; the newest checkpoint is {newest}"
    return f"which could not be saved: {why}; there is no checkpoint, and the run would begin anew"


def _line(error: BaseException) -> str:
    if out_of_memory(error) or not isinstance(error, GroupwiseError):
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return str(error)
