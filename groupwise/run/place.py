"""A run's folder: what is there already, the right to write in it, the record opened and closed. Loads no model."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import torch

from groupwise import __version__
from groupwise.atomic import write_whole
from groupwise.config import Recipe, dump_recipe, read_recipe
from groupwise.errors import ConfigError, DataError, GroupwiseError, InputError, RunError
from groupwise.functions import own_file
from groupwise.model.checkpoint import load_state
from groupwise.model.saved import sound_checkpoint
from groupwise.recipe_file import changes, leaves, tree_of
from groupwise.record.create import check_whole, set_aside
from groupwise.record.place import RECIPE, found_in
from groupwise.record.process import Hold, hold, refuse_living
from groupwise.record.read import open_record
from groupwise.record.schema import FILE
from groupwise.record.write import Recorder

LOST_BEFORE = "lost_before"
"""Key in the record: steps before this one may be missing from it, and the user has accepted that."""
FUNCTIONS = "functions"
"""Key in the record: JSON; for each key of the recipe that names a user's function, its file and the text's digest."""
ACCEPT = "add --resume --accept-loss to go on from the checkpoint without them"


@contextmanager
def taken_place(folder: Path, *, resume: bool) -> Iterator[Hold | None]:
    """Inside the block a resumed run is ours alone to write; None for one that begins, whose folder is ours or free.

    Raises DataError if the folder is not what the command says it is, cannot be written to, or is being written.
    """
    if not check_place(folder, resume=resume):
        yield None
        return
    held = hold(folder)
    try:
        yield held
    finally:
        held.release()


def check_place(folder: Path, *, resume: bool) -> bool:
    """Whether a run there is resumed; False: one begins, also where a start was cut short before it had a record.

    Raises DataError if the folder is not what the command says it is, or cannot be written to.
    """
    where = f"--run {folder}"
    try:
        found = found_in(folder)
        place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    except OSError as error:  # a name that is too long, for one
        raise DataError(f"{_short(where)}: {error.strerror}", hint="give another name") from None
    if found == "no record":
        lost = f"{where}: checkpoints are there, but {FILE} is gone"
        raise DataError(
            lost, hint="restore it, or add --resume --accept-loss to continue from the checkpoint without it"
        )
    if found == "other":
        raise DataError(f"{where}: it exists and is not an empty folder", hint="give another name")
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise DataError(f"{where}: {place} is not a folder that can be written to", hint="give another place")
    if found == "nothing":
        if resume and not (folder.is_dir() and os.listdir(folder)):
            raise DataError(f"{where}: no run there to resume", hint="leave --resume out to start one")
        return False
    if resume:
        return True
    refuse_living(folder)
    if found == "run":
        raise DataError(f"{where}: a run is there already", hint="add --resume to continue it, or give another name")
    return False


@contextmanager
def recording(recipe: Recipe, folder: Path, held: Hold | None, *, first_step: int) -> Iterator[Recorder]:
    """The run's record, new or resumed, with the resolved recipe beside it; closed whatever happens.

    What goes wrong while it is closed does not hide what went wrong before.
    """
    recorder = _recorder(recipe, folder, held, first_step=first_step)
    try:
        yield recorder
    except BaseException:
        with suppress(GroupwiseError):
            tell_held_back(recorder.path, recorder.close())
        raise
    tell_held_back(recorder.path, recorder.close())


def tell_held_back(record: Path, reason: str) -> None:
    """Says on stderr where the record's log could not be folded into it; reason: why, empty if it could."""
    if reason:
        message = f"{record} alone does not hold everything yet ({reason}): {record.name}-wal has the rest, copy both"
        print(message, file=sys.stderr)


def require_steps(folder: Path, recorded: Set[int], *, done: int, lost_before: int, unrecorded: Set[int]) -> None:
    """Raises RunError if the record lacks steps that the checkpoint after `done` steps rests on.

    unrecorded: steps that the run could not record, and said so.
    """
    missing = [step for step in range(lost_before, done) if step not in recorded and step not in unrecorded]
    if missing:
        raise RunError(
            f"{folder / FILE} lacks {len(missing)} of the {done} steps before its checkpoint, the first is step "
            f"{missing[0] + 1}: its log ({FILE}-wal) was cut or lost",
            hint=f"restore the whole record, or {ACCEPT}",
        )


