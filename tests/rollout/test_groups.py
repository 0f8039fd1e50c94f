"""Rewards are computed while other outputs are still being sampled, and land where they belong."""

import threading
import time

import numpy as np
import pytest

from groupwise.config import RewardConfig
from groupwise.data import Message, Output, Part, Question, Reward, Sampling
from groupwise.errors import RewardError
from groupwise.rewards.base import RewardSet
from groupwise.rollout.groups import sample_groups
from tests.engines.fakes import Answering

QUESTIONS = [Question(str(n), (Message("user", str(n)),), n) for n in range(3)]


class Tokenizer:
    def encode(self, messages):
        return [1, 2]

    def decode(self, tokens):
        return ""


def answer(text: str) -> Output:
    one = np.ones(1)
    return Output(one.astype(np.int32), one.astype(np.int32), one.astype(bool), one.astype(np.float32), text, "stop")


class Engine(Answering):
    """Finishes the last question first; before the others, waits until that one has been rewarded."""

    def __init__(self, rewarded: threading.Event) -> None:
        super().__init__()
        self.rewarded = rewarded

    def answers(self, tasks, sampling):
        return [[answer(f"{task}.{n}") for n in range(len(one.streams))] for task, one in enumerate(tasks)]

    def poll(self, timeout):
        first = len(self.ready) == 3
        assert first or self.rewarded.wait(10), "nothing was rewarded while sampling"
        return [self.ready.pop(2 if first else 0)]


class Promised:
    def __init__(self, outputs, error):
        self.outputs, self.error = outputs, error

        self.finished = {}

    def verdicts(self):
        if self.error:
            raise self.error
        return {}

    def rewards(self, verdicts, running):
        return [Reward(10 * int(o.text[0]) + int(o.text[2]), {"r": Part("value", 0.0)}) for o in self.outputs]


class Rewards:
    """The reward of answer i.j to question i is 10 i + j."""

    def __init__(self, rewarded: threading.Event, error: Exception | None = None) -> None:
        self.rewarded, self.error = rewarded, error

        self.configs = {}

    def halt(self):
        pass

    def spent(self):
        return {}

    def submit(self, questions, outputs, *, step=0, decode=None):
        self.rewarded.set()
        assert all(question.id == output.text[0] for question, output in zip(questions, outputs, strict=True))
        return Promised(outputs, self.error)


def sampled(rewards: Rewards | RewardSet, rewarded: threading.Event, engine: Engine | None = None):
    return sample_groups(
        Tokenizer(),
        QUESTIONS,
        engine=engine or Engine(rewarded),
        rewards=rewards,
        sampling=Sampling(max_new_tokens=1),
        group_size=2,
        seed=0,
        step=0,
    )


def test_rewards_come_while_others_are_sampled_and_in_the_order_of_the_questions():
    rewarded = threading.Event()
    rollout = sampled(Rewards(rewarded), rewarded)
    assert [group.question.id for group in rollout.groups] == ["0", "1", "2"]
    assert [group.rewards for group in rollout.groups] == [[0, 1], [10, 11], [20, 21]]
    assert rollout.reward_seconds >= 0


def test_what_a_reward_raises_is_raised():
    rewarded = threading.Event()
    with pytest.raises(LookupError, match="no such column"):
        sampled(Rewards(rewarded, LookupError("no such column")), rewarded)


class Interrupted(Engine):
    """Is stopped while the first finished question is being rewarded."""

    def poll(self, timeout):
        if len(self.ready) > 1:
            number, outputs = self.ready.pop()
            return [(number, [answer("hang")] * len(outputs))]
        time.sleep(0.5)  # so that the reward function is in its call
        raise KeyboardInterrupt


def test_a_stop_waits_for_no_reward_and_leaves_no_one_behind(tmp_path):
    said = tmp_path / "said"
    function = tmp_path / "slow.py"
    function.write_text(f"import time\ndef slow(text):\n    open({str(said)!r}, 'a').write('x')\n    time.sleep(60)\n")
    threads = threading.active_count()
    with RewardSet([RewardConfig(function=f"{function}:slow")]) as rewards:
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            sampled(rewards, threading.Event(), engine=Interrupted(threading.Event()))
        assert time.monotonic() - started < 20
        assert said.read_text() == "x"
        with pytest.raises(RewardError, match="stopped while it scored"):
            rewards.score(QUESTIONS[:1], [answer("after")])
    assert threading.active_count() == threads
