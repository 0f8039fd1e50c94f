"""A run that a comparison or a pipeline wants: `groupwise train` in a process of its own. Knows no figures.

A process of its own because the peak of memory is one of a process, and because a crash then ends one run alone.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Literal, Protocol

from groupwise.activity import advance, doing
from groupwise.atomic import write_whole
from groupwise.config import Recipe, dump_recipe, recipe_from
from groupwise.errors import ConfigError, DataError
from groupwise.recipe_file import changes, tree_of
from groupwise.record import process
from groupwise.record.place import found_in
from groupwise.record.read import open_record
from groupwise.record.schema import FILE as RECORD
from groupwise.run.progress import event
from groupwise.stop import handled_by

POLL_SECONDS = 0.5
State = Literal["absent", "stopped", "running", "finished"]


class Planned(Protocol):
    """A run that is wanted: how its lines begin, its whole recipe, its run directory, and the recipe's file."""

    @property
    def label(self) -> str: ...
    @property
    def recipe(self) -> Recipe: ...
    @property
    def folder(self) -> Path: ...
    @property
    def recipe_file(self) -> Path: ...


def check_holder(folder: Path, files: Sequence[str], *, what: str) -> list[str]:
    """Names in a folder that is to hold runs. Raises DataError unless it has none, or one of the files."""
    where = f"--run {folder}"
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{where}: it is not a folder", hint="give another name")
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    held = [name for name in names if name != process.FILE]
    if held and not set(held) & set(files):
        raise DataError(f"{where}: it holds something that is no {what}", hint="give another name")
    return held


def make_holder(folder: Path) -> None:
    """Makes a folder that is to hold runs. Raises DataError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--run {folder}: {error.strerror}", hint="give another place") from None


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Inside the block the runs of a folder are ours alone to make. Raises DataError if another process makes them."""
    try:
        held = process.hold(folder)
    except DataError as error:
        raise DataError(error.message, hint="wait until it has ended, or end it") from None
    try:
        yield
    finally:
        held.release()


def check_place(run: Planned, *, resume: bool) -> None:
    """Raises DataError or ConfigError if another run is in the way, or one that may not be taken up."""
    state = _state(run)
    writer = process.living_writer(run.folder) if state == "running" else None
    if writer is not None and (not resume or not writer.here):
        raise process.in_use(run.folder, writer)
    if state == "stopped" and not resume:
        raise DataError(f"{run.folder}: a run that did not finish is there", hint="add --resume to continue it")


def is_finished(run: Planned) -> bool:
    return _state(run) == "finished"


class Signals:
    """Hands each SIGINT and SIGTERM on to the run that goes on, which saves and ends; remembers that one came."""

    def __init__(self) -> None:
        self.asked = False
        self._child: subprocess.Popen[bytes] | None = None

    def listening(self) -> AbstractContextManager[None]:
        """Handles the signals inside the block, as before after it."""
        return handled_by(self._handle)

    @contextmanager
    def handed_to(self, child: subprocess.Popen[bytes]) -> Iterator[None]:
        """Inside the block the child gets the signals; also the one that came while it was being started."""
        self._child = child
        if self.asked:
            child.send_signal(signal.SIGINT)
        try:
            yield
        finally:
            self._child = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self._child is not None:
            self._child.send_signal(number)


def train_process(run: Planned, signals: Signals) -> str | None:
    """Trains the run, from its last checkpoint if it has begun, unless it is finished; why it failed, or None.

    Raises KeyboardInterrupt once the run has ended, if it was asked to.
    """
    state = _wait_for_other(run, signals)
    if state == "finished":
        print(f"{run.label}  finished already", file=sys.stderr)
        return None
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    write_whole(run.recipe_file, dump_recipe(run.recipe))
    words = ["train", str(run.recipe_file), "--run", str(run.folder), "--events"]
    steps = run.recipe.update.steps if "update" in type(run.recipe).model_fields else 0
    with doing(run.label, steps, "steps"):
        code, last = groupwise_process([*words, *(["--resume"] if state == "stopped" else [])], run.label, signals)
    if signals.asked:
        raise KeyboardInterrupt
    return None if code == 0 else _reason(code, last)


