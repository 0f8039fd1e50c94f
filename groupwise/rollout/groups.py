"""From a step's questions to scored groups: G outputs of each from the policy as it is, and their rewards."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from groupwise.activity import advance, doing
from groupwise.config import RewardConfig, RLRecipe
from groupwise.data import Group, Part, Question, Reward, Sample, Sampling
from groupwise.datasets.base import batch as questions_of_step
from groupwise.datasets.base import following
from groupwise.engines.base import Engine, stream
from groupwise.envs.episode import SINGLE_TURN, Environments, environments_of
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.rewards.base import RewardSet
from groupwise.rewards.composition import Running
from groupwise.rewards.pending import Pending, moments_with
from groupwise.rewards.steps import Decode
from groupwise.rewards.verdicts import Verdict
from groupwise.rollout.curriculum import Curriculum
from groupwise.rollout.episodes import play
from groupwise.rollout.played import Figures, Played

ENVIRONMENT = "environment"
"""The part of a reward that says that an environment failed."""


@dataclass(frozen=True)
class Rollout:
    """Scored groups; seconds until the last output was sampled, and from then until the last was rewarded.

    kept: indices of the groups that the update is made of; None: all. drawn: questions taken from the order for it,
    where that is not the same at each step. running: moments of rewards scaled by them, after these groups. spent: what
    the reward functions used, as metrics. measured: metrics of how the questions were chosen. episodes: figures of
    those of several turns.
    """

    groups: list[Group]
    sample_seconds: float
    reward_seconds: float
    kept: tuple[int, ...] | None = None
    drawn: int = 0
    running: Running = field(default_factory=dict)
    spent: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    episodes: tuple[Figures, ...] = ()

    @property
    def kept_groups(self) -> list[Group]:
        return self.groups if self.kept is None else [self.groups[index] for index in self.kept]

    @property
    def taught(self) -> list[Group]:
        """The groups that the update is made of; where none was kept, one whose outputs are all left out."""
        return self.kept_groups or self.groups[:1]

    def left_out(self, *, truncated: bool) -> list[bool]:
        """For each output of `taught` whether the update leaves it out. truncated: those that were cut are left out."""
        nothing = self.kept == ()
        return [
            nothing or (truncated and sample.output.finish == "length")
            for group in self.taught
            for sample in group.samples
        ]


def sample_step(
    recipe: RLRecipe,
    questions: Sequence[Question],
    *,
    tokenizer: ChatTokenizer,
    engine: Engine,
    rewards: RewardSet,
    step: int,
    drawn: int,
    running: Running | None = None,
    curriculum: Curriculum | None = None,
) -> Rollout:
    """The step's questions, each sampled `group_size` times and rewarded; with refill rounds until enough have signal.

    questions: those to train on. drawn: questions taken from their order before this step, where steps draw unevenly.
    running: moments of rewards before this step; None: none yet.
    curriculum: passes over some of them; None: every one is asked.
    """
    config, shuffle = recipe.rollout, recipe.questions.shuffle
    moments = dict(running or {})

    def sample(chosen: Sequence[Question]) -> Rollout:
        rollout = sample_groups(
            tokenizer,
            chosen,
            engine=engine,
            rewards=rewards,
            sampling=config.sampling(),
            group_size=config.group_size,
            seed=recipe.seed,
            step=step,
            environments=environments_of(config),
            running=moments,
        )
        moments.update(rollout.running)
        return rollout

    wanted = config.questions_per_step
    if not config.dynamic_sampling_rounds and curriculum is None:
        return sample(questions_of_step(questions, step, questions_per_step=wanted, seed=recipe.seed, shuffle=shuffle))
    draw = _Drawing(questions, drawn, seed=recipe.seed, shuffle=shuffle, curriculum=curriculum)
    if config.dynamic_sampling_rounds:
        rollout = sample_until_signal(
            draw,
            sample,
            separated=lambda group: separated(group, recipe),
            wanted=wanted,
            rounds=config.dynamic_sampling_rounds,
        )
    else:
        rollout = sample(draw(wanted))
    return replace(rollout, drawn=draw.drawn, measured=draw.metrics())


def sample_groups(
    tokenizer: ChatTokenizer,
    questions: Sequence[Question],
    *,
    engine: Engine,
    rewards: RewardSet,
    sampling: Sampling,
    group_size: int,
    seed: int,
    step: int,
    environments: Environments = SINGLE_TURN,
    running: Running | None = None,
) -> Rollout:
    """For each q ~ D a group o_1 .. o_G ~ pi_old(. | q) with its rewards (Algorithm 1 of DeepSeekMath, lines 6 to 8).

    Each output draws from a random stream named by (seed, step, question, sample): it does not depend on the others.
    environments: what replies to the policy's turns. running: moments of rewards that are scaled by them; these groups'
    values are counted before they are scaled.
    """
    started = time.perf_counter()
    streams = [[stream(seed, step, q.id, i) for i in range(group_size)] for q in questions]
    scored: dict[int, tuple[Played, Pending | None]] = {}

    def finished(number: int, played: Played) -> None:
        """A question's outputs are rewarded while others are still being sampled."""
        sound = played.sound
        asked = [questions[number]] * len(sound)
        pending = rewards.submit(asked, sound, step=step, decode=tokenizer.decode) if sound else None
        scored[number] = played, pending

    try:
        with doing("sampling", sum(map(len, streams)), "outputs"):
            play(
                tokenizer,
                questions,
                streams,
                engine=engine,
                sampling=sampling,
                environments=environments,
                finished=finished,
            )
        sampled = time.perf_counter()
        groups, moments = _rewarded(questions, scored, rewards.configs, running or {})
    except BaseException:
        rewards.halt()  # nobody waits for what they would say
        raise
    return Rollout(
        groups=groups,
        sample_seconds=sampled - started,
        reward_seconds=time.perf_counter() - sampled,
        running=moments,
        spent=rewards.spent() | _held_up([pending for _, pending in scored.values()], sampled),
        episodes=tuple(one for number in range(len(questions)) for one in scored[number][0].figures),
    )


