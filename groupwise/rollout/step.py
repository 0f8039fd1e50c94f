"""The questions of a step, each sampled G times and rewarded; by dynamic sampling, until enough groups teach."""

from collections.abc import Sequence
from dataclasses import replace

from groupwise.config import RLRecipe
from groupwise.data import Group, Question
from groupwise.datasets.base import batch as questions_of_step
from groupwise.datasets.base import following
from groupwise.engines.base import Engine
from groupwise.envs.episode import environments_of
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.rewards.base import RewardSet
from groupwise.rollout.evaluate import correct_label, part_value
from groupwise.rollout.groups import Rollout, sample_groups, sample_until_signal


def sample_step(
    recipe: RLRecipe,
    questions: Sequence[Question],
    *,
    tokenizer: ChatTokenizer,
    engine: Engine,
    rewards: RewardSet,
    step: int,
    drawn: int,
) -> Rollout:
    """The step's questions, each sampled `group_size` times and rewarded; with refill rounds until enough have signal.

    questions: those to train on. drawn: questions taken from their order before this step, where steps draw unevenly.
    """
    config, shuffle = recipe.rollout, recipe.questions.shuffle

    def sample(chosen: Sequence[Question]) -> Rollout:
        return sample_groups(
            tokenizer,
            chosen,
            engine=engine,
            rewards=rewards,
            sampling=config.sampling(),
            group_size=config.group_size,
            seed=recipe.seed,
            step=step,
            environments=environments_of(config),
        )

    wanted = config.questions_per_step
    if not config.dynamic_sampling_rounds:
        return sample(questions_of_step(questions, step, questions_per_step=wanted, seed=recipe.seed, shuffle=shuffle))
    draw = _Drawing(questions, drawn, seed=recipe.seed, shuffle=shuffle)
    rollout = sample_until_signal(
        draw,
        sample,
        separated=lambda group: separated(group, recipe),
        wanted=wanted,
        rounds=config.dynamic_sampling_rounds,
    )
    return replace(rollout, drawn=draw.drawn)


def separated(group: Group, recipe: RLRecipe) -> bool:
    """True if the reward that says what is right (`evaluate.correct`) has two different values in the group.

    Not the whole reward: a length or a form that differs among wrong answers is no reason to keep them (DAPO, eq. 11).
    """
    values = {part_value(sample.reward, correct_label(recipe)) for sample in group.samples}
    return len(values - {None}) > 1


class _Drawing:
    """Gives a step its next questions, none twice, and counts how many it took from the order."""

    def __init__(self, questions: Sequence[Question], before: int, *, seed: int, shuffle: bool) -> None:
        self._questions, self._before, self._seed, self._shuffle = questions, before, seed, shuffle
        self._seen, self.drawn = set[str](), 0

    def __call__(self, wanted: int) -> list[Question]:
        found = list[Question]()
        while len(found) < wanted and len(self._seen) < len(self._questions):
            missing, place = wanted - len(found), self._before + self.drawn
            for question in following(self._questions, place, missing, seed=self._seed, shuffle=self._shuffle):
                self.drawn += 1
                if question.id not in self._seen:
                    self._seen.add(question.id)
                    found.append(question)
        return found
