"""The list of runs under a folder, from their records alone."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groupwise.errors import DataError
from groupwise.record.process import living_writer
from groupwise.record.read import Record, open_record
from groupwise.record.schema import FILE


@dataclass(frozen=True)
class RunInfo:
    """One run in the list.

    state: `stopped` is a run that was ended or killed before its last step, `unreadable` one with a damaged record.
    started: UTC, ISO 8601. last_step: None before the first. steps: those the recipe asks for. accuracy_*: share of
    the held-out questions, None if not measured.
    """

    path: Path
    state: Literal["running", "finished", "stopped", "unreadable"]
    stage: str = ""
    model: str = ""
    started: str = ""
    last_step: int | None = None
    steps: int | None = None
    accuracy_before: float | None = None
    accuracy_after: float | None = None


def list_runs(root: str | Path) -> list[RunInfo]:
    """The runs directly under a folder, the oldest first; none if there is no such folder."""
    runs = [_run(path.parent) for path in Path(root).glob(f"*/{FILE}")]
    return sorted(runs, key=lambda run: (run.started, run.path))


def _run(path: Path) -> RunInfo:
    try:
        with closing(open_record(path)) as record:
            return _read(path, record)
    except DataError:
        return RunInfo(path, "unreadable")


def _read(path: Path, record: Record) -> RunInfo:
    info = record.info()
    steps = record.steps()
    accuracy = {e.name: e.figures.get("accuracy") for e in record.evaluations()}
    asked = info.get("steps", "")
    return RunInfo(
        path,
        "finished" if info["state"] == "finished" else "running" if living_writer(path) else "stopped",
        stage=info.get("stage", ""),
        model=info.get("model", ""),
        started=info.get("started", ""),
        last_step=steps[-1] if steps else None,
        steps=int(asked) if asked.isdigit() else None,
        accuracy_before=accuracy.get("before"),
        accuracy_after=accuracy.get("after"),
    )