def groupwise_process(words: Sequence[str], label: str, signals: Signals) -> tuple[int, str]:
    """`groupwise` with these words, as `run_process` does it."""
    return run_process([sys.executable, "-P", "-m", "groupwise", *words], label, signals)


def run_process(command: list[str], label: str, signals: Signals) -> tuple[int, str]:
    """Runs a command and shows its standard error with a label before each line: its exit code and its last line.

    Events on its standard output are passed on with the label; other lines there, its closing tables, are not shown.
    """
    # With -P no file of the user's folder stands in for a library's; what we were imported from it finds all the same.
    places = os.pathsep.join(place or os.getcwd() for place in sys.path)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": places},
        process_group=0,  # Ctrl-C in the terminal reaches us alone, and it through us once
    )
    last = ""
    with signals.handed_to(child):
        for pipe, line in _lines(child):
            if pipe is child.stdout:
                _pass_on(line, label)
                continue
            # Which command goes on is ours to say; a run that is stopped while it starts has a traceback, and no more.
            if line.startswith("resume with:") or (signals.asked and not line.startswith(("stopped", "stopping"))):
                continue
            print(f"{label}  {line}", file=sys.stderr, flush=True)
            last = line
        return child.wait(), last


def _pass_on(line: str, label: str) -> None:
    """An event of a run is one of ours, and a step that is done is told to whoever shows what is being done."""
    if not line.startswith('{"event":'):
        return
    found = json.loads(line)
    kind = found.pop("event")
    event(kind, label=label, **found)
    if kind == "begin":
        advance(found["done"])
    elif kind == "step":
        advance(1, tokens=round(found["metrics"].get("tokens/sampled") or 0))


def _lines(child: "subprocess.Popen[bytes]") -> Iterator[tuple[IO[bytes], str]]:
    """Lines of its two outputs that say something, each with its pipe, until it has ended.

    Not until the pipes close: what a reward function has started may hold them open for ever.
    """
    assert child.stdout is not None
    assert child.stderr is not None
    unread: dict[IO[bytes], bytes] = {child.stdout: b"", child.stderr: b""}
    waiting, ended = list(unread), False
    with child.stdout, child.stderr:
        while waiting:
            ready = select.select(waiting, [], [], 0 if ended else POLL_SECONDS)[0]
            if ended and not ready:
                break
            ended = child.poll() is not None
            for pipe in ready:
                chunk = os.read(pipe.fileno(), 1 << 16)
                if not chunk:
                    waiting.remove(pipe)
                *whole, unread[pipe] = (unread[pipe] + chunk).split(b"\n")
                yield from ((pipe, text) for line in whole if (text := _text(line)))
    yield from ((pipe, text) for pipe, line in unread.items() if (text := _text(line)))


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip()


def _reason(code: int, last: str) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return last.removeprefix("error: ") or f"exit code {code}"


def _wait_for_other(run: Planned, signals: Signals) -> State:
    """The run's state once nobody else writes it: whoever wanted it may have been killed and have left it behind."""
    state = _state(run)
    if state == "running":
        print(f"{run.label}  waits for {process.living_writer(run.folder)}, which still writes it", file=sys.stderr)
    while state == "running":
        time.sleep(POLL_SECONDS)
        state = _state(run)
        if signals.asked:
            raise KeyboardInterrupt
    if signals.asked:
        raise KeyboardInterrupt
    return state


def _state(run: Planned) -> State:
    """What is in the run's folder. Raises if it is a run of another recipe, or no run."""
    if found_in(run.folder) == "nothing":
        return "absent"
    with closing(open_record(run.folder)) as record:
        info = record.info()
    _check_recipe(run, info["recipe"])
    if info["state"] == "finished":
        return "finished"
    return "running" if process.living_writer(run.folder) else "stopped"


def _check_recipe(run: Planned, text: str) -> None:
    """Raises ConfigError if the run was made by another recipe than is wanted."""
    theirs = recipe_from(tree_of(text), where=f"{run.folder}/{RECORD}").model_dump(mode="json")
    for place, before, now in changes(theirs, run.recipe.model_dump(mode="json")):
        raise ConfigError(
            f"{run.folder}: the run there has {place} = {before!r}, wanted is {now!r}",
            hint="give --run another folder, or set it as it was",
        )
