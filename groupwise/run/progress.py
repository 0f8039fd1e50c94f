"""What a run shows while it goes on: a line a step on stderr, or JSON lines on stdout. Reads metrics alone."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from groupwise.activity import doing, line_console
from groupwise.config import Recipe, RLRecipe
from groupwise.statistics.intervals import figure_in
from groupwise.statistics.intervals import shown as with_interval
from groupwise.strict_json import json_line
from groupwise.terminal import command, printable

HEADER_EVERY = 20
Columns = tuple[tuple[str, str, int, str], ...]
"""(heading, metric, width, format) of each figure in a step's line."""
OF_ROLLOUTS: Columns = (
    ("reward", "reward/mean", 7, "{:.3f}"),
    ("right", "accuracy", 6, "{:.0%}"),
    ("format", "format", 6, "{:.0%}"),
    ("length", "length/mean", 6, "{:.1f}"),
    ("entropy", "entropy", 7, "{:.3f}"),
    ("KL", "kl", 7, "{:.4f}"),
    ("signal", "groups/signal", 6, "{:.0%}"),
    ("grad", "grad_norm", 6, "{:.2f}"),
    ("tok/s", "tokens/per_second", 6, "{:.0f}"),
    ("s", "time/step", 6, "{:.1f}"),
)

OF_UPDATE: Columns = (
    ("grad", "grad_norm", 6, "{:.2f}"),
    ("rate", "learning_rate", 8, "{:.1e}"),
    ("s", "time/step", 6, "{:.1f}"),
)
"""Behind the figures of any stage that learns from examples."""


View = Literal["table", "nothing", "json", "both"]
LINES, EVENTS = ("table", "both"), ("json", "both")
"""Views with lines on stderr, and with events on stdout."""
OnStep = Callable[[int, Mapping[str, float]], None]
"""(steps done, the step's metrics)."""
_view: list[View] = ["table"]
_on_step: list[OnStep | None] = [None]


@contextmanager
def shown_as(view: View, *, on_step: OnStep | None = None) -> Iterator[None]:
    """How runs are shown inside the block: a table on stderr; nothing; events, a JSON object a line, on stdout; both.

    on_step: called once a step is on record.
    """
    before = _view[0], _on_step[0]
    _view[0], _on_step[0] = view, on_step
    try:
        yield
    finally:
        _view[0], _on_step[0] = before


def event(kind: str, /, **values: Any) -> None:
    """Prints an event where runs are shown as JSON."""
    if _view[0] in EVENTS:
        print(json_line({"event": kind, **values}), flush=True)


def remark(text: str) -> None:
    """Prints what is good to know on stderr, where runs are shown as a table; no warning, which is shown always."""
    if _view[0] in LINES:
        print(text, file=sys.stderr)