def _rewarded(
    questions: Sequence[Question],
    scored: Mapping[int, tuple[Played, Pending | None]],
    configs: Mapping[str, RewardConfig],
    running: Running,
) -> tuple[list[Group], Running]:
    """The groups with their rewards, once every function has spoken; the moments with their values, in their order."""
    with doing("rewards", len(questions), "questions"):
        said = [_verdicts(scored[number][1]) for number in range(len(questions))]
    for verdicts in said:
        running = moments_with(configs, running, verdicts)
    groups = []
    for number, question in enumerate(questions):
        played, pending = scored[number]
        groups.append(Group(question, _samples(played, pending.rewards(said[number], running) if pending else ())))
    return groups, running


def _verdicts(pending: Pending | None) -> dict[str, list[Verdict]]:
    """What the functions say of a question's outputs, waited for; nothing where there is none to score."""
    found = pending.verdicts() if pending else {}
    advance(1)
    return found


def _held_up(pending: Sequence[Pending | None], sampled: float) -> dict[str, float]:
    """Seconds that each function took beyond the last output's sampling, as metrics."""
    last: dict[str, float] = {}
    for one in pending:
        for label, finished in one.finished.items() if one else ():
            last[label] = max(last.get(label, 0.0), finished - sampled)
    return {f"time/reward_wait/{label}": seconds for label, seconds in last.items()}


def separated(group: Group, recipe: RLRecipe) -> bool:
    """True if the reward that says what is right (`evaluate.correct`) has two different values in the group.

    Not the whole reward: a length or a form that differs among wrong answers is no reason to keep them (DAPO, eq. 11).
    """
    values = {sample.reward.value_of(recipe.correct_label) for sample in group.samples}
    return len(values - {None}) > 1


