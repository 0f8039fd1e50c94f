"""The runs of a comparison, one after the other, each `groupwise train` in a process of its own. Knows no figures.

A process of its own because the peak of memory is one of a process, and because a crash then ends one run alone.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal

from groupwise.compare.plan import FILE, Pair, Plan
from groupwise.config import dump_recipe, recipe_from
from groupwise.errors import ConfigError, DataError
from groupwise.recipe_file import changes, tree_of
from groupwise.record import process
from groupwise.record.read import open_record
from groupwise.record.schema import FILE as RECORD

POLL_SECONDS = 0.5
State = Literal["absent", "stopped", "running", "finished"]


def check_folder(plan: Plan, *, resume: bool) -> None:
    """Raises DataError or ConfigError if the comparison's folder holds something else, or a run that is in the way."""
    where = f"--run {plan.folder}"
    if plan.folder.exists() and not plan.folder.is_dir():
        raise DataError(f"{where}: it is not a folder", hint="give another name")
    ours = (FILE, f".{FILE}.partial")
    held = [path.name for path in plan.folder.iterdir()] if plan.folder.exists() else []
    if held and not any(name in ours for name in held):
        raise DataError(f"{where}: it holds something that is no comparison", hint="give another name")
    for pair in plan.pairs:
        state, mark = _state(pair)
        if state == "running" and (not resume or mark.get("host") != process.this_process()["host"]):
            told = f"{pair.folder} is being written by process {mark['pid']} on {mark['host']}"
            raise DataError(told, hint="end it, or wait until it has ended")
        if state == "stopped" and not resume:
            raise DataError(f"{pair.folder}: a run that did not finish is there", hint="add --resume to go on with it")
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{where}: {error.strerror}", hint="give another place") from None


def is_finished(pair: Pair) -> bool:
    return _state(pair)[0] == "finished"


class Signals:
    """Hands each SIGINT and SIGTERM on to the run that goes on, which saves and ends; remembers that one came."""

    def __init__(self) -> None:
        self.asked = False
        self._child: subprocess.Popen[bytes] | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handles the signals inside the block, as before after it."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

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


def run_pair(pair: Pair, signals: Signals) -> str | None:
    """Trains the pair, from its last checkpoint if it has begun, unless it is finished; why it failed, or None.

    Raises KeyboardInterrupt once the run has ended, if it was asked to.
    """
    state = _wait_for_other(pair, signals)
    if state == "finished":
        print(f"{pair.label}  finished already", file=sys.stderr)
        return None
    if state == "absent":
        for left in pair.folder.glob(f"{RECORD}*"):  # of a run that was killed while it made its record
            left.unlink()
    pair.folder.parent.mkdir(parents=True, exist_ok=True)
    pair.recipe_file.write_text(dump_recipe(pair.recipe), encoding="utf-8")
    words = ["train", str(pair.recipe_file), "--run", str(pair.folder), *(["--resume"] if state == "stopped" else [])]
    code, last = run_process([sys.executable, "-P", "-m", "groupwise", *words], pair.label, signals)
    if signals.asked:
        raise KeyboardInterrupt
    return None if code == 0 else _reason(code, last)


def run_process(command: list[str], label: str, signals: Signals) -> tuple[int, str]:
    """Runs a command and shows its standard error with a label before each line: its exit code and its last line."""
    # With -P no file of the user's folder stands in for a library's; what we were imported from it finds all the same.
    places = os.pathsep.join(place or os.getcwd() for place in sys.path)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # its closing tables: ours come at the end
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": places},
        process_group=0,  # Ctrl-C in the terminal reaches us alone, and it through us once
    )
    last = ""
    with signals.handed_to(child):
        for line in _lines(child):
            # Which command goes on is ours to say; a run that is stopped while it starts has a traceback, and no more.
            if line.startswith("go on with:") or (signals.asked and not line.startswith("stopped")):
                continue
            print(f"{label}  {line}", file=sys.stderr, flush=True)
            last = line
        return child.wait(), last


def _lines(child: subprocess.Popen[bytes]) -> Iterator[str]:
    """Lines of its standard error that say something, until it has ended.

    Not until the pipe closes: what a reward function has started may hold it open for ever.
    """
    assert child.stderr is not None
    unread, ended, open_ = b"", False, True
    with child.stderr as pipe:
        while open_:
            ready = select.select([pipe], [], [], 0 if ended else POLL_SECONDS)[0]
            if ended and not ready:
                break
            ended = child.poll() is not None
            if ready:
                chunk = os.read(pipe.fileno(), 1 << 16)
                open_ = bool(chunk)
                *whole, unread = (unread + chunk).split(b"\n")
                yield from (text for line in whole if (text := _text(line)))
    if text := _text(unread):
        yield text


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip()


def _reason(code: int, last: str) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return last.removeprefix("error: ") or f"exit code {code}"


def _wait_for_other(pair: Pair, signals: Signals) -> State:
    """The pair's state once nobody else writes it: a comparison that was killed may have left its run behind."""
    state, mark = _state(pair)
    if state == "running":
        print(f"{pair.label}  waits for process {mark['pid']}, which still writes it", file=sys.stderr)
    while state == "running":
        time.sleep(POLL_SECONDS)
        state = _state(pair)[0]
        if signals.asked:
            raise KeyboardInterrupt
    if signals.asked:
        raise KeyboardInterrupt
    return state


def _state(pair: Pair) -> tuple[State, dict[str, str]]:
    """What is in the pair's folder, and what its record knows. Raises if it is a run of another recipe, or no run."""
    if not pair.folder.exists() or (pair.folder.is_dir() and not any(pair.folder.iterdir())):
        return "absent", {}
    try:
        with closing(open_record(pair.folder)) as record:
            info = record.info()
    except DataError:
        if _only_begun(pair.folder):
            return "absent", {}
        raise
    _check_recipe(pair, info["recipe"])
    if info["state"] == "finished":
        return "finished", info
    return "running" if info["state"] == "running" and process.is_alive(info) else "stopped", info


def _only_begun(folder: Path) -> bool:
    """Whether a run was killed in the moment between making its folder and writing what it is."""
    return folder.is_dir() and all(path.name.startswith(RECORD) for path in folder.iterdir())


def _check_recipe(pair: Pair, text: str) -> None:
    """Raises ConfigError if the run was made by another recipe than the pair's."""
    theirs = recipe_from(tree_of(text), where=f"{pair.folder}/{RECORD}").model_dump(mode="json")
    for place, before, now in changes(theirs, pair.recipe.model_dump(mode="json")):
        raise ConfigError(
            f"{pair.folder}: the run there has {place} = {before!r}, this comparison {now!r}",
            hint="give --run another folder, or set it as it was",
        )
