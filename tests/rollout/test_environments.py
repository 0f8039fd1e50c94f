"""Environments beside the engine: threads, time limits, what comes of an episode, and that each is closed once."""

import threading
import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from groupwise.config import RewardConfig, SamplingConfig
from groupwise.data import Message, Question, Sampling
from groupwise.engines.base import stream
from groupwise.engines.local import LocalEngine
from groupwise.envs.episode import Environments, environments_of
from groupwise.errors import ConfigError
from groupwise.rewards.base import RewardSet
from groupwise.rollout.episodes import play
from groupwise.rollout.groups import sample_groups
from groupwise.rollout.side_by_side import SideBySide
from groupwise.run.open import _check_environment_reward
from tests.model import build
from tests.project.sources import ROOT

OWN = ROOT / "tests" / "rollout" / "test_environments.py"
QUESTIONS = [Question(f"q{n}", (Message("user", f"{n}+{n}=?"),), answer=str(2 * n)) for n in range(3)]
SAMPLING = Sampling(max_new_tokens=6)
closed: Counter[str] = Counter()


class Scored:
    """Replies once; what it is told to do in each call, by name: fail, hang or exit."""

    def __init__(self, *, reward=1.5, **deeds):
        self._deeds, self._reward, self._turns = deeds, reward, 0

    def _do(self, call):
        deed = self._deeds.get(call)
        if deed == "fail":
            raise LookupError(f"no {call}")
        if deed == "exit":
            raise SystemExit(3)
        if deed == "hang":
            threading.Event().wait(2)

    def reset(self, question):
        self._question = question
        self._do("reset")
        return question.messages

    def reply(self, messages):
        self._do("reply")
        self._turns += 1
        return None if self._turns == 2 else [{"role": "user", "content": "+"}]

    def outcome(self):
        self._do("outcome")
        return {"reward": self._reward, "turns": self._turns, "words": ["a"], "steps": 7}

    def close(self):
        closed[self._question.id] += 1
        self._do("close")


def reads_environments(prompts, completions, environments, **columns):
    return [environment.turns + len(environment.words) for environment in environments]


@pytest.fixture(scope="module")
def policy(tmp_path_factory, tiny_folder):
    return build.policy_of(build.SHARING["llama"], tmp_path_factory.mktemp("llama"), tiny_folder)


def played(policy, *, seconds=60.0, finished=lambda number, played: None, questions=QUESTIONS, make=Scored, **deeds):
    closed.clear()
    return play(
        policy.tokenizer,
        questions,
        [[stream(0, 0, q.id, i) for i in range(2)] for q in questions],
        engine=LocalEngine(policy),
        sampling=SAMPLING,
        environments=Environments(lambda: make(**deeds), several=True, seconds=seconds, rewards=True),
        finished=finished,
    )


def test_an_episode_has_its_outcome_and_is_closed_once(policy):
    found = played(policy)
    outputs = [output for group in found for output in group.outputs]
    assert {output.outcome["reward"] for output in outputs} == {1.5}
    assert {output.outcome["turns"] for output in outputs} <= {1, 2}
    assert closed == {"q0": 2, "q1": 2, "q2": 2}


@pytest.mark.parametrize(
    ("call", "deed", "why"),
    [
        *((call, "fail", f"LookupError: no {call}") for call in ("reset", "reply", "outcome", "close")),
        ("reply", "exit", "SystemExit: 3"),
        ("reply", "hang", "no answer within 0.2 s"),
    ],
)
def test_whatever_an_environment_does_ends_its_episode_alone(policy, call, deed, why):
    found = played(policy, seconds=0.2 if deed == "hang" else 60.0, questions=QUESTIONS[:1], **{call: deed})
    assert [output.finish for output in found[0].outputs] == ["error", "error"]
    assert all(why in failure and "\n" not in failure for failure in found[0].failures)
    assert closed == {"q0": 2}


@pytest.mark.parametrize("call", ["reset", "reply"])
def test_a_slow_environment_holds_up_nobody_else(policy, call):
    class Slow(Scored):
        def _do(self, name):
            if self._question.id == "q0" and name == call:
                slow.wait(20)

    slow, order = threading.Event(), []

    def finished(number, played):
        order.append(number)
        if len(order) == 2:
            slow.set()

    played(policy, finished=finished, make=Slow)
    assert sorted(order[:2]) == [1, 2]
    assert order[2] == 0


def test_the_environments_own_reward_is_paid_and_its_figures_are_kept(policy):
    configs = [RewardConfig(function="environment"), RewardConfig(function=f"{OWN}:reads_environments", name="read")]
    with RewardSet(configs) as rewards:
        rollout = sample_groups(
            policy.tokenizer,
            QUESTIONS[:1],
            engine=LocalEngine(policy),
            rewards=rewards,
            sampling=SAMPLING,
            group_size=2,
            seed=0,
            step=0,
            environments=Environments(Scored, several=True, rewards=True),
        )
    for sample in rollout.groups[0].samples:
        turns = sample.output.outcome["turns"]
        assert sample.reward.value == 1.5 + turns + 1
        assert sample.reward.value_of("environment/turns") == turns
        assert sample.reward.value_of("environment/outcome_steps") == 7


def test_an_outcome_of_no_plain_values_costs_the_output(policy):
    (found,) = played(policy, questions=QUESTIONS[:1], reward=float("nan"))
    assert "outcome()['reward'] = nan: no finite number" in found.failures[0]


def test_a_reward_of_an_environment_that_gives_none_is_refused():
    rewards = (RewardConfig(function="environment"),)
    without = SamplingConfig(environment="single_turn")
    recipe = SimpleNamespace(rewards=rewards, rollout=without)
    with pytest.raises(ConfigError, match=r"rewards\[0\].function = 'environment': .* has no reward of its own"):
        _check_environment_reward(recipe, environments_of(without))
    _check_environment_reward(recipe, replace(environments_of(without), rewards=True))


def test_calls_side_by_side_are_bounded_and_given_up():
    calls = SideBySide(0.2, at_once=2)
    running, most = [], []

    def work():
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()
        return "done"

    for key in range(6):
        calls.submit(key, work)
    found = calls.done(5)
    assert sorted(key for key, _, _ in found) == list(range(6))
    assert max(most) <= 2
    calls.submit("late", lambda: threading.Event().wait(1))
    ((key, value, error),) = calls.done(5)
    assert (key, value, str(error)) == ("late", None, "no answer within 0.2 s")
    assert not calls
