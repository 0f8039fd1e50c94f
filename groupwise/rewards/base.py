"""Rewards of outputs: a weighted sum of reward functions, each in a killable process. A failure is never a 0."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from groupwise.data import Output, Question, Reward
from groupwise.errors import ConfigError, DataError, RewardError, RewardLimitError
from groupwise.registry import nearest
from groupwise.rewards.composition import weight_at
from groupwise.rewards.forms import Scored, columns_of
from groupwise.rewards.judging.cache import told
from groupwise.rewards.opening import as_asked
from groupwise.rewards.pending import Found, Pending, asked, asked_behind
from groupwise.rewards.pool import Pool
from groupwise.rewards.seen import without_bytes
from groupwise.rewards.steps import Decode
from groupwise.rewards.verdicts import Verdict

if TYPE_CHECKING:
    from groupwise.config import RewardConfig


class RewardSet:
    """The reward functions of a run, imported and running, until `close` or the end of a `with`.

    folder: the run's, in which functions may keep what they paid for; None: there is none.
    Raises RewardError if one cannot be found or imported, or has a form that is not known."""

    def __init__(self, configs: "Sequence[RewardConfig]", *, folder: Path | None = None) -> None:
        labels = [config.label for config in configs]
        if len(set(labels)) < len(labels):
            raise RewardError(f"reward names {', '.join(labels)} are not distinct", hint="give each its own `name`")
        loose = next((c for c in configs if c.gate is not None and c.gate.reward not in labels), None)
        if loose is not None and loose.gate is not None:
            raise RewardError(
                f"reward {loose.label!r}: its gate reads {loose.gate.reward!r}, which is not among the rewards",
                hint=nearest(loose.gate.reward, labels),
            )
        self.configs: Mapping[str, RewardConfig] = {config.label: config for config in configs}
        self._pools = {config.label: Pool(config, folder=folder) for config in configs}
        self._halts, self._folder = 0, folder
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
    ) -> Pending:
        """Asks every function, side by side, for the reward of each output to its question.

        questions[i] belongs to outputs[i], any number of groups.

        Functions see the whole answer: the beginning that the question gives, if it does, and what was sampled.
        step: optimizer steps so far, for functions that want to know. decode: of the tokenizer that made the texts from
        the tokens; without it rewards of steps cannot be put on tokens, and Reward.steps is None."""
        assert len(questions) == len(outputs)
        asked = as_asked(questions, outputs)
        samples = [
            (q, q.prefill + output.text, output.tokens.tolist()) for q, output in zip(asked, outputs, strict=True)
        ]
        futures: dict[str, Future[Found]] = {}
        for label in self._gates_first():
            futures[label] = self._asked(label, samples, step, futures)
        return Pending(
            self.configs, questions, outputs, step, decode, {x: futures[x] for x in self.configs}, {}
        ).watch()

    def _gates_first(self) -> list[str]:
        """The labels, each behind the one that its gate reads."""
        found: list[str] = []
        while len(found) < len(self.configs):
            found += [
                label
                for label, config in self.configs.items()
                if label not in found and (config.gate is None or config.gate.reward in found)
            ]
        return found

    def _asked(
        self, label: str, samples: Sequence[Scored], step: int, known: "Mapping[str, Future[Found]]"
    ) -> "Future[Found]":
        """A function is asked about its own questions alone, and behind a gate about what passes it."""
        config, pool, halts = self.configs[label], self._pools[label], self._halts
        own = [i for i, (question, _, _) in enumerate(samples) if scores(config, question)]

        def ask(places: Sequence[int]) -> "Sequence[Future[list[Verdict]]]":
            if halts != self._halts:  # a gate that opens after the end must not start a process again
                raise RewardError(f"reward {label!r}: stopped while it scored")
            return pool.submit([samples[i] for i in places], step=step)

        return (
            asked(own, ask) if config.gate is None else asked_behind(config.gate, known[config.gate.reward], own, ask)
        )

    def weights(self, step: int) -> tuple[float, ...]:
        """Each function's weight after so many optimizer steps, in the recipe's order."""
        return tuple(weight_at(config, step) for config in self.configs.values())

    def spent(self) -> dict[str, float]:
        """What the functions have used since this was last asked, as metrics: time, and what they count themselves."""
        return {
            f"{name}/{label}": amount for label, pool in self._pools.items() for name, amount in pool.spent().items()
        }

    def paid(self) -> list[str]:
        """A line for each judge: what it was asked since `spent` was last asked, and where its replies are kept."""
        files = {label: config.params.get("cache") for label, config in self.configs.items()}
        return told(self.spent(), files, self._folder) if self._folder else []

    def failed_on(self, label: str, questions: Sequence[Question]) -> Iterator[tuple[Question, str]]:
        """Questions on which a function fails if nothing was said, with its error's last line."""
        asked = self._pools[label].submit([(without_bytes(question), "", ()) for question in questions], step=0)
        verdicts = [verdict for part in asked for verdict in part.result()]
        for question, verdict in zip(questions, verdicts, strict=True):
            if verdict.part.state == "failed":
                yield question, verdict.part.detail.rpartition("\n")[2]

    def require_columns(self, questions: Iterable[Question]) -> None:
        """Raises DataError if a function wants a column that none of the questions which it scores has."""
        missing = {label: set(pool.columns) - {"answer"} for label, pool in self._pools.items()}
        there: dict[str, set[str]] = {label: {"answer"} for label in missing}
        for question in questions if any(missing.values()) else ():
            for label in (label for label in missing if scores(self.configs[label], question)):
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
        self._halts += 1
        for pool in self._pools.values():
            pool.halt()

    def close(self) -> None:
        """Ends the processes; `score` may still be called, and starts them again."""
        self._halts += 1
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


def scores(config: "RewardConfig", question: Question) -> bool:
    """Whether a function scores this question, by its part of a mixture and its source; none named: any."""
    return (not config.parts or question.meta.get("part") in config.parts) and (
        not config.sources or question.meta.get("data_source") in config.sources
    )


def first_scored(config: "RewardConfig", questions: Sequence[Question], *, where: str) -> Question:
    """The first question that a function scores, one with an answer if there is one.

    where: the function's place in the recipe. Raises ConfigError if no question has one of its parts or sources, or
    none has both."""
    for key, wanted, column, those in (
        ("parts", config.parts, "part", "parts are those of the environment mixture, or a column `part`"),
        ("sources", config.sources, "data_source", "sources are the values of the column data_source"),
    ):
        known = {str(question.meta[column]) for question in questions if column in question.meta} if wanted else set()
        wrong = next((name for name in wanted if name not in known), None)
        if wrong is not None:
            hint = nearest(wrong, known) if known else those
            raise ConfigError(f"{where}.{key} = {list(wanted)}: no question has the {key[:-1]} {wrong!r}", hint=hint)
    own = [question for question in questions if scores(config, question)]
    if not own:
        raise ConfigError(
            f"{where}: no question is of its parts {list(config.parts)} and its sources {list(config.sources)} at once",
            hint="drop one of the two keys",
        )
    return next((question for question in own if question.answer is not None), own[0])


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
        label: sum(label in reward.parts and reward.parts[label].state == "failed" for reward in rewards)
        for label in first_failure(rewards)
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
