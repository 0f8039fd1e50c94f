"""Rewards of outputs: a weighted sum of reward functions, each in a killable process. A failure is never a 0."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from groupwise.data import Output, Part, Question, Reward
from groupwise.errors import ConfigError, DataError, RewardError, RewardLimitError
from groupwise.registry import nearest
from groupwise.rewards.adapters import Scored, Verdict
from groupwise.rewards.forms import columns_of
from groupwise.rewards.opening import as_asked
from groupwise.rewards.pool import Pool
from groupwise.rewards.steps import Decode, on_tokens, weighted
from groupwise.rewards.verdicts import LARGEST

if TYPE_CHECKING:
    from groupwise.config import RewardConfig


class RewardSet:
    """The reward functions of a run, imported and running, until `close` or the end of a `with`.

    Raises RewardError if one cannot be found or imported, or has a form that is not known."""

    def __init__(self, configs: "Sequence[RewardConfig]") -> None:
        labels = [config.label for config in configs]
        if len(set(labels)) < len(labels):
            raise RewardError(f"reward names {', '.join(labels)} are not distinct", hint="give each its own `name`")
        self._weights = {config.label: config.weight for config in configs}
        self._parts = {config.label: config.parts for config in configs}
        self._pools = {config.label: Pool(config) for config in configs}
        try:
            for pool in self._pools.values():  # all import at the same time
                pool.start()
            for pool in self._pools.values():
                pool.ready()
        except BaseException:
            self.close()
            raise

    def score(
        self,
        questions: Sequence[Question],
        outputs: Sequence[Output],
        *,
        step: int = 0,
        decode: Decode | None = None,
    ) -> list[Reward]:
        """The rewards of `submit`, waited for."""
        return self.submit(questions, outputs, step=step, decode=decode).result()

    def submit(
        self,
        questions: Sequence[Question],
        outputs: Sequence[Output],
        *,
        step: int = 0,
        decode: Decode | None = None,
    ) -> "Pending":
        """Asks every function, side by side, for the reward of each output to its question.

        questions[i] belongs to outputs[i], any number of groups.

        Functions see the whole answer: the beginning that the question gives, if it does, and what was sampled.
        step: optimizer steps so far, for functions that want to know. decode: of the tokenizer that made the texts from
        the tokens; without it rewards of steps cannot be put on tokens, and Reward.steps is None."""
        assert len(questions) == len(outputs)
        asked = as_asked(questions, outputs)
        samples = [(q, q.prefill + output.text, output.tokens) for q, output in zip(asked, outputs, strict=True)]
        asking = {label: self._ask(label, samples, step) for label in self._pools}
        return Pending(self._weights, questions, outputs, decode, asking)

    def _ask(self, label: str, samples: Sequence[Scored], step: int) -> "_Asked":
        """A function is asked about its own parts alone and abstains from the others."""
        own = [i for i, (question, _, _) in enumerate(samples) if scores(self._parts[label], question)]
        return _Asked(own, self._pools[label].submit([samples[i] for i in own], step=step))

    def failed_on(self, label: str, questions: Sequence[Question]) -> Iterator[tuple[Question, str]]:
        """Questions on which a function fails if nothing was said, with its error's last line."""
        nothing = np.zeros(0, np.int32)
        asked = self._pools[label].submit([(question, "", nothing) for question in questions], step=0)
        verdicts = [verdict for part in asked for verdict in part.result()]
        for question, verdict in zip(questions, verdicts, strict=True):
            if verdict.part.state == "failed":
                yield question, verdict.part.detail.rpartition("\n")[2]

    def require_columns(self, questions: Iterable[Question]) -> None:
        """Raises DataError if a function wants a column that none of the questions which it scores has."""
        missing = {label: set(pool.columns) - {"answer"} for label, pool in self._pools.items()}
        there: dict[str, set[str]] = {label: {"answer"} for label in missing}
        for question in questions if any(missing.values()) else ():
            for label in (label for label in missing if scores(self._parts[label], question)):
                there[label].update(columns_of(question))
                missing[label] -= there[label]
            if not any(missing.values()):
                break
        for label, names in missing.items():
            if names:
                name = min(names)
                raise DataError(
                    f"reward {label!r} wants column {name!r}, which no question has; they have: "
                    f"{', '.join(sorted(there[label]))}",
                    hint=f"{nearest(name, there[label])}; or set params.{name} in the recipe",
                )

    def halt(self) -> None:
        """For any thread: what is under way gives up, and its `result` raises RewardError; then call `close`."""
        for pool in self._pools.values():
            pool.halt()

    def close(self) -> None:
        """Ends the processes; `score` may still be called, and starts them again."""
        for pool in self._pools.values():
            pool.halt()  # all at once: each takes a moment to end
        for pool in self._pools.values():
            pool.close()

    def __enter__(self) -> "RewardSet":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class _Asked:
    """Places of the samples that a function was asked about, and its answers to come, in the same order."""

    places: Sequence[int]
    verdicts: Sequence[Future[list[Verdict]]]

    def result(self, count: int) -> list[Verdict]:
        """A verdict for each of so many samples."""
        found = dict(zip(self.places, (verdict for part in self.verdicts for verdict in part.result()), strict=True))
        return [found.get(i, Verdict(Part("abstained"))) for i in range(count)]


