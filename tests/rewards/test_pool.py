"""Reward functions side by side: none holds up another, and several workers share the calls of one."""

import time
from pathlib import Path

import pytest

from groupwise.config import RewardConfig
from groupwise.rewards.base import RewardSet
from tests.rewards.build import output, question

SOURCE = """
import os, time
from pathlib import Path

def wait_for(folder, count):
    end = time.monotonic() + 20
    while len(list(Path(folder).iterdir())) < count:
        if time.monotonic() > end:
            raise TimeoutError(f"{folder} never held {count}")
        time.sleep(0.01)

def fast(text, folder):
    (Path(folder) / text).touch()
    return 1.0

def slow(text, folder, count):
    wait_for(folder, count)
    return 2.0

def together(completions, folder, count, **columns):
    (Path(folder) / f"{os.getpid()}-{''.join(one[0]['content'] for one in completions)}").touch()
    wait_for(folder, count)
    return [float(len(completions))] * len(completions)

def mortal(text):
    if text == "die":
        os._exit(1)
    return float(len(text))
"""


ASYNC = """
import asyncio
from groupwise.rewards import host

met = asyncio.Event()

async def of_one(text, question):
    if text == "meets":  # until the one behind it has begun
        await met.wait()
    if text == "late":
        await asyncio.sleep(60)
    met.set()
    return float(len(text))

async def of_group(texts, questions):
    if texts[0] == "meets":
        await met.wait()
    met.set()
    host.count("calls", 1)
    return [float(len(texts)) if text != "bad" else ValueError("no luck") for text in texts]

async def patient(text, question):
    host.patience(20, "endpoint does not answer")
    await asyncio.sleep(0.3)
    host.resumed("it is back")
    return 1.0
patient.limits_itself = True
"""


@pytest.fixture
def functions(tmp_path):
    file, folder = tmp_path / "functions.py", tmp_path / "seen"
    file.write_text(SOURCE)
    folder.mkdir()

    def config(name, **fields):
        params = {} if name == "mortal" else {"folder": str(folder), **fields.pop("params", {})}
        return RewardConfig(function=f"{file}:{name}", params=params, **fields)

    return config, folder


def asked(*texts, each=1):
    names = [f"q{number}" for number in range(len(texts))]
    return [question(name=name) for name in names for _ in range(each)], [output(t) for t in texts for _ in range(each)]


def test_a_slow_judge_holds_up_no_fast_rule(functions):
    config, _ = functions
    # the judge of the first question waits until the rule has spoken of all three
    judge = config("slow", params={"count": 3}, weight=10.0)
    with RewardSet([judge, config("fast")]) as rewards:
        pending = [rewards.submit(*asked(text)) for text in ("a", "b", "c")]
        assert [one.result()[0].value for one in pending] == [21.0, 21.0, 21.0]


def test_workers_share_the_calls_and_keep_the_order(functions):
    config, folder = functions
    # neither of the two calls returns before both have begun, each in a process of its own
    with RewardSet([config("together", params={"count": 2}, workers=2)]) as rewards:
        questions, outputs = asked("a", "b", each=3)
        found = rewards.score(questions, outputs)
    assert [reward.value for reward in found] == [3.0] * 6  # a question's outputs stay in one call
    processes, names = zip(*(file.name.split("-") for file in folder.iterdir()), strict=True)
    assert len(set(processes)) == 2
    assert sorted(names) == ["aaa", "bbb"]


def test_a_worker_that_dies_takes_only_its_own_call_with_it(functions):
    config, _ = functions
    with RewardSet([config("mortal", workers=2)]) as rewards:
        found = rewards.score(*asked("a", "die", "ccc", "dddd"))
        assert [reward.value for reward in found] == [1.0, None, 3.0, 4.0]
        assert [reward.value for reward in rewards.score(*asked("ee"))] == [2.0]


def test_a_set_that_is_closed_leaves_no_call_behind(functions, tmp_path):
    config, _ = functions
    started = time.monotonic()
    with RewardSet([config("slow", params={"count": 99}, workers=2)]) as rewards:
        rewards.submit(*asked("a", "b", "c"))
    assert time.monotonic() - started < 15
    assert not list(Path(tmp_path / "seen").iterdir())


@pytest.fixture
def async_functions(tmp_path):
    file = tmp_path / "functions.py"
    file.write_text(ASYNC)
    return lambda name, **fields: RewardConfig(function=f"{file}:{name}", **fields)


def test_calls_of_an_async_function_are_awaited_at_the_same_time_and_come_in_their_order(async_functions):
    with RewardSet([async_functions("of_one", timeout_seconds=20)]) as rewards:
        found = rewards.score(*asked("meets", "bc"))
    assert [reward.value for reward in found] == [5.0, 2.0]
    with RewardSet([async_functions("of_group", timeout_seconds=20)]) as rewards:
        found = rewards.score(*asked("meets", "bc", each=3))  # a call a question
        assert [reward.value for reward in found] == [3.0] * 6
        assert rewards.spent()["judge/calls/of_group"] == 2
        assert "judge/calls/of_group" not in rewards.spent()


def test_a_late_call_of_an_async_function_fails_alone_and_an_exception_that_it_returned_its_output(async_functions):
    with RewardSet([async_functions("of_one", timeout_seconds=0.5)]) as rewards:
        found = rewards.score(*asked("a", "late", "ccc"))
    assert [reward.value for reward in found] == [1.0, None, 3.0]
    assert "it ran past its limit of 0.5 s and was stopped" in found[1].parts["of_one"].detail
    with RewardSet([async_functions("of_group")]) as rewards:
        questions, outputs = [question()] * 2, [output("bad"), output("good")]
        found = rewards.score(questions, outputs)
    assert [reward.value for reward in found] == [None, 2.0]
    assert "ValueError: no luck" in found[0].parts["of_group"].detail


def test_a_function_that_asks_for_patience_is_not_ended_and_says_what_it_waits_for(async_functions, capfd):
    with RewardSet([async_functions("patient", timeout_seconds=0.05)]) as rewards:
        assert rewards.score(*asked("a"))[0].value == 1.0
    assert capfd.readouterr().err == "reward patient: endpoint does not answer\nreward patient: it is back\n"