def accept_loss(folder: Path) -> None:
    """Readies a run to go on from its newest sound checkpoint though its record is damaged, gone, or lacks steps.

    A damaged record gets another name, and a new one begins. Says on stderr what is lost. Raises InputError if there
    is nothing to go on from.
    """
    refuse_living(folder)
    checkpoint = sound_checkpoint(folder)
    if checkpoint is None:
        raise InputError(f"{folder}: no checkpoint to go on from", hint="start the run again")
    done = load_state(checkpoint).get("step", 0)
    try:
        check_whole(folder / FILE)
        with closing(open_record(folder)) as record:
            steps, info = set(record.steps()), record.info()
    except GroupwiseError:
        recipe = read_recipe(folder / RECIPE)
        aside = set_aside(folder)
        Recorder.create(folder, {**info_of(recipe), LOST_BEFORE: str(done)}, keep=recipe.run.record).close()
        kept = "" if aside is None else f"; what was there is {aside}"
        print(f"{folder}: steps 1 to {done} are not on record{kept}", file=sys.stderr)
        return
    missing = [step + 1 for step in range(int(info.get(LOST_BEFORE, "0")), done) if step not in steps]
    if missing:
        with closing(Recorder.resume(folder, done)) as recorder:
            recorder.set_info(LOST_BEFORE, str(done))
        message = f"{missing[0]} to {missing[-1]}" if len(missing) > 1 else f"{missing[0]}"
        print(f"{folder}: step(s) {message} are not on record", file=sys.stderr)


def _recorder(recipe: Recipe, folder: Path, held: Hold | None, *, first_step: int) -> Recorder:
    resumed = held is not None
    held = held or hold(folder)
    file, info = folder / RECIPE, info_of(recipe)
    try:
        # Before the record: a recipe without a record blocks nothing, a record without its recipe would.
        write_whole(file, info["recipe"])
        if resumed:
            return Recorder.resume(folder, first_step, info=info, keep=recipe.run.record, held=held)
        if (aside := set_aside(folder)) is not None:
            print(f"{folder} held a run without a step, which begins anew; its record is {aside.name}", file=sys.stderr)
        return Recorder.create(folder, info, keep=recipe.run.record, held=held)
    except BaseException as error:
        if not resumed and not (folder / FILE).exists():
            file.unlink(missing_ok=True)
        held.release()
        if isinstance(error, OSError):
            then = "then resume the run" if resumed else "then start the run again"
            raise RunError(f"{file}: {error.strerror}", hint=f"free space there, {then}") from error
        raise


def check_changes(recipe: Recipe, folder: Path, info: Mapping[str, str], *, free: Sequence[str] = ()) -> None:
    """Raises ConfigError if a fixed value, or the file of a function in one, is not as in the run's record; tells
    other changes on stderr.

    info: the record's. free: places in fixed sections that may change all the same.
    """
    changed = changes(tree_of(info["recipe"]), recipe.model_dump(mode="json"))
    texts = [f"{place} = {now!r} (was {before!r})" for place, before, now in changed]
    for place, before, now in changed:
        if place not in free and _fixed(recipe, place):
            raise ConfigError(
                f"{place} = {now!r}: the run in {folder} began with {before!r}, and its steps so far would mean "
                "something else",
                hint="restore its old value, or start a new run",
            )
    before_files, names = json.loads(info.get(FUNCTIONS, "{}")), {place for place, _, _ in changed}
    for place, (file, digest) in _own_functions(recipe).items():
        if place in names or before_files.get(place, [file, digest])[1] == digest:
            continue
        if _fixed(recipe, place):
            raise ConfigError(
                f"{place}: {file} is not the text that the run in {folder} began with, and its steps so far would mean "
                "something else",
                hint="put it back, or start a new run",
            )
        texts.append(f"the text of {file} ({place})")
    if texts:
        print(f"changed since the run was last started: {', '.join(texts)}", file=sys.stderr)


def _fixed(recipe: Recipe, place: str) -> bool:
    return any(place == name or place.startswith(f"{name}.") for name in recipe.fixed)


def _own_functions(recipe: Recipe) -> dict[str, tuple[str, str]]:
    """For each key of the recipe that names a function of the user's own: its file, and the digest of the text."""
    found = {}
    for place, value in leaves(recipe.model_dump(mode="json")):
        if isinstance(value, str) and (file := own_file(value)) is not None:
            found[place] = file, hashlib.blake2b(Path(file).read_bytes(), digest_size=8).hexdigest()
    return found


def info_of(recipe: Recipe) -> dict[str, str]:
    """What the record knows of the whole run."""
    return {
        "recipe": dump_recipe(recipe),
        FUNCTIONS: json.dumps(_own_functions(recipe)),
        "stage": recipe.stage,
        "model": recipe.model.path,
        **({} if recipe.update is None else {"steps": str(recipe.update.steps)}),
        "seed": str(recipe.seed),
        "versions": f"groupwise {__version__}, torch {torch.__version__}",
    }


def _short(text: str, most: int = 100) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
