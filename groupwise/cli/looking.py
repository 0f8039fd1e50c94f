"""Verbs that look at runs and rewards and train nothing: runs, plot, attack, regrade."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from groupwise.errors import ConfigError
from groupwise.markdown import table_text

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Params = Annotated[
    list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the reward function.")
]
Seconds = Annotated[float, typer.Option("--timeout", min=0.01, help="Limit of one call, in seconds.")]


def runs(
    root: Annotated[Path, typer.Argument(help="Folder of the runs.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List runs with their state and results."""
    from groupwise.record.listing import list_runs

    if root != Path("runs") and not root.exists():
        raise ConfigError(f"{root}: no such folder", hint="name the folder that holds the runs: groupwise runs FOLDER")
    found = list_runs(root)
    if as_json:
        print(json.dumps([{**asdict(run), "path": str(run.path)} for run in found], indent=2))
        return
    if not found:
        print(f"no runs under {root}", file=sys.stderr)
        return
    rows: list[tuple[str, ...]] = [("RUN", "STATE", "STAGE", "MODEL", "STEPS", "RIGHT BEFORE", "AFTER")]
    for run in found:
        done = 0 if run.last_step is None else run.last_step + 1
        steps = f"{done}/{'-' if run.steps is None else run.steps}{'' if run.kind == 'run' else ' runs'}"
        shares = ("-" if share is None else f"{share:.1%}" for share in (run.accuracy_before, run.accuracy_after))
        rows.append((str(run.path), run.state, run.stage or "-", run.model or "-", steps, *shares))
    print(table_text(rows))


def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories, finished or not.")],
    out: Annotated[Path, typer.Option(help="The picture's file: png, svg or pdf.")] = Path("runs.png"),
) -> None:
    """Draw several runs in one picture. It shows reward and held-out accuracy by sampled outputs."""
    from groupwise.compare.runs import draw_runs

    draw_runs(runs, out)
    print(out)


def attack(
    reward: Annotated[
        str | None, typer.Argument(help="A reward's name, file.py:function, or a recipe (all its rewards).")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Questions: a file or a built-in source.")] = None,
    params: Params = None,
    questions: Annotated[int, typer.Option(min=1, help="Number of questions.")] = 14,
    limit: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Exit with 1 if exploitability or failures exceed this share.")
    ] = 0.1,
    timeout: Seconds = 5.0,
    run: Annotated[
        Path | None, typer.Option("--run", help="List a run's outputs that earn much and look odd, not attacks.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="With --run: number of outputs shown.")] = 20,
    every: Annotated[bool, typer.Option("--all", help="Show every attack, or every odd output.")] = False,
    as_json: Json = False,
) -> None:
    """Attack a reward with hostile answers, and print which of them it pays for. Or look for such answers in a run."""
    from groupwise.strict_json import json_text

    if (run is None) == (reward is None):
        raise ConfigError("attack: give a reward, or --run DIR", hint="groupwise attack math")
    if run is not None:
        if data or params:
            raise ConfigError(f"--run {run}: its own questions and rewards are looked at", hint="drop --data, --param")
        from groupwise.audit.odd import odd_outputs, odd_text

        found = odd_outputs(run)
        print(json_text(found) if as_json else odd_text(found, None if every else top))
        return
    from groupwise.audit.attack import attack as attacked
    from groupwise.cli.showing import begun_again, showing

    with begun_again(sys.argv[1:]), showing(False, quiet=as_json):
        result = attacked(
            str(reward),
            params or [],
            data=data,
            questions=questions,
            limit=limit,
            timeout_seconds=timeout,
            every=every,
        )
    print(json_text(result.content) if as_json else result.text)
    if result.fell:
        raise typer.Exit(1)


def regrade(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, finished or not.")],
    reward: Annotated[str, typer.Option(help="A reward's name, file.py:function, or a recipe (all its rewards).")],
    params: Params = None,
    steps: Annotated[
        str | None, typer.Option(metavar="A-B", help="Steps of the run, counted from 1; default: all.")
    ] = None,
    split: Annotated[str, typer.Option(help="train: sampled outputs; heldout: the evaluations' answers.")] = "train",
    part: Annotated[
        str | None, typer.Option(help="Compare with this recorded reward function, not with the sum.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many outputs, evenly spaced.")] = None,
    timeout: Seconds = 30.0,
    out: Annotated[Path | None, typer.Option(help="File for every output with both rewards (JSONL).")] = None,
    as_json: Json = False,
) -> None:
    """Score a run's recorded outputs with another reward, and compare both. The run is not changed."""
    from groupwise.audit.regrade import regrade as regraded
    from groupwise.cli.showing import begun_again, showing
    from groupwise.strict_json import json_text

    with begun_again(sys.argv[1:]), showing(False, quiet=as_json):
        content, text = regraded(
            run,
            reward,
            params or [],
            steps=steps,
            split=split,
            part=part,
            limit=limit,
            timeout_seconds=timeout,
            out=out,
        )
    print(json_text(content) if as_json else text)
