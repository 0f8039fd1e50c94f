"""Runs that are killed or fail at chosen system calls, many of them cheaply; and whether two runs are the same."""

import itertools
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from groupwise.model.checkpoint import checkpoint_folder
from groupwise.record import open_record
from tests.command import RECIPE
from tests.project.sources import ROOT

WRITE, SYNC, RENAME, OPEN, UNLINK, CUT = (1 << kind for kind in range(6))
KINDS = {"write": WRITE, "fsync": SYNC, "rename": RENAME, "open": OPEN, "unlink": UNLINK, "ftruncate": CUT}
ALL = sum(KINDS.values())
KILL = -1
STEPS = 4
SPARED = 6
"""Kills of one run, after which it may come to its end."""
WORDS = (
    *("questions.heldout_size=4", "rollout.questions_per_step=2", "rollout.group_size=4", "rollout.max_new_tokens=2"),
    *(f"update.steps={STEPS}", "run.checkpoint_every=1", "run.keep_checkpoints=2", "evaluate.every=2"),
    "rewards=[{function: number, params: {where: first}}]",
)


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code (negative: the signal), what it printed, system calls of each of KINDS."""

    code: int
    text: str
    counted: list[int]

    @property
    def acknowledged(self) -> set[int]:
        """Steps that it said were done, from 0."""
        return {int(step) - 1 for step in re.findall(rf"^ +(\d+)/{STEPS} ", self.text, flags=re.MULTILINE)}


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run: what it came to, its system calls by kind, seconds."""

    content: tuple
    calls: dict[str, int]
    seconds: float


class Forker:
    """The process that forks runs; `faults` is None where there is no C compiler."""

    def __init__(self, place: Path, model: Path) -> None:
        self.place, self.model, self._asked = place, model, 0
        self.faults = _built(place)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        if self.faults is not None:
            environment["LD_PRELOAD"] = str(self.faults)
        command = [sys.executable, "-m", "tests.kills.forker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, cwd=place, env=environment, **pipes)
        assert self._process.stdout.readline() == "ready\n"

    def train(
        self,
        folder: Path,
        *,
        resume: bool,
        fault: tuple | None = None,
        after: float | None = None,
        changed: tuple[str, ...] = (),
    ) -> Ended:
        """A run begun or resumed in a folder. fault: kinds, nth, error, whether all later ones fail too. changed:
        overrides of a run that is begun."""
        words = ["train", "--run", str(folder)]
        words += ["--resume"] if resume else [RECIPE, f"model.path={self.model}", *WORDS, *changed]
        armed = None if fault is None else [str(folder), *fault]
        self._asked += 1
        log = self.place / f"log-{self._asked}"
        asked = {"number": self._asked, "words": words, "log": str(log), "fault": armed, "after": after}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        told = {"number": None}
        while told["number"] != self._asked:  # an answer that a test which was timed out did not wait for
            told = json.loads(self._process.stdout.readline())
        return Ended(told["code"], log.read_text(errors="replace"), told["counted"])

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def killed_until(forker: Forker, wanted: Whole, place: Path, kills: int, draw: Callable[[], dict]) -> Iterator[int]:
    """Runs killed up to SPARED times each and then left to their end, until so many kills; yields the kills so far.

    draw: how a run is to be killed next, as arguments of `Forker.train`. Raises AssertionError where a run is not the
    uninterrupted one, a step that was said to be done is not on record, or something is left over.
    """
    done = 0
    for number in itertools.count():
        folder, acknowledged = place / f"run {number}", set()
        for again in itertools.count():
            ended = go_on(forker, folder, **(draw() if again < SPARED else {}))
            assert "Traceback" not in ended.text, ended.text
            acknowledged |= ended.acknowledged
            assert acknowledged <= written(folder), ended.text
            if ended.code == 0:
                break
            assert ended.code == -signal.SIGKILL, ended.text
            done += 1
        assert left_over(folder) == []
        assert content(folder) == wanted.content
        shutil.rmtree(folder)
        yield done
        if done >= kills:
            return


def at_a_moment(drawn: random.Random, wanted: Whole) -> dict:
    """A kill after some of the time that a whole run takes; a resumed one takes less."""
    return {"after": drawn.uniform(0.02, 0.6 * wanted.seconds)}


def at_a_call(drawn: random.Random, wanted: Whole) -> dict:
    """A kill before one of the first half of the system calls of a whole run; a resumed one has fewer."""
    return {"fault": (ALL, drawn.randrange(sum(wanted.calls.values()) // 2), KILL, 0)}


def uninterrupted(forker: Forker, folder: Path) -> Whole:
    """The run that nothing happens to."""
    started = time.perf_counter()
    ended = forker.train(folder, resume=False, fault=(ALL, 10**9, KILL, 0) if forker.faults else None)
    seconds = time.perf_counter() - started
    assert ended.code == 0, ended.text
    return Whole(content(folder), dict(zip(KINDS, ended.counted, strict=False)), seconds)


def go_on(forker: Forker, folder: Path, **how) -> Ended:
    """What a user does after a run has ended in whatever way: --resume; where nothing was begun, the first command."""
    ended = forker.train(folder, resume=True, **how)
    if ended.code == 2 and "no run there to resume" in ended.text:
        return forker.train(folder, resume=False, **how)
    return ended


def content(folder: Path) -> tuple[dict, list, list]:
    """Weights and moments, metrics that no clock is in, figures of evaluations."""
    end = checkpoint_folder(folder, STEPS)
    tensors = {
        f"{file.name}/{name}": value.numpy().tobytes()
        for file in sorted(end.glob("*.safetensors"))
        for name, value in load_file(file).items()
    }
    with closing(open_record(folder)) as record:
        timed = ("time/", "tokens/per", "memory/")
        metrics = [row for row in record.metrics() if not row[1].startswith(timed)]
        figures = [(evaluation.name, evaluation.step, evaluation.figures) for evaluation in record.evaluations()]
    return tensors, metrics, figures


def written(folder: Path) -> set[int]:
    """Every step that an attempt has written to the record, given up or not."""
    path = folder / "record.sqlite"
    if not path.exists():
        return set()
    with closing(sqlite3.connect(path)) as database:
        return {step for (step,) in database.execute("SELECT step FROM steps")}


def left_over(folder: Path) -> list[str]:
    """Files that a run which has ended should not leave; an empty log is what a reader leaves."""
    logs = [path for path in folder.glob("*-wal") if path.stat().st_size] + list(folder.glob("*-journal"))
    hidden = [path for path in folder.rglob("*") if path.name.startswith((".", "writer"))]
    return [str(path.relative_to(folder)) for path in (*logs, *hidden)]


def _built(place: Path) -> Path | None:
    """The library of `faults.c`."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    library = place / "faults.so"
    source = ROOT / "tests" / "kills" / "faults.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", library, source, "-ldl"], check=True)
    return library
