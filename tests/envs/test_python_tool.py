"""The tool python: what a program prints or why it failed, and no program outside a sandbox."""

import pytest

from groupwise.data import Message, Question, ToolCall
from groupwise.envs.python_tool import PythonTool
from groupwise.envs.tools import Tools
from groupwise.errors import ConfigError
from groupwise.sandbox import designs
from groupwise.sandbox.designs import available


def answers(*programs):
    tools = Tools(tools=[{"tool": "python", "params": {"seconds": 2}}])
    tools.reset(Question("q", (Message("user", "-"),)))
    calls = tuple(ToolCall("python", {"code": program}) for program in programs)
    return [message.content for message in tools.reply([Message("assistant", "-", calls=calls)])]


def test_a_program_gives_what_it_prints_or_why_it_failed():
    if all(why := available().values()):
        pytest.skip(f"no sandbox works here: {'; '.join(why)}")
    printed, failed, silent, outside = answers(
        "print(sum(range(10)))", "1 / 0", "x = 1", "print(open('/etc/hostname').read())"
    )
    assert printed == "45\n"
    assert failed.startswith("error: exit code 1: ZeroDivisionError")
    assert silent == "the program printed nothing"
    assert outside.startswith("error: ")


def test_without_a_sandbox_the_tool_is_refused(monkeypatch):
    def none(name, slots, memory_mb):
        raise designs.SandboxError("not here")

    monkeypatch.setattr(designs, "_probed", none)
    with pytest.raises(ConfigError, match="not here"):
        PythonTool()
