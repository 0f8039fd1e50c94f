"""An environment on a real OpenEnv server: sessions side by side, its rewards, its tools, its failures."""

import socket
import subprocess
import sys
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from groupwise.data import Message, Question, ToolCall
from groupwise.envs.openenv import OpenEnv
from groupwise.errors import ConfigError

pytestmark = [
    pytest.mark.skipif(find_spec("openenv") is None, reason="openenv is not installed: docs/environments.md"),
    pytest.mark.long,
]
QUESTION = Question("q", (Message("user", "Play."),), meta={"seed": 8, "hint": "a cube"})  # the number is 8 % 5 = 3


def started(*arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("openenv_server.py"), str(port), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(1200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server does not listen")


@pytest.fixture(scope="module")
def url():
    server, address = started()
    yield address
    server.kill()
    server.wait()


def said(environment, text):
    replies = environment.reply([Message("assistant", text)])
    return replies and replies[0].content


def test_an_episode_is_played_and_paid(url):
    with closing(OpenEnv(url=url, reset=["hint"], fields={"loud": True})) as environment:
        (first,) = environment.reset(QUESTION)
        assert first.content == "Play.\nGuess a number below 5. Hint: a cube."
        assert said(environment, "1") == "NOT 1"
        assert said(environment, "<think>4 or 3</think> 3") is None
        assert environment.outcome() == {"reward": pytest.approx(0.9), "turns": 2, "done": 1.0}
    with closing(OpenEnv(url=url, reward="last")) as environment:
        environment.reset(QUESTION)
        said(environment, "1")
        assert environment.outcome()["reward"] == pytest.approx(-0.1)


def test_each_episode_has_its_own_session(url):
    asked = [Question(f"q{n}", (Message("user", "?"),), meta={"seed": n}) for n in range(5)]
    environments = [OpenEnv(url=url) for _ in asked]
    for environment, question in zip(environments, asked, strict=True):
        environment.reset(question)
    assert [said(environment, "2") for environment in environments] == ["not 2", "not 2", None, "not 2", "not 2"]
    for environment in environments:
        environment.close()


def test_what_the_server_refuses_is_said_in_a_line(url):
    with closing(OpenEnv(url=url, timeout_seconds=0.5)) as environment:
        environment.reset(QUESTION)
        with pytest.raises(RuntimeError, match="no such thing"):
            said(environment, "raise")
        with pytest.raises(TimeoutError, match=r"the OpenEnv server http://.* took longer than 0.5 s"):
            said(environment, "sleep")
    with closing(OpenEnv(url=url, action="msg")) as environment:
        environment.reset(QUESTION)
        with pytest.raises(RuntimeError, match="the action had the fields: msg"):
            said(environment, "1")
    with (
        closing(OpenEnv(url=url, observation="board")) as environment,
        pytest.raises(ValueError, match=r"no field 'board'; it has: .*text"),
    ):
        environment.reset(QUESTION)
    with (
        closing(OpenEnv(url="http://127.0.0.1:9")) as environment,
        pytest.raises(ConnectionError, match="Failed to connect"),
    ):
        environment.reset(QUESTION)


def test_tools_of_an_environment_are_called():
    server, address = started("tools")
    try:
        with closing(OpenEnv(url=address, tools=True)) as environment:
            assert [message.content for message in environment.reset(QUESTION)] == ["Play."]
            assert [tool["function"]["name"] for tool in environment.tools] == ["add", "fail"]
            calls = (ToolCall("add", {"a": 1, "b": 2}), ToolCall("fail", {}), ToolCall("gone", {}))
            replies = environment.reply([Message("assistant", "", calls=calls)])
            assert [reply.content for reply in replies] == [
                "3",
                "error: Error calling tool 'fail': too cold",
                "error: Unknown tool: 'gone'",
            ]
            assert environment.reply([Message("assistant", "It is 3.")]) is None
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"url": "127.0.0.1:8000"}, "url = '127.0.0.1:8000'"),
        ({"reward": "mean"}, "choose from: sum, last"),
        ({"reset": "hint"}, "give a list"),
        ({"tools": True, "action": "msg"}, "leave action and fields out"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        OpenEnv(**{"url": "http://127.0.0.1:8000"} | given)
