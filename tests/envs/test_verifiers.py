"""Environments of the package verifiers; skipped where it is not installed."""

import sys
import threading

import pytest

from groupwise.agents.endpoint import Endpoint
from groupwise.agents.wire import Answer
from groupwise.config import SamplingConfig
from groupwise.envs.episode import environments_of
from groupwise.errors import ConfigError

TASKSET = """
import verifiers.v1 as vf

class Sum(vf.Task):
    @vf.reward
    async def right(self, trace) -> float:
        return float("4" in str(trace.messages[-1].content))

class Sums(vf.Taskset[Sum]):
    def load(self):
        for n in range(3):
            yield Sum(vf.TaskData(prompt=f"{n}+{n}=?"), self.config.task)

__all__ = ["Sums"]
"""


def test_without_the_package_it_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "verifiers", None)
    monkeypatch.setitem(sys.modules, "verifiers.v1", None)
    monkeypatch.setitem(sys.modules, "verifiers.v1.utils.loaders", None)
    with pytest.raises(ConfigError, match=r"^rollout.environment = 'verifiers': .*; pip install 'verifiers>=0.4' uv"):
        environments_of(SamplingConfig(environment="verifiers", environment_params={"taskset": "none"}))


def test_an_episode_is_played_by_the_packages_own_harness(tmp_path, monkeypatch):
    pytest.importorskip("verifiers.v1")
    from groupwise.datasets.verifiers import questions

    (tmp_path / "own_sums.py").write_text(TASKSET)
    monkeypatch.syspath_prepend(tmp_path)
    found = questions(0, taskset="own_sums")
    assert [question.text for question in found] == ["0+0=?", "1+1=?", "2+2=?"]
    params = {"taskset": "own_sums", "harness": "null"}
    agent = environments_of(SamplingConfig(environment="verifiers", environment_params=params)).agent
    endpoint, stop = Endpoint(), threading.Event()

    def answer():
        while not stop.is_set():
            for request in endpoint.requests(0.05):
                request.answer.set_result(Answer("it is 4", (), "stop", (1,), (2,)))

    serving = threading.Thread(target=answer)
    serving.start()
    try:
        assert agent.play(found[2], endpoint.begin("episode"))["reward"] == 1.0
    finally:
        stop.set()
        serving.join()
        endpoint.close()
