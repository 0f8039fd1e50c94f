"""Tools of a real MCP server, over stdio and over HTTP: what calls give, and what becomes of its faults."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from groupwise.data import Message, ToolCall
from groupwise.envs import mcp_tools
from groupwise.envs.mcp_tools import McpTools
from groupwise.envs.tools import Tools
from groupwise.errors import ConfigError
from tests.project.sources import ROOT

SERVER = str(Path(__file__).with_name("mcp_server.py"))
pytestmark = pytest.mark.skipif(find_spec("mcp") is None, reason="the package mcp is not installed")


@pytest.fixture(scope="module")
def tools():
    with closing(McpTools(sys.executable, [SERVER], env={"KEY": "abc"}, timeout_seconds=20)) as tools:
        yield tools


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid):
    """True once the process is no more; waits ten seconds at most."""
    for _ in range(1000):
        if not alive(pid):
            return True
        time.sleep(0.01)
    return False


def test_tools_have_schemas_in_the_form_of_openai(tools):
    by_name = {schema["function"]["name"]: schema for schema in tools.schemas()}
    added = by_name["add"]
    assert added["type"] == "function"
    assert added["function"]["description"] == "Adds two numbers."
    assert {name: p["type"] for name, p in added["function"]["parameters"]["properties"].items()} == {
        "a": "integer",
        "b": "integer",
    }


def test_a_call_gives_the_text_of_the_result(tools):
    assert tools.call("add", {"a": 2, "b": 3}) == "5"
    assert tools.call("environment", {"name": "KEY"}) == "abc"


def test_a_failure_of_a_tool_is_a_text(tools):
    assert tools.call("refuse", {"text": "too cold"}) == "error: Error executing tool refuse: too cold"
    assert tools.call("add", {"a": "x", "b": 1}).startswith("error: ")
    assert tools.call("ad", {}) == "error: there is no tool 'ad'; did you mean 'add'?"


def test_what_is_no_text_is_named_and_what_is_huge_is_cut(tools):
    assert tools.call("picture", {}) == "[image: image/png, 6 bytes, not shown]"
    text = tools.call("huge", {"characters": 150_000})
    assert text.startswith("x" * 100_000 + "\n... cut here, 150,000 characters in all")


def test_calls_run_side_by_side(tools):
    # each waits for the other to be there
    found = []
    threads = [threading.Thread(target=lambda: found.append(tools.call("meet", {"persons": 2}))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["met", "met"]


def test_a_slow_tool_is_named_and_holds_up_no_other(tools, monkeypatch):
    monkeypatch.setattr(tools, "_seconds", 0.05)
    with pytest.raises(TimeoutError, match=r"mcp_server.py`: slow took longer than 0.05 s"):
        tools.call("slow", {"seconds": 100})
    monkeypatch.setattr(tools, "_seconds", 20)
    assert tools.call("add", {"a": 1, "b": 1}) == "2"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "named by `command` or by `url`"),
        ({"command": "x", "url": "http://127.0.0.1/mcp"}, "give one of the two"),
        ({"url": "127.0.0.1/mcp"}, "it begins with http://"),
        ({"url": "http://127.0.0.1/mcp", "args": ["x"]}, "takes no args and no env"),
        ({"command": "x", "args": "y z"}, "give a list"),
        ({"command": "x", "timeout_seconds": 0}, "timeout_seconds = 0"),
        ({"command": "no-such-program"}, "the MCP server `no-such-program` cannot be used: .*No such file"),
        ({"command": "sh", "args": ["-c", "echo no key >&2"]}, "Connection closed; it wrote: no key"),
        ({"command": "cat"}, "the MCP server `cat` cannot be used: "),
        ({"url": "http://127.0.0.1:9/mcp"}, "127.0.0.1:9/mcp` cannot be used: .*connection"),
    ],
)
def test_a_server_that_cannot_be_used_is_refused_in_a_line(given, message):
    with pytest.raises(ConfigError, match=message):
        McpTools(**given)


@pytest.mark.long
def test_a_tool_that_the_server_lacks_is_refused():
    with pytest.raises(ConfigError, match=r"has no tool 'ad'; did you mean 'add'"):
        McpTools(sys.executable, [SERVER], allow=["ad"])
    with closing(McpTools(sys.executable, [SERVER], allow=["add"])) as tools:
        assert [schema["function"]["name"] for schema in tools.schemas()] == ["add"]
        assert tools.call("die_always", {}).startswith("error: there is no tool")


@pytest.mark.long
def test_a_server_that_says_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(mcp_tools, "_START_SECONDS", 0.2)
    with pytest.raises(ConfigError, match=r"did not say within 0.2 s which tools it has"):
        McpTools("sleep", ["100"])


@pytest.mark.long
def test_a_server_that_ended_is_started_again_once(tmp_path):
    with closing(McpTools(sys.executable, [SERVER])) as tools:
        assert tools.call("die", {"file": str(tmp_path / "died")}) == "lived"
        with pytest.raises(ConnectionError, match="ended during die_always, was started again, and ended again"):
            tools.call("die_always", {})
        assert tools.call("add", {"a": 1, "b": 1}) == "2"


@pytest.mark.long
def test_nothing_that_a_server_started_outlives_it():
    tools = McpTools(sys.executable, [SERVER])
    pid = int(tools.call("child", {}))
    assert alive(pid)
    tools.close()
    assert gone(pid)
    with pytest.raises(ConnectionError, match="is closed"):
        tools.call("add", {"a": 1, "b": 1})


@pytest.mark.long
@pytest.mark.parametrize("end", ["", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
def test_nothing_that_a_server_started_outlives_the_run(end):
    code = (
        "import sys; from groupwise.envs.mcp_tools import McpTools; "
        f"print(McpTools(sys.executable, [{SERVER!r}]).call('child', {{}}), flush=True); {end}"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == (-signal.SIGKILL if end else 0), done.stderr
    assert gone(int(done.stdout))


@pytest.mark.long
def test_a_server_is_reached_over_http_and_reached_again():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = started(port)
    try:
        with closing(McpTools(url=f"http://127.0.0.1:{port}/mcp", timeout_seconds=20)) as tools:
            assert tools.call("add", {"a": 2, "b": 3}) == "5"
            assert tools.call("refuse", {"text": "too cold"}) == "error: Error executing tool refuse: too cold"
            with pytest.raises(ConnectionError, match="ended during die_always; reached again, it cannot be used"):
                tools.call("die_always", {})
            server.wait()
            server = started(port)
            assert tools.call("add", {"a": 2, "b": 4}) == "6"
    finally:
        server.kill()
        server.wait()


def started(port):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, SERVER, str(port)], **quiet)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server does not listen")


@pytest.mark.long
def test_the_environment_tools_calls_them():
    environment = Tools(tools=[{"tool": "mcp", "params": {"command": sys.executable, "args": [SERVER]}}])
    call = Message("assistant", "", calls=(ToolCall("add", {"a": 1, "b": 2}),))
    assert [message.content for message in environment.reply([call])] == ["3"]
