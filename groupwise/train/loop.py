"""The steps of a run, whatever the stage: evaluate, step, record, save, stop when asked, and sum up at the end."""

import json
import math
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from groupwise.batch import Batch
from groupwise.errors import RewardLimitError, StoppedEarly
from groupwise.model.checkpoint import checkpoint_folder
from groupwise.record.read import open_record
from groupwise.rewards.base import check_failures, first_failure
from groupwise.train.evaluate import evaluate
from groupwise.train.figures import output_advantages, reward_metrics, step_metrics
from groupwise.train.progress import Progress
from groupwise.train.rollout import Rollout
from groupwise.train.run import Run, save
from groupwise.train.stop import Interrupted, Stop
from groupwise.train.update import Tally


@dataclass(frozen=True)
class Summary:
    """What a run came to: figures before and after on the held-out questions, seconds of training, tokens sampled."""

    folder: Path
    checkpoint: Path
    steps: int
    seconds: float
    tokens: int
    before: dict[str, Any]
    after: dict[str, Any]


def run_steps(run: Run, optimizer: torch.optim.Optimizer, step: Callable[[Stop], dict[str, float]]) -> Summary:
    """Does the recipe's steps from `run.step` on, with evaluations and checkpoints between, and writes summary.json.

    step: does one, ends in `finish_step`, returns its metrics. Asked to stop, the run saves what is done and raises
    Interrupted. Raises StoppedEarly if steps are missing at the end.
    """
    recipe, stop, progress = run.recipe, Stop(), Progress(run.recipe)
    saved = run.resumed_from
    with stop.listening():
        try:
            before = _recorded(run, "before") or _evaluated(run, "before", progress)
            progress.begin(run.folder, done=run.step)
            while run.step < recipe.update.steps:
                metrics = step(stop)
                progress.row(run.step, metrics)
                if _due(recipe.run.checkpoint_every, run.step) and run.step < recipe.update.steps:
                    saved = _saved(run, optimizer, stop)
                if _due(recipe.evaluate.every, run.step) and run.step < recipe.update.steps:
                    _evaluated(run, f"step-{run.step}", progress)
            saved = _saved(run, optimizer, stop)
            after = _evaluated(run, "after", progress)
        except Interrupted:
            if run.step and (saved is None or saved != checkpoint_folder(run.folder, run.step)):
                saved = save(run, optimizer)
            progress.stopped(run.folder, run.step, saved)
            raise
    if run.step < recipe.update.steps:
        raise StoppedEarly(f"{run.folder}: {run.step} of {recipe.update.steps} steps done", hint="add --resume")
    summary = Summary(run.folder, saved, run.step, run.seconds, run.tokens, before, after)
    write_json(run.folder / "summary.json", {**asdict(summary), "folder": str(run.folder), "checkpoint": str(saved)})
    run.recorder.set_info("state", "finished")
    return summary


def finish_step(run: Run, rollout: Rollout, batch: Batch, tally: Tally, *, update_seconds: float) -> dict[str, float]:
    """Records a step whose update is done, moves the run on by one, and returns the step's metrics."""
    metrics = step_metrics(run.recipe, rollout, batch, tally, step=run.step, update_seconds=update_seconds)
    advantages = output_advantages(rollout.groups, batch)
    run.recorder.write_step(run.step, rollout.groups, advantages=advantages, metrics=metrics)
    run.step += 1
    run.policy_version += tally.updates
    run.seconds += metrics["time/step"]
    run.tokens += int(metrics["tokens/sampled"])
    return metrics


def check_rewards(run: Run, rollout: Rollout) -> None:
    """Shows a reward function's first failure; past the recipe's limit records the step as it is and raises."""
    rewards = [sample.reward for group in rollout.groups for sample in group.samples]
    for label, detail in first_failure(rewards).items():
        if label not in run.failures_shown:
            run.failures_shown.add(label)
            print(f"reward {label} failed, its outputs are left out of the update:\n{detail}", file=sys.stderr)
    try:
        check_failures(rewards, run.recipe.run.failed_rewards_limit)
    except RewardLimitError:
        nothing = [[None] * len(group.samples) for group in rollout.groups]
        metrics = reward_metrics(run.recipe, rollout.groups)
        run.recorder.write_step(run.step, rollout.groups, advantages=nothing, metrics=metrics)
        raise


def write_json(path: Path, content: Any) -> None:
    """Writes a file as a whole or not at all; nan becomes null."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(_plain(content), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


def _saved(run: Run, optimizer: torch.optim.Optimizer, stop: Stop) -> Path:
    with stop.guarded():
        return save(run, optimizer)


def _evaluated(run: Run, name: str, progress: Progress) -> dict[str, Any]:
    """Figures of an evaluation made now and recorded."""
    if not run.questions.heldout:
        return {}
    with progress.evaluating(name, len(run.questions.heldout)):
        result = evaluate(
            run.recipe,
            run.questions.heldout,
            tokenizer=run.tokenizer,
            engine=run.engine,
            rewards=run.rewards,
            samples=run.recipe.evaluate.samples,
        )
    run.recorder.write_evaluation(name, run.step, figures=result.figures, answers=result.answers)
    progress.evaluated(name, result.figures)
    return result.figures


def _recorded(run: Run, name: str) -> dict[str, Any] | None:
    """Figures of an evaluation that an earlier attempt of this run recorded."""
    if run.step == 0:
        return None
    with closing(open_record(run.folder)) as record:
        return next((evaluation.figures for evaluation in record.evaluations() if evaluation.name == name), None)