class Progress:
    """The live table. A figure that a step does not have is shown as -."""

    def __init__(self, *, plan: str, steps: int, columns: Columns, tokens_are: str = "sampled") -> None:
        """plan: what a step is, in numbers that leave no doubt about what a batch is."""
        self.plan, self.steps, self.columns, self.tokens_are = plan, steps, columns, tokens_are
        quiet = _view[0] not in LINES
        self.console = line_console() or Console(stderr=True, highlight=False, markup=False, quiet=quiet)
        self._rows = 0
        self._evaluation_seconds = 0.0
        self._seconds: list[float] = []

    def _line(self, text: str, style: str | None = None) -> None:
        self.console.print(text, style=style, soft_wrap=True)

    def begin(self, folder: Path, *, done: int) -> None:
        """Says what will be done."""
        event("begin", run=str(folder), plan=self.plan, done=done, steps=self.steps)
        self._line(printable(f"{self.plan}, steps {done + 1} to {self.steps}, in {folder}"))

    def row(self, step: int, metrics: Mapping[str, float]) -> None:
        """One finished step, with the time left by the mean of the last ten."""
        if self._rows % HEADER_EVERY == 0:
            names = " ".join(f"{heading:>{width}}" for heading, _, width, _ in self.columns)
            self._line(f"{'step':>9} {names} {'left':>7}", style="bold")
        self._rows += 1
        self._seconds = [*self._seconds[-9:], metrics["time/step"]]
        left = (self.steps - step) * sum(self._seconds) / len(self._seconds)
        event("step", step=step, steps=self.steps, seconds_left=left, metrics=dict(metrics))
        shown = (form.format(metrics[name]) if name in metrics else "-" for _, name, _, form in self.columns)
        cells = [f"{text:>{width}}" for text, (_, _, width, _) in zip(shown, self.columns, strict=True)]
        self._line(f"{f'{step}/{self.steps}':>9} {' '.join(cells)} {_duration(left):>7}{_held_up(metrics)}")
        if _on_step[0] is not None:
            _on_step[0](step, metrics)

    @contextmanager
    def evaluating(self, name: str) -> Iterator[None]:
        """Says that an evaluation runs, and how long it took."""
        started = time.perf_counter()
        with doing(f"evaluating ({name})"):
            yield
        self._evaluation_seconds = time.perf_counter() - started

    def evaluated(self, name: str, figures: Mapping[str, Any]) -> None:
        event("evaluation", name=name, figures=dict(figures))
        texts = [f"held-out loss {loss_text(figures['loss'])}"] if "loss" in figures else []
        if "preferred" in figures:
            texts.append(f"{with_interval(figures['preferred'])} of {figures['preferred']['n']} preferred rightly")
        if "steps" in figures:
            texts.append(f"{with_interval(figures['steps'])} of {figures['steps']['n']} steps judged rightly")
        if "calibration" in figures:
            texts.append(f"calibration error {figures['calibration']['value']:.3f}")
        if "accuracy" in figures:
            texts.append(self._right(figures))
        self._line(f"evaluated ({name}) in {self._evaluation_seconds:.0f} s: {', '.join(texts)}")

    def _right(self, figures: Mapping[str, Any]) -> str:
        right = with_interval(figure_in(figures, "accuracy"))
        sampled = "".join(f", {key} {with_interval(figure)}" for key, figure in figures.items() if "@" in key)
        unjudged = f", {figures['unjudged']} could not be judged" if figures["unjudged"] else ""
        return f"{right} of {figures['n']} right{sampled}{unjudged}"

    def stopped(self, folder: Path, step: int, kept: str) -> None:
        """What is safe and how to go on, whatever ended the run."""
        event("stopped", run=str(folder), step=step, kept=kept)
        print(f"\nstopped after step {step}, {kept}", file=sys.stderr)
        print(f"resume with: {command('train', '--run', folder, '--resume')}", file=sys.stderr)


def of_rollouts(recipe: RLRecipe) -> Progress:
    """The live table of a stage that samples."""
    rollout, update = recipe.rollout, recipe.update
    outputs = rollout.questions_per_step * rollout.group_size
    per_rollout = update.updates_per_rollout * -(-outputs // (update.outputs_per_update or outputs))
    plan = (
        f"{recipe.objective.preset}: {rollout.questions_per_step} questions x {rollout.group_size} outputs = "
        f"{outputs} outputs per step, {per_rollout} optimizer step{'s' if per_rollout > 1 else ' (on policy)'}"
    )
    return Progress(plan=plan, steps=update.steps, columns=shown_of(recipe, OF_ROLLOUTS))


def shown_of(recipe: Recipe, columns: Columns) -> Columns:
    """The columns without `format`, unless the recipe names the reward that says what is well formed."""
    return tuple(column for column in columns if column[1] != "format" or recipe.evaluate.format)


def of_examples(recipe: Recipe, what: str, *, count: int, columns: Columns, tokens_are: str) -> Progress:
    """The live table of a stage that learns from `count` examples. what: the stage and the kind of its examples."""
    assert recipe.examples is not None
    per_step = recipe.examples.per_step
    plan = f"{what}, {per_step} per step, {recipe.update.steps * per_step / count:.1f} epochs in all"
    return Progress(plan=plan, steps=recipe.update.steps, columns=(*columns, *OF_UPDATE), tokens_are=tokens_are)


def loss_text(figure: Mapping[str, float]) -> str:
    """A loss with its interval, in nats."""
    return f"{figure['value']:.4f} ({figure['low']:.4f} to {figure['high']:.4f})"


def _held_up(metrics: Mapping[str, float]) -> str:
    """Which reward function a step waited for, where that was more than a second and a fifth of its time."""
    prefix = "time/reward_wait/"
    waits = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
    label = max(waits, key=lambda name: waits[name], default="")
    slow = bool(waits) and waits[label] > max(1.0, metrics["time/step"] / 5)
    return f"  {waits[label]:.1f} s for reward {label}" if slow else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
