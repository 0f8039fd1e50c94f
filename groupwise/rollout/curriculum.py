"""Which questions of the order a step passes over: those never or always solved, and some of a source. Samples nothing.

The order stays that of groupwise.datasets.base.following. A question that comes up in it is asked with probability
p = weight(source) * w(s), its running solve rate s being
    s <- m s + (1 - m) x    after each group; x: the share of its outputs that are right; the first time s = x
    w(s) = f + (1 - f) min(1, s / low, (1 - s) / (1 - high))
so 1 within the band [low, high] and for a question that was not asked yet, and the floor f for one that no output or
every output solved: such a question is tried again after 1 / f epochs on average. The number that decides is a hash of
the seed and the place in the order, so that a run is a function of its seed and of what its record holds.
"""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from groupwise.config import CurriculumConfig, RLRecipe
from groupwise.data import Group, Question
from groupwise.errors import ConfigError
from groupwise.record.read import open_record
from groupwise.registry import nearest

RIGHT = 1.0
"""Least value of the reward `evaluate.correct` that counts as solved, as for the metric `accuracy`."""


class Curriculum:
    """The running solve rates of a run's questions, and what follows for a question that comes up in the order."""

    def __init__(self, config: CurriculumConfig, questions: Sequence[Question], *, label: str, seed: int) -> None:
        """label: the reward that says what is right. Raises ConfigError for a source that no question has."""
        self._config, self._label, self._seed, self._count = config, label, seed, len(questions)
        self.rates: dict[str, float] = {}
        """s of each question that was asked, by its id."""
        if config.weights:
            known = {str(question.meta["part"]) for question in questions if "part" in question.meta}
            for name in config.weights:
                if name not in known:
                    hint = nearest(name, known) if known else "sources are the parts of a mixture, or a column `part`"
                    raise ConfigError(f"curriculum.weights.{name}: no question has this part", hint=hint)
        self._most = max(config.weights.values(), default=1.0)

    def weight(self, question: Question) -> float:
        """p: how likely the question is asked when it comes up, 0 to 1."""
        weights = self._config.weights
        own = weights.get(str(question.meta.get("part")), 1.0) if weights else 1.0
        return min(1.0, own / max(1.0, self._most)) * self._of_rate(self.rates.get(question.id))

    def asks(self, question: Question, place: int) -> bool:
        """Whether the question that comes up at this place of the order is asked. place: from 0, over all epochs."""
        digest = hashlib.blake2b(f"curriculum {self._seed} {place}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self.weight(question) * 2**64

    def learn(self, groups: Iterable[Group]) -> None:
        """Moves the rates on by a step's groups, in their order."""
        for group in groups:
            values = [sample.reward.value_of(self._label) for sample in group.samples]
            judged = [value for value in values if value is not None]
            if judged:
                self.move(group.question.id, sum(value >= RIGHT for value in judged), len(judged))

    def move(self, name: str, right: int, judged: int) -> None:
        """Moves a question's rate on by one group: so many right of so many judged."""
        share, before = right / judged, self.rates.get(name)
        memory = self._config.memory
        self.rates[name] = share if before is None else memory * before + (1 - memory) * share

    def metrics(self) -> dict[str, float]:
        """What the rates say before a step; {} before the first."""
        if not self.rates:
            return {}
        rates = list(self.rates.values())
        low, high = self._config.band or (0.0, 1.0)
        weights = [self._of_rate(rate) for rate in rates]
        unknown = max(0, self._count - len(rates))
        total, squares = sum(weights) + unknown, sum(weight * weight for weight in weights) + unknown
        return {
            "curriculum/asked": len(rates) / self._count,
            "curriculum/in_band": sum(low <= rate <= high for rate in rates) / len(rates),
            "curriculum/solve_rate": sum(rates) / len(rates),
            "curriculum/effective": total * total / (squares * self._count),
        }

    def _of_rate(self, rate: float | None) -> float:
        """w(s); 1 for a question that was not asked yet, and where no band is set."""
        if rate is None or self._config.band is None:
            return 1.0
        (low, high), floor = self._config.band, self._config.floor
        below = rate / low if low > 0 else 1.0
        above = (1 - rate) / (1 - high) if high < 1 else 1.0
        return floor + (1 - floor) * min(1.0, below, above)


def curriculum_of(recipe: RLRecipe, questions: Sequence[Question], folder: Path, *, step: int) -> Curriculum | None:
    """The curriculum of a run before the step of that number, its rates as its record has them; None: it has none."""
    if recipe.curriculum is None:
        return None
    found = Curriculum(recipe.curriculum, questions, label=recipe.correct_label, seed=recipe.seed)
    if step:
        with closing(open_record(folder)) as record:
            for name, right, judged in record.solved(recipe.correct_label, RIGHT, before=step):
                found.move(name, right, judged)
    return found