def sample_until_signal(
    draw: Callable[[int], Sequence[Question]],
    sample: Callable[[Sequence[Question]], Rollout],
    *,
    separated: Callable[[Group], bool],
    wanted: int,
    rounds: int,
) -> Rollout:
    """Dynamic sampling (DAPO, section 3.2): groups all right or all wrong are dropped and others sampled instead.

    draw: gives the next so many questions, fewer when there are no more. sample: their scored groups. separated: True
    for a group to keep. wanted: groups to keep. rounds: after the first; each asks for as many questions as the share
    kept so far calls for. Returns every group that was sampled, with those to keep named: fewer than wanted, or none,
    if the rounds or the questions did not suffice.
    """
    found: list[Rollout] = []
    kept: list[int] = []
    asked = wanted
    for _ in range(1 + rounds):
        questions = draw(asked)
        if not questions:
            break
        found.append(sample(questions))
        groups = [group for rollout in found for group in rollout.groups]
        kept = [index for index, group in enumerate(groups) if separated(group)][:wanted]
        if len(kept) == wanted:
            break
        asked = min(wanted, ceil((wanted - len(kept)) * len(groups) / max(1, len(kept))))
    return Rollout(
        groups=[group for rollout in found for group in rollout.groups],
        sample_seconds=sum(rollout.sample_seconds for rollout in found),
        reward_seconds=sum(rollout.reward_seconds for rollout in found),
        kept=tuple(kept),
        running=found[-1].running if found else {},
        spent={
            name: sum(rollout.spent.get(name, 0.0) for rollout in found)
            for name in dict.fromkeys(name for rollout in found for name in rollout.spent)
        },
        episodes=tuple(one for rollout in found for one in rollout.episodes),
    )


def score(
    rewards: RewardSet,
    questions: Sequence[Question],
    played: Sequence[Played],
    *,
    step: int,
    decode: Decode | None = None,
) -> list[tuple[Sample, ...]]:
    """The samples of each question: its outputs with their rewards, one an episode. decode: as in RewardSet.score."""
    flat = [(q, output) for q, outputs in zip(questions, played, strict=True) for output in outputs.sound]
    values = iter(rewards.score([q for q, _ in flat], [output for _, output in flat], step=step, decode=decode))
    alone = [replace(outputs, further=()) for outputs in played]
    return [_samples(outputs, [next(values) for _ in outputs.sound]) for outputs in alone]


def _samples(played: Played, rewards: Sequence[Reward]) -> tuple[Sample, ...]:
    """Outputs with their rewards; one whose environment failed has none."""
    values = iter(rewards)
    samples = [
        Sample(output, Reward(None, {ENVIRONMENT: Part("failed", None, failure)}) if failure else next(values))
        for output, failure in zip(played.outputs, played.failures, strict=True)
    ]
    # rewards of steps are places in an episode's main output
    further = [Sample(output, replace(samples[place].reward, steps=None)) for place, output in played.further]
    return tuple(samples + further)


class _Drawing:
    """Gives a step its next questions, none twice, and counts how many it took from the order.

    What a curriculum passes over is taken too; once a whole epoch went by, nothing more is passed over."""

    def __init__(
        self, questions: Sequence[Question], before: int, *, seed: int, shuffle: bool, curriculum: Curriculum | None
    ) -> None:
        self._questions, self._before, self._seed, self._shuffle = questions, before, seed, shuffle
        self._curriculum = curriculum
        self._seen, self.drawn, self._passed = set[str](), 0, 0

    def __call__(self, wanted: int) -> list[Question]:
        found = list[Question]()
        while len(found) < wanted and len(self._seen) < len(self._questions):
            missing, place = wanted - len(found), self._before + self.drawn
            for question in following(self._questions, place, missing, seed=self._seed, shuffle=self._shuffle):
                self.drawn += 1
                if question.id in self._seen:
                    continue
                if self._passes_over(question):
                    self._passed += 1
                    continue
                self._seen.add(question.id)
                found.append(question)
        return found

    def metrics(self) -> dict[str, float]:
        """How the step's questions were chosen; {} without a curriculum."""
        if self._curriculum is None:
            return {}
        return {**self._curriculum.metrics(), "curriculum/passed_over": self._passed / max(1, self.drawn)}

    def _passes_over(self, question: Question) -> bool:
        place = self._before + self.drawn - 1
        within = self._curriculum is not None and self.drawn <= len(self._questions)
        return within and self._curriculum is not None and not self._curriculum.asks(question, place)
