"""What a run shows while it goes on: one line a step, on stderr. Reads metrics, decides nothing."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from groupwise.config import Recipe
from groupwise.train.intervals import shown

HEADER_EVERY = 20
_COLUMNS = (
    # heading, metric, width, format
    ("reward", "reward/mean", 7, "{:.3f}"),
    ("right", "accuracy", 6, "{:.0%}"),
    ("formed", "formed", 6, "{:.0%}"),
    ("length", "length/mean", 6, "{:.1f}"),
    ("entropy", "entropy", 7, "{:.3f}"),
    ("KL", "kl", 7, "{:.4f}"),
    ("signal", "groups/signal", 6, "{:.0%}"),
    ("grad", "grad_norm", 6, "{:.2f}"),
    ("tok/s", "tokens/per_second", 6, "{:.0f}"),
    ("s", "time/step", 6, "{:.1f}"),
)


class Progress:
    """The live table. A figure that a step does not have is shown as -."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._rows = 0
        self._seconds: list[float] = []

    def begin(self, folder: Path, *, done: int) -> None:
        """Says what will be done, in numbers that leave no doubt about what a batch is."""
        rollout, update = self.recipe.rollout, self.recipe.update
        outputs = rollout.questions_per_step * rollout.group_size
        per_rollout = update.updates_per_rollout * -(-outputs // (update.outputs_per_update or outputs))
        self.console.print(
            f"{self.recipe.objective.preset}: {rollout.questions_per_step} questions x {rollout.group_size} outputs = "
            f"{outputs} outputs a step, {per_rollout} optimizer step(s) each"
            f"{' (on policy)' if per_rollout == 1 else ''}, steps {done + 1} to {update.steps}, in {folder}"
        )

    def row(self, step: int, metrics: Mapping[str, float]) -> None:
        """One finished step, with the time left by the mean of the last ten."""
        if self._rows % HEADER_EVERY == 0:
            names = " ".join(f"{heading:>{width}}" for heading, _, width, _ in _COLUMNS)
            self.console.print(f"{'step':>9} {names} {'left':>7}", style="bold")
        self._rows += 1
        self._seconds = [*self._seconds[-9:], metrics["time/step"]]
        left = (self.recipe.update.steps - step) * sum(self._seconds) / len(self._seconds)
        cells = [
            f"{form.format(metrics[name]) if name in metrics else '-':>{width}}" for _, name, width, form in _COLUMNS
        ]
        self.console.print(f"{f'{step}/{self.recipe.update.steps}':>9} {' '.join(cells)} {_duration(left):>7}")

    @contextmanager
    def evaluating(self, name: str, questions: int) -> Iterator[None]:
        """A line that stands while an evaluation runs, on a terminal only."""
        started = time.perf_counter()
        with self.console.status(f"evaluating ({name}) on {questions} held-out questions"):
            yield
        self.console.print(f"evaluated ({name}) in {time.perf_counter() - started:.0f} s", end=": ")

    def evaluated(self, name: str, figures: Mapping[str, Any]) -> None:
        right = shown({**figures, "value": figures["accuracy"]})
        sampled = "".join(f", {key} {shown(figure)}" for key, figure in figures.items() if "@" in key)
        unjudged = f", {figures['unjudged']} could not be judged" if figures["unjudged"] else ""
        self.console.print(f"{right} of {figures['n']} right{sampled}{unjudged}")

    def stopped(self, folder: Path, step: int, checkpoint: Path | None) -> None:
        """What is safe and how to go on, after Ctrl-C or where rewards failed."""
        kept = f"saved in {checkpoint}" if checkpoint else "no step was finished yet"
        print(f"\nstopped after step {step}, {kept}", file=sys.stderr)
        print(f"go on with: groupwise train --run {quote(str(folder))} --resume", file=sys.stderr)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
