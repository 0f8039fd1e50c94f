"""The list of runs under a folder, from their records alone."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groupwise.errors import DataError, RunError
from groupwise.record.process import living_writer
from groupwise.record.read import Record, open_record
from groupwise.record.schema import FILE
from groupwise.terminal import quoted

State = Literal["running", "finished", "stopped", "unreadable"]
HOLDERS: dict[str, Literal["comparison", "pipeline"]] = {"compare.json": "comparison", "pipeline.yaml": "pipeline"}
"""What holds runs, by a file in its folder."""
DEEPEST = 4
"""Folders below the one that is listed: runs/<comparison>/<variant>/<seed>, and one more."""


@dataclass(frozen=True)
class RunInfo:
    """One run in the list.

    state: `stopped` is a run that was ended or killed before its last step, `unreadable` one with a damaged record.
    started: UTC, ISO 8601. last_step: None before the first. steps: those the recipe asks for. accuracy_*: share of
    the held-out questions, None if not measured. kind: of a comparison or a pipeline the steps are its runs.
    """

    path: Path
    state: State
    stage: str = ""
    model: str = ""
    started: str = ""
    last_step: int | None = None
    steps: int | None = None
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    kind: Literal["run", "comparison", "pipeline"] = "run"


def list_runs(root: str | Path) -> list[RunInfo]:
    """The runs under a folder, or the one that it is; those of a comparison or a pipeline stand behind it.

    The oldest first; none if there is no such folder. Raises DataError for what is no folder.
    """
    root = Path(root)
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: a file, not a folder with runs", hint=f"see `groupwise runs {quoted(root.parent)}`")
    if (root / FILE).exists():
        return [_run(root)]
    return [run for group in _groups(root, DEEPEST) for run in group]


def _groups(folder: Path, depth: int) -> list[list[RunInfo]]:
    """Each run alone, each comparison or pipeline with its runs behind it."""
    groups = []
    for path in _folders(folder):
        if (path / FILE).exists():
            groups.append([_run(path)])
        elif depth > 1:
            inside = _groups(path, depth - 1)
            kind = next((kind for file, kind in HOLDERS.items() if (path / file).exists()), None)
            if kind is not None:
                runs = [run for group in inside for run in group]
                groups.append([_holder(path, kind, runs), *runs])
            else:
                groups += inside
    return sorted(groups, key=lambda group: (group[0].started, group[0].path))


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and path.name != "checkpoints")
    except OSError:  # not there, or not ours to read
        return []


def _holder(path: Path, kind: Literal["comparison", "pipeline"], runs: list[RunInfo]) -> RunInfo:
    """A comparison's or a pipeline's line: its steps are its runs that are finished."""
    states = [run.state for run in runs]
    finished = states.count("finished")
    state: State = "running" if "running" in states else "finished" if runs and finished == len(runs) else "stopped"
    started = min((run.started for run in runs if run.started), default="")
    return RunInfo(path, state, stage=kind, started=started, kind=kind, last_step=finished - 1, steps=len(runs))


def _run(path: Path) -> RunInfo:
    try:
        with closing(open_record(path)) as record:
            return _read(path, record)
    except (DataError, RunError):
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
