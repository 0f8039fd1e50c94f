"""From questions to scored groups: sample G outputs of each from the policy as it is, and reward them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from groupwise.activity import advance, doing
from groupwise.data import Group, Part, Question, Reward, Sample, Sampling
from groupwise.engines.base import Engine, stream
from groupwise.envs.episode import SINGLE_TURN, Environments
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.rewards.base import Pending, RewardSet
from groupwise.rewards.steps import Decode
from groupwise.rollout.episodes import Played, play

ENVIRONMENT = "environment"
"""The part of a reward that says that an environment failed."""


@dataclass(frozen=True)
class Rollout:
    """Scored groups; seconds until the last output was sampled, and from then until the last was rewarded.

    kept: indices of the groups that the update is made of; None: all. drawn: questions taken from the order for it,
    where that is not the same at each step.
    """

    groups: list[Group]
    sample_seconds: float
    reward_seconds: float
    kept: tuple[int, ...] | None = None
    drawn: int = 0

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
) -> Rollout:
    """For each q ~ D a group o_1 .. o_G ~ pi_old(. | q) with its rewards (Algorithm 1 of DeepSeekMath, lines 6 to 8).

    Each output draws from a random stream named by (seed, step, question, sample): it does not depend on the others.
    environments: what replies to the policy's turns.
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
        groups = []
        with doing("rewards", len(questions), "questions"):
            for number, question in enumerate(questions):
                played, pending = scored[number]
                groups.append(Group(question, _samples(played, pending.result() if pending else ())))
                advance(1)
    except BaseException:
        rewards.halt()  # nobody waits for what they would say
        raise
    return Rollout(
        groups=groups,
        sample_seconds=sampled - started,
        reward_seconds=time.perf_counter() - sampled,
    )


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
    )


def score(
    rewards: RewardSet,
    questions: Sequence[Question],
    played: Sequence[Played],
    *,
    step: int,
    decode: Decode | None = None,
) -> list[tuple[Sample, ...]]:
    """The samples of each question: its outputs with their rewards. decode: puts the rewards of steps on tokens."""
    flat = [(q, output) for q, outputs in zip(questions, played, strict=True) for output in outputs.sound]
    values = iter(rewards.score([q for q, _ in flat], [output for _, output in flat], step=step, decode=decode))
    return [_samples(outputs, [next(values) for _ in outputs.sound]) for outputs in played]


def _samples(played: Played, rewards: Sequence[Reward]) -> tuple[Sample, ...]:
    """Outputs with their rewards; one whose environment failed has none."""
    values = iter(rewards)
    return tuple(
        Sample(output, Reward(None, {ENVIRONMENT: Part("failed", None, failure)}) if failure else next(values))
        for output, failure in zip(played.outputs, played.failures, strict=True)
    )