@dataclass(frozen=True)
class Pending:
    """Rewards that functions are working on: `RewardSet.submit`."""

    weights: Mapping[str, float]
    questions: Sequence[Question]
    outputs: Sequence[Output]
    decode: Decode | None
    asked: Mapping[str, _Asked]

    def result(self) -> list[Reward]:
        """The reward of each output, in order, once every function has spoken. Raises RewardError if it was halted."""
        verdicts = {label: asked.result(len(self.outputs)) for label, asked in self.asked.items()}
        return [
            _reward(
                {label: found[i] for label, found in verdicts.items()},
                self.weights,
                question=question,
                output=output,
                decode=self.decode,
            )
            for i, (question, output) in enumerate(zip(self.questions, self.outputs, strict=True))
        ]


def scores(parts: Sequence[str], question: Question) -> bool:
    """Whether a function for these parts (none named: for all) scores this question; see groupwise.datasets.mixture."""
    return not parts or question.meta.get("part") in parts


def first_scored(parts: Sequence[str], questions: Sequence[Question], *, where: str) -> Question:
    """The first question that a function for these parts scores, one with an answer if there is one.

    where: the function's place in the recipe. Raises ConfigError if no question has one of the parts."""
    known = {str(question.meta["part"]) for question in questions if "part" in question.meta} if parts else set()
    wrong = next((part for part in parts if part not in known), None)
    if wrong is not None:
        hint = nearest(wrong, known) if known else "parts are those of the environment mixture, or a column `part`"
        raise ConfigError(f"{where}.parts = {list(parts)}: no question has the part {wrong!r}", hint=hint)
    own = (question for question in questions if scores(parts, question))
    return next((question for question in own if question.answer is not None), None) or next(
        question for question in questions if scores(parts, question)
    )


def first_failure(rewards: Sequence[Reward]) -> dict[str, str]:
    """For each reward function that failed, the detail of its first failure: question, output, traceback."""
    first: dict[str, str] = {}
    for reward in rewards:
        for label, part in reward.parts.items():
            if part.state == "failed":
                first.setdefault(label, part.detail)
    return first


def check_failures(rewards: Sequence[Reward], limit: float) -> None:
    """Raises RewardLimitError if more than this share (0 to 1) of the outputs have a failed reward."""
    failed = sum(reward.failed for reward in rewards)
    if failed <= limit * len(rewards):
        return
    counts = {
        label: sum(reward.parts[label].state == "failed" for reward in rewards) for label in first_failure(rewards)
    }
    worst = max(counts, key=lambda label: counts[label])
    where, _, trace = first_failure(rewards)[worst].partition("\n")
    others = ", ".join(f"{label!r} on {count}" for label, count in counts.items() if label != worst)
    raise RewardLimitError(
        f"reward {worst!r} failed on {counts[worst]} of {len(rewards)} outputs"
        + (f" (and {others})" if others else "")
        + f", more than the limit of {limit:.3g}: {trace.rpartition(chr(10))[2]}; first at {where}",
        hint="fix the function, or raise run.failed_rewards_limit; a failed reward is not counted as 0",
    )


def _located(part: Part, question: Question, text: str) -> Part:
    start = text if len(text) <= 80 else text[:79] + "…"
    return Part("failed", None, f"question {question.id!r}, output {start!r}\n{part.detail}")


def _logged(value: float | str) -> Part:
    """What a function measured beside its score; a text has no value, and is kept as the part's detail."""
    return Part("abstained", None, value) if isinstance(value, str) else Part("value", value)


def _reward(
    verdicts: Mapping[str, Verdict],
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
    values = [
        weights[label] * scored_part.part.value
        for label, scored_part in verdicts.items()
        if scored_part.part.value is not None
    ]
    values = values or [reward for _, reward in steps or ()]
    if not all(abs(value) <= LARGEST for value in (sum(values), *(reward for _, reward in steps or ()))):
        label = max(verdicts, key=lambda label: abs(weights[label] * (verdicts[label].part.value or 0.0)))
        why = f"times its weight of {weights[label]:g} it makes a reward of {sum(values):g}, too large"
        parts[label] = _located(Part("failed", None, f"OverflowError: {why}"), question, output.text)
        return Reward(None, parts)
    begun = len(question.prefill)  # a step that ends in what was begun for the policy has no token of its own
    own = None if steps is None else tuple((end - begun, reward) for end, reward in steps if end > begun)
    placed = None if own is None or decode is None else on_tokens(own, output, decode)
    return Reward(sum(values) if values else None, parts, placed)
