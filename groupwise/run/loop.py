"""The steps of a run, whatever the stage: evaluate, step, record, save, stop when asked, and sum up at the end."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from groupwise.config import RLRecipe
from groupwise.data import Group
from groupwise.engines.base import Engine
from groupwise.errors import StoppedEarly
from groupwise.learn.coefficients import coefficients_after
from groupwise.learn.optimizer import learning_rate
from groupwise.learn.tally import Tally
from groupwise.model.batch import Batch
from groupwise.model.lora import described, is_adapted
from groupwise.model.memory import FreedMemory, out_of_memory
from groupwise.objective.surrogate import Objective
from groupwise.record.read import open_record
from groupwise.rollout.evaluate import Evaluation
from groupwise.rollout.groups import Rollout
from groupwise.run.best import keep_best
from groupwise.run.ending import leave, memory_error
from groupwise.run.journal import Journal, Learned, saved
from groupwise.run.metrics import output_advantages, peak_memory, step_metrics
from groupwise.run.progress import Progress, remark
from groupwise.run.stall import watched
from groupwise.stop import Stop
from groupwise.strict_json import write_json


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
    journal: Journal,
    learned: Learned,
    step: Callable[[Stop], dict[str, float]],
    *,
    engine: Engine | None,
    evaluate: Callable[[int], Evaluation] | None,
    progress: Progress,
    measure: Callable[[], dict[str, Any]] = dict,
) -> Summary:
    """Does the recipe's steps from the journal's on, with evaluations and checkpoints between; writes summary.json.

    step: does one, records it (`record_step`), returns its metrics. engine: gets the new weights after each. evaluate,
    measure: answers to held-out questions, and further figures of an evaluation. Whatever ends it, the weights of the
    last finished step are saved first (`groupwise.run.ending`). Raises StoppedEarly if steps are missing at the end,
    RunError if memory runs out.
    """
    recipe, folder, state, stop = journal.recipe, journal.folder, journal.state, Stop()
    steps, first, begun, freed = recipe.update.steps, state.step, state.step, FreedMemory()
    save = partial(saved, journal, learned)

    def evaluated(name: str) -> dict[str, Any]:
        return _evaluated(journal, name, evaluate=evaluate, measure=measure, progress=progress, save=save)

    with stop.listening(), watched(folder, recipe.run.stall_seconds) as beat:
        try:
            before = _recorded(folder, "before") or evaluated("before")
            _begin(journal, learned, progress)
            for number in range(first, steps):
                begun, stop.changed = number, False
                beat(f"step {number + 1}")
                name = f"step-{number}"
                if _due(recipe.evaluate.every, number) and not (number == first and _recorded(folder, name)):
                    evaluated(name)
                metrics = step(stop)
                if engine is not None:
                    engine.sync(learned.policy, state.policy_version)
                progress.row(state.step, metrics)
                freed.settle()
                if _due(recipe.run.checkpoint_every, state.step) and state.step < steps:
                    with stop.guarded("saving"):
                        save()
            if state.step < steps:
                raise StoppedEarly(f"{folder}: {state.step} of {steps} steps done", hint="add --resume")
            beat("the end")
            with stop.guarded("saving"):
                checkpoint = save()
            after = evaluated("after")
        except BaseException as error:
            # Weights that a step has changed are its own only once it is counted.
            whole = not stop.torn and not (stop.changed and state.step == begun)
            with stop.kept("saving"):
                leave(journal, learned, progress, whole=whole)
            if out_of_memory(error):
                raise memory_error(error, step=state.step) from None
            raise
    return _summed_up(
        journal,
        Summary(folder, checkpoint, state.step, state.seconds, state.tokens, before, after, progress.tokens_are),
    )


def finish_step(
    journal: Journal[RLRecipe],
    rollout: Rollout,
    batch: Batch,
    tally: Tally,
    *,
    objective: Objective,
    update_seconds: float,
) -> dict[str, float]:
    """Records a step whose update is done, moves the run on by one, and returns the step's metrics.

    An update that was cut short counts as a step with the optimizer steps that it took; what cut it is raised then.
    """
    recipe, state = journal.recipe, journal.state
    metrics = step_metrics(
        recipe, rollout, batch, tally, objective=objective, step=state.step, update_seconds=update_seconds
    )
    state.coefficients = coefficients_after(
        recipe.objective,
        objective,
        state.coefficients,
        kl=metrics.get("kl"),
        entropy=metrics.get("entropy"),
        outputs=len(batch),
    )
    state.drawn += rollout.drawn
    state.moments = {label: [m.count, m.mean, m.squares] for label, m in rollout.running.items()}
    record_step(
        journal,
        rollout.groups,
        advantages=output_advantages(rollout, batch),
        metrics=metrics,
        updates=tally.updates,
        tokens=int(metrics["tokens/sampled"]),
    )
    if tally.cut_short is not None:
        print(f"step {state.step} counts with the {tally.updates} optimizer step(s) that it took", file=sys.stderr)
        raise tally.cut_short
    return metrics


def record_step(
    journal: Journal,
    groups: Sequence[Group],
    *,
    advantages: Sequence[Sequence[float | None]],
    metrics: dict[str, float],
    updates: int,
    tokens: int,
) -> dict[str, float]:
    """Records a step, moves the run on by one, and returns the step's metrics.

    Its weights are those after the step whether or not it could be recorded; `State.unrecorded` then tries again.
    """
    state = journal.state
    write = partial(journal.recorder.write_step, state.step, groups, advantages=advantages, metrics=metrics)
    try:
        write()
    except BaseException:
        state.unrecorded, state.unrecorded_steps = write, state.unrecorded_steps | {state.step}
        raise
    finally:
        state.step += 1
        state.policy_version += updates
        state.seconds += metrics["time/step"]
        state.tokens += tokens
    return metrics


def finish_example_step(
    journal: Journal, tally: Tally, metrics: dict[str, float], *, started: float, tokens: int
) -> dict[str, float]:
    """Records an optimizer step on examples, begun at `started` (time.perf_counter), and returns its metrics."""
    seconds = time.perf_counter() - started
    whole = metrics | {
        "grad_norm": tally.grad_norm,
        "learning_rate": learning_rate(journal.recipe.update, journal.state.step),
        "time/update": seconds,
        "time/step": seconds,
        "memory/peak": peak_memory(),
        **({"memory/halvings": float(tally.halvings)} if tally.halvings else {}),
    }
    return record_step(journal, [], advantages=[], metrics=whole, updates=tally.updates, tokens=tokens)


def _summed_up(journal: Journal, summary: Summary) -> Summary:
    """The summary of a run that is done, written beside its record."""
    paths = {"folder": str(summary.folder), "checkpoint": str(summary.checkpoint)}
    write_json(journal.folder / "summary.json", asdict(summary) | paths)
    journal.recorder.set_info("state", "finished")
    return summary


def _begin(journal: Journal, learned: Learned, progress: Progress) -> None:
    """Says what will be done, if anything is left."""
    if journal.state.step < journal.recipe.update.steps:
        progress.begin(journal.folder, done=journal.state.step)
        if is_adapted(learned.policy.model):
            remark(described(learned.policy.model))


def _due(every: int, step: int) -> bool:
    return every > 0 and step > 0 and step % every == 0


def _evaluated(
    journal: Journal,
    name: str,
    *,
    evaluate: Callable[[int], Evaluation] | None,
    measure: Callable[[], dict[str, Any]],
    progress: Progress,
    save: Callable[[], Path],
) -> dict[str, Any]:
    """Figures of an evaluation made now and recorded; {} if nothing is held out."""
    step = journal.state.step
    with progress.evaluating(name):
        figures, answers = measure(), []
        if evaluate is not None:
            result = evaluate(step)
            figures, answers = figures | result.figures, result.answers
    if figures:
        journal.recorder.write_evaluation(name, step, figures=figures, answers=answers)
        progress.evaluated(name, figures)
    keep_best(journal.recipe, journal.folder, step, figures, save)
    return figures


def _recorded(folder: Path, name: str) -> dict[str, Any] | None:
    """Figures of an evaluation that an earlier attempt of this run recorded."""
    with closing(open_record(folder)) as record:
        return next((evaluation.figures for evaluation in record.evaluations() if evaluation.name == name), None)
