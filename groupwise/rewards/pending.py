"""Rewards that functions are working on: their verdicts as they come, gates among them, and the sum at the end."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from groupwise.data import Output, Part, Question, Reward
from groupwise.errors import RewardError
from groupwise.rewards.composition import Moments, Running, behind_gate, scaled, weight_at
from groupwise.rewards.steps import Decode, on_tokens, weighted
from groupwise.rewards.verdicts import LARGEST, Verdict

if TYPE_CHECKING:
    from groupwise.config.sections import GateConfig, RewardConfig

Found = Mapping[int, Verdict]
"""A function's verdicts by the places of the samples that it scores; it abstains from the others."""
Ask = Callable[[Sequence[int]], Sequence["Future[list[Verdict]]"]]
"""Asks a function about the samples at some places; the futures' verdicts in a row are theirs."""
NOTHING = Verdict(Part("abstained"))


def asked(places: Sequence[int], ask: Ask) -> "Future[Found]":
    """What a function says of the samples at these places, once it has spoken of all."""
    result: Future[Found] = Future()
    _fill(result, places, ask(places), {})
    return result


def asked_behind(gate: "GateConfig", other: "Future[Found]", places: Sequence[int], ask: Ask) -> "Future[Found]":
    """As `asked`, for the samples alone where the other function's value opens the gate, once that is known."""
    result: Future[Found] = Future()

    def known(done: "Future[Found]") -> None:
        try:
            values = done.result()
            closed = {place: behind_gate(gate, values.get(place, NOTHING).part) for place in places}
            shut = {place: Verdict(part) for place, part in closed.items() if part is not None}
            rest = [place for place in places if place not in shut]
            _fill(result, rest, ask(rest), shut)
        except BaseException as error:  # on a pool's thread, where nobody else would hear of it
            result.set_exception(error)

    other.add_done_callback(known)
    return result


def _fill(
    result: "Future[Found]", places: Sequence[int], pieces: Sequence["Future[list[Verdict]]"], found: Found
) -> None:
    """Gives the result once every piece is done: the pieces' verdicts at these places beside what is found."""
    left, lock = [len(pieces)], threading.Lock()

    def finish() -> None:
        try:
            verdicts = [verdict for piece in pieces for verdict in piece.result()]
            result.set_result({**found, **dict(zip(places, verdicts, strict=True))})
        except BaseException as error:
            result.set_exception(RewardError("stopped while it scored") if _is_cancelled(pieces) else error)

    def one_more(_: "Future[list[Verdict]]") -> None:
        with lock:
            left[0] -= 1
            last = left[0] == 0
        if last:
            finish()

    if not pieces:
        finish()
    for piece in pieces:
        piece.add_done_callback(one_more)


def _is_cancelled(pieces: Sequence["Future[list[Verdict]]"]) -> bool:
    return any(piece.cancelled() for piece in pieces)


@dataclass(frozen=True)
class Pending:
    """Rewards to come for some outputs: `RewardSet.submit`. step: optimizer steps so far. finished: by label, when a
    function had spoken of all, on time.perf_counter; filled as they come."""

    configs: Mapping[str, "RewardConfig"]
    questions: Sequence[Question]
    outputs: Sequence[Output]
    step: int
    decode: Decode | None
    asked: Mapping[str, "Future[Found]"]
    finished: dict[str, float]

    def watch(self) -> "Pending":
        """Notes from here on when each function has spoken."""
        for label, future in self.asked.items():
            future.add_done_callback(partial(self._note, label))
        return self

    def _note(self, label: str, _: "Future[Found]") -> None:
        self.finished[label] = time.perf_counter()

    def verdicts(self) -> dict[str, list[Verdict]]:
        """Every function's verdict of each output, waited for. Raises RewardError if it was halted."""
        found = {label: future.result() for label, future in self.asked.items()}
        return {label: [some.get(i, NOTHING) for i in range(len(self.outputs))] for label, some in found.items()}

    def result(self, running: Running | None = None) -> list[Reward]:
        """The reward of each output, in order. running: moments of the functions that are scaled by theirs; None: of
        these outputs alone."""
        verdicts = self.verdicts()
        return self.rewards(verdicts, moments_with(self.configs, {}, verdicts) if running is None else running)

    def rewards(self, verdicts: Mapping[str, Sequence[Verdict]], running: Running) -> list[Reward]:
        """The rewards that these verdicts make: each function's value on its scale, times its weight of the step."""
        ids = [question.id for question in self.questions]
        scales = {
            label: scaled(self.configs[label], [verdict.part.value for verdict in some], ids, running)
            for label, some in verdicts.items()
        }
        weights = {label: weight_at(config, self.step) for label, config in self.configs.items()}
        return [
            _reward(
                {label: some[i] for label, some in verdicts.items()},
                {label: values[i] for label, values in scales.items()},
                weights,
                question=question,
                output=output,
                decode=self.decode,
            )
            for i, (question, output) in enumerate(zip(self.questions, self.outputs, strict=True))
        ]


def moments_with(
    configs: Mapping[str, "RewardConfig"], before: Running, verdicts: Mapping[str, Sequence[Verdict]]
) -> Running:
    """The moments of the functions that need them, with the values that these verdicts have."""
    after = dict(before)
    for label in (label for label, config in configs.items() if config.normalise == "running"):
        values = [verdict.part.value for verdict in verdicts.get(label, ()) if verdict.part.value is not None]
        after[label] = after.get(label, Moments()).with_values(values)
    return after


def _located(part: Part, question: Question, text: str) -> Part:
    start = text if len(text) <= 80 else text[:79] + "…"
    return Part("failed", None, f"question {question.id!r}, output {start!r}\n{part.detail}")


def _logged(value: float | str) -> Part:
    """What a function measured beside its score; a text has no value, and is kept as the part's detail."""
    return Part("abstained", None, value) if isinstance(value, str) else Part("value", value)


def _reward(
    verdicts: Mapping[str, Verdict],
    scales: Mapping[str, float | None],
    weights: Mapping[str, float],
    *,
    question: Question,
    output: Output,
    decode: Decode | None,
) -> Reward:
    """What the functions said of one output as its reward, weighted; see groupwise.data.Reward."""
    parts: dict[str, Part] = {}
    for label, verdict in verdicts.items():
        failed = verdict.part.state == "failed"
        parts[label] = _located(verdict.part, question, output.text) if failed else verdict.part
        parts |= {f"{label}/{key}": _logged(value) for key, value in verdict.extras.items()}
    if any(verdict.part.state == "failed" for verdict in verdicts.values()):
        return Reward(None, parts)
    steps = weighted((weights[label], verdict.steps) for label, verdict in verdicts.items())
    counted = {label: weights[label] * value for label, value in scales.items() if value is not None}
    values = list(counted.values()) or [reward for _, reward in steps or ()]
    if not all(abs(value) <= LARGEST for value in (sum(values), *(reward for _, reward in steps or ()))):
        label = max(verdicts, key=lambda label: abs(counted.get(label, 0.0)))
        why = f"times its weight of {weights[label]:g} it makes a reward of {sum(values):g}, too large"
        parts[label] = _located(Part("failed", None, f"OverflowError: {why}"), question, output.text)
        return Reward(None, parts)
    begun = len(question.prefill)  # a step that ends in what was begun for the policy has no token of its own
    own = None if steps is None else tuple((end - begun, reward) for end, reward in steps if end > begun)
    placed = None if own is None or decode is None else on_tokens(own, output, decode)
    return Reward(sum(values) if values else None, parts, placed)
