"""The steps of a run, whatever the stage: evaluate, step, record, save, stop when asked, and sum up at the end."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from groupwise.data import Group
from groupwise.errors import RewardLimitError, StoppedEarly
from groupwise.learn.coefficients import coefficients_after
from groupwise.learn.microbatches import out_of_memory
from groupwise.learn.optimizer import learning_rate
from groupwise.learn.tally import Tally
from groupwise.model.batch import Batch
from groupwise.model.checkpoint import checkpoint_folder, latest_checkpoint
from groupwise.model.lora import described, is_adapted
from groupwise.model.memory import FreedMemory
from groupwise.objective.surrogate import Objective
from groupwise.record.read import open_record
from groupwise.rewards.base import check_failures, first_failure
from groupwise.rollout.evaluate import evaluate
from groupwise.rollout.groups import Rollout
from groupwise.run.best import keep_best
from groupwise.run.ending import leave, memory_error
from groupwise.run.metrics import output_advantages, peak_memory, reward_metrics, step_metrics
from groupwise.run.open import Run, save
from groupwise.run.progress import Progress, remark
from groupwise.run.stall import watched
from groupwise.stop import Stop
from groupwise.strict_json import write_json
from groupwise.terminal import printable


@dataclass(frozen=True)
class Summary:
    """What a run came to: figures before and after on what is held out, seconds of training, tokens (and which)."""

    folder: Path
    checkpoint: Path
    steps: int
    seconds: float
    tokens: int
    before: dict[str, Any]
    after: dict[str, Any]
    tokens_are: str = "sampled"


def run_steps(
    run: Run,
    optimizer: torch.optim.Optimizer,
    step: Callable[[Stop], dict[str, float]],
    *,
    progress: Progress,
    measure: Callable[[], dict[str, Any]] = dict,
) -> Summary:
    """Does the recipe's steps from `run.step` on, with evaluations and checkpoints between, and writes summary.json.

    step: does one, records it, moves the run on, returns its metrics. measure: further figures of an evaluation.
    Whatever ends it, the weights of the last finished step are saved first (`groupwise.run.ending`). Raises
    StoppedEarly if steps are missing at the end, RunError if memory runs out.
    """
    recipe, stop, begun = run.recipe, Stop(), run.step
    freed = FreedMemory()

    def evaluated(name: str) -> dict[str, Any]:
        return _evaluated(run, optimizer, name, progress, measure)

    with stop.listening(), watched(run.folder, recipe.run.stall_seconds) as beat:
        try:
            before = _recorded(run, "before") or evaluated("before")
            if run.step < recipe.update.steps:
                progress.begin(run.folder, done=run.step)
                if is_adapted(run.policy.model):
                    remark(described(run.policy.model))
            for number in range(first := run.step, recipe.update.steps):
                begun, stop.changed = number, False
                beat(f"step {number + 1}")
                if _due(recipe.evaluate.every, number) and not (number == first and _recorded(run, f"step-{number}")):
                    evaluated(f"step-{number}")
                metrics = step(stop)
                progress.row(run.step, metrics)
                freed.settle()
                if _due(recipe.run.checkpoint_every, run.step) and run.step < recipe.update.steps:
                    with stop.guarded("saving"):
                        _saved(run, optimizer)
            if run.step < recipe.update.steps:
                line = f"{run.folder}: {run.step} of {recipe.update.steps} steps done"
                raise StoppedEarly(line, hint="add --resume")
            beat("the end")
            with stop.guarded("saving"):
                saved = _saved(run, optimizer)
            after = evaluated("after")
        except BaseException as error:
            # Weights that a step has changed are its own only once it is counted.
            whole = not stop.torn and not (stop.changed and run.step == begun)
            with stop.kept("saving"):
                leave(run, progress, save=lambda: _saved(run, optimizer), whole=whole)
            if out_of_memory(error):
                raise memory_error(error, step=run.step) from None
            raise
    summary = Summary(run.folder, saved, run.step, run.seconds, run.tokens, before, after, progress.tokens_are)
    write_json(run.folder / "summary.json", {**asdict(summary), "folder": str(run.folder), "checkpoint": str(saved)})
    run.recorder.set_info("state", "finished")
    return summary


def finish_step(
    run: Run, rollout: Rollout, batch: Batch, tally: Tally, *, objective: Objective, update_seconds: float
) -> dict[str, float]:
    """Records a step whose update is done, moves the run on by one, and returns the step's metrics.

    An update that was cut short counts as a step with the optimizer steps that it took; what cut it is raised then.
    """
    metrics = step_metrics(
        run.recipe, rollout, batch, tally, objective=objective, step=run.step, update_seconds=update_seconds
    )
    run.coefficients = coefficients_after(
        run.recipe.objective,
        objective,
        run.coefficients,
        kl=metrics.get("kl"),
        entropy=metrics.get("entropy"),
        outputs=len(batch),
    )
    run.drawn += rollout.drawn
    record_step(
        run,
        rollout.groups,
        advantages=output_advantages(rollout, batch),
        metrics=metrics,
        updates=tally.updates,
        tokens=int(metrics["tokens/sampled"]),
    )
    if tally.cut_short is not None:
        print(f"step {run.step} counts with the {tally.updates} optimizer step(s) that it took", file=sys.stderr)
        raise tally.cut_short
    return metrics


def record_step(
    run: Run,
    groups: Sequence[Group],
    *,
    advantages: Sequence[Sequence[float | None]],
    metrics: dict[str, float],
    updates: int,
    tokens: int,
) -> dict[str, float]:
    """Records a step, moves the run on by one, and returns the step's metrics.

    Its weights are those after the step whether or not it could be recorded; `run.unrecorded` then tries again.
    """
    write = partial(run.recorder.write_step, run.step, groups, advantages=advantages, metrics=metrics)
    try:
        write()
    except BaseException:
        run.unrecorded, run.unrecorded_steps = write, run.unrecorded_steps | {run.step}
        raise
    finally:
        run.step += 1
        run.policy_version += updates
        if run.engine is not None:
            run.engine.sync(run.policy, run.policy_version)
        run.seconds += metrics["time/step"]
        run.tokens += tokens
    return metrics


def finish_example_step(
    run: Run, tally: Tally, metrics: dict[str, float], *, started: float, tokens: int
) -> dict[str, float]:
    """Records an optimizer step on examples, begun at `started` (time.perf_counter), and returns its metrics."""
    seconds = time.perf_counter() - started
    whole = metrics | {
        "grad_norm": tally.grad_norm,
        "learning_rate": learning_rate(run.recipe.update, run.step),
        "time/update": seconds,
        "time/step": seconds,
        "memory/peak": peak_memory(),
        **({"memory/halvings": float(tally.halvings)} if tally.halvings else {}),
    }
    return record_step(run, [], advantages=[], metrics=whole, updates=tally.updates, tokens=tokens)


def check_rewards(run: Run, rollout: Rollout) -> None:
    """Shows a reward function's first failure; past the recipe's limit records the step as it is and raises."""
    rewards = [sample.reward for group in rollout.groups for sample in group.samples]
    for label, detail in first_failure(rewards).items():
        if label not in run.failures_shown:
            run.failures_shown.add(label)
            print(
                f"reward {label} failed, its outputs are left out of the update:\n{printable(detail)}", file=sys.stderr
            )
    try:
        check_failures(rewards, run.recipe.run.failed_rewards_limit)
    except RewardLimitError:
        nothing = [[None] * len(group.samples) for group in rollout.groups]
        metrics = reward_metrics(run.recipe, rollout.groups)
        run.recorder.write_step(run.step, rollout.groups, advantages=nothing, metrics=metrics)
        raise


def _due(every: int, step: int) -> bool:
    return every > 0 and step > 0 and step % every == 0


def _saved(run: Run, optimizer: torch.optim.Optimizer) -> Path:
    """The checkpoint of the run as it is; written unless it is there."""
    target = checkpoint_folder(run.folder, run.step)
    return target if latest_checkpoint(run.folder) == target else save(run, optimizer)


def _evaluated(
    run: Run,
    optimizer: torch.optim.Optimizer,
    name: str,
    progress: Progress,
    measure: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """Figures of an evaluation made now and recorded; {} if nothing is held out."""
    with progress.evaluating(name):
        figures, answers = measure(), []
        if run.questions.heldout:
            result = evaluate(
                run.recipe,
                run.questions.heldout,
                tokenizer=run.tokenizer,
                engine=run.engine,
                rewards=run.rewards,
                samples=run.recipe.evaluate.samples,
                step=run.step,
            )
            figures, answers = figures | result.figures, result.answers
    if figures:
        run.recorder.write_evaluation(name, run.step, figures=figures, answers=answers)
        progress.evaluated(name, figures)
    keep_best(run.recipe, run.folder, run.step, figures, lambda: _saved(run, optimizer))
    return figures


def _recorded(run: Run, name: str) -> dict[str, Any] | None:
    """Figures of an evaluation that an earlier attempt of this run recorded."""
    with closing(open_record(run.folder)) as record:
        return next((evaluation.figures for evaluation in record.evaluations() if evaluation.name == name), None)
