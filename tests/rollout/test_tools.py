"""Environments with tools: the template's forms, what there is no form for, and replies that do not fit."""

import re
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

from groupwise import metrics as catalogue
from groupwise.config import ModelConfig, SamplingConfig
from groupwise.data import Message, Output, Question, Sampling, ToolCall
from groupwise.engines.base import Capabilities
from groupwise.envs.episode import Environments, environments_of
from groupwise.errors import ConfigError, DataError, ModelError
from groupwise.model.tokenizer import load_tokenizer
from groupwise.rollout.episodes import play
from groupwise.rollout.lengths import check_lengths, longest_question
from groupwise.rollout.played import UNKNOWN, Figures, episode_metrics, tool_calls
from tests.project.sources import ROOT

OWN = ROOT / "tests" / "rollout" / "test_tools.py"
QUESTION = Question("q", (Message("user", "what is 12 times 3?"),), answer="36")
SCHEMA = {"type": "function", "function": {"name": "calculator", "parameters": {"type": "object", "properties": {}}}}
WITH_TOOLS = (
    "{% for t in tools or [] %}{{ '<system>' + t['function']['name'] + '<end>' }}{% endfor %}"
    "{% for m in messages %}{{ ('<user>says ' if m['role'] == 'tool' else '<' + m['role'] + '>') + m['content'] + "
    "'<end>' }}{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
DROPS = "{% for m in messages if m['role'] != 'tool' %}" + WITH_TOOLS.partition("{% for m in messages %}")[2]
CALL = re.compile(r"(\d+)\*(\d+)=")


class Calculator:
    """Works out what the policy writes as 12*3=, until it writes none."""

    def __init__(self, *, tools=(SCHEMA,), longest=8, shown=None):
        self.tools, self.reply_tokens, self.shown = tools, longest, shown

    def reset(self, question):
        if self.shown == "nothing":
            raise LookupError("no such page")
        return [Message("user", self.shown)] if self.shown else question.messages

    def reply(self, messages):
        call = CALL.search(messages[-1].content)
        return [{"role": "tool", "content": str(int(call[1]) * int(call[2]))}] if call else None


class Reciting:
    """An engine that gives each turn of a script, whatever it is asked."""

    capabilities = Capabilities(exact=False)

    def __init__(self, tokenizer, *turns):
        self._tokenizer, self._turns, self._tasks, self.asked = tokenizer, list(turns), [], []

    def submit(self, tasks, sampling):
        self.asked += tasks
        self._tasks = list(enumerate(tasks, len(self.asked) - len(tasks)))
        return [number for number, _ in self._tasks]

    def poll(self, timeout):
        text = self._turns.pop(0)
        ids = np.array(self._tokenizer.tokenizer(text, add_special_tokens=False)["input_ids"], np.int32)
        tasks, self._tasks = self._tasks, []
        output = Output(ids, ids, np.ones(len(ids), bool), np.full(len(ids), -1, np.float32), text, "stop")
        return [(number, [output] * len(task.streams)) for number, task in tasks]

    def release(self, questions=None):
        pass


@pytest.fixture(scope="module")
def tokenizers(tiny_folder):
    """By name a tokenizer whose template writes tools, none of them, or what they say not."""
    plain = load_tokenizer(ModelConfig(path=str(tiny_folder)))
    found = {"none": plain}
    for name, template in (("tools", WITH_TOOLS), ("drops", DROPS)):
        own = deepcopy(plain.tokenizer)
        own.chat_template = template
        found[name] = replace(plain, tokenizer=own)
    return found


def environments(**params):
    return Environments(lambda: Calculator(**params), several=True, reply_tokens=params.get("longest", 8))


def played(tokenizer, engine, **params):
    sampling = Sampling(max_new_tokens=20)
    (found,) = play(tokenizer, [QUESTION], [[0]], engine=engine, sampling=sampling, environments=environments(**params))
    return found


def test_a_tool_is_offered_called_and_answers_in_the_templates_form(tokenizers):
    tokenizer = tokenizers["tools"]
    engine = Reciting(tokenizer, "12*3=", "36")
    (output,) = played(tokenizer, engine).outputs
    assert tokenizer.decode_all(output.question_tokens) == (
        "<system>calculator<end><user>what is 12 times 3?<end><assistant>"
    )
    assert [(m.role, m.content) for m in output.messages] == [
        ("assistant", "12*3="),
        ("tool", "36"),
        ("assistant", "36"),
    ]
    assert tokenizer.decode_all(output.tokens) == "12*3=<end><user>says 36<end><assistant>36"
    assert tokenizer.decode_all(output.tokens[output.sampled]) == "12*3=36"
    assert list(engine.asked[1].before[0]) == output.tokens[:-2].tolist()


def test_tools_that_neither_template_nor_tokenizer_can_write_are_refused_before_the_start(tokenizers):
    with pytest.raises(ModelError, match="writes nothing of the environment's 1 tools, and the tokenizer"):
        check_lengths(tokenizers["none"], [QUESTION], max_new_tokens=5, environments=environments())
    check_lengths(tokenizers["none"], [QUESTION], max_new_tokens=5, environments=environments(tools=()))
    check_lengths(tokenizers["tools"], [QUESTION], max_new_tokens=5, environments=environments())


def test_a_template_that_drops_what_a_tool_says_costs_the_output_in_one_line(tokenizers):
    found = played(tokenizers["drops"], Reciting(tokenizers["drops"], "12*3="), tools=())
    assert [output.finish for output in found.outputs] == ["error"]
    assert "leaves a tool's message out; write it into the user's turn" in found.failures[0]
    assert "\n" not in found.failures[0]


def test_replies_count_towards_the_context(tokenizers):
    tokenizer = tokenizers["tools"]
    question = len(tokenizer.encode(QUESTION.messages, tools=[SCHEMA]))
    narrow = replace(tokenizer, context=question + 5 + 8)
    check_lengths(narrow, [QUESTION], max_new_tokens=5, environments=environments())
    with pytest.raises(DataError, match=f"has {question} tokens; .* = 5 and 9 tokens of replies that is more than"):
        check_lengths(narrow, [QUESTION], max_new_tokens=5, environments=environments(longest=9))


def test_what_reset_shows_is_measured_and_its_failure_is_one_line(tokenizers):
    tokenizer = tokenizers["tools"]
    plain = len(tokenizer.encode([Message("user", "go")]))
    assert longest_question(tokenizer, [QUESTION], environments(shown="go", tools=())) == plain
    asked, broken = [replace(QUESTION, where="f.jsonl:3")], environments(shown="nothing")
    with pytest.raises(DataError, match=r"^f\.jsonl:3: question 'q': the environment's reset\(\) failed: LookupError"):
        check_lengths(tokenizer, asked, max_new_tokens=5, environments=broken)


def test_reply_tokens_is_a_number_of_tokens():
    for given in (-1, True, "8"):
        with pytest.raises(ConfigError, match=r"reply_tokens = .*: no number of tokens"):
            environments_of(SamplingConfig(environment=f"{OWN}:Calculator", environment_params={"longest": given}))
    assert environments_of(SamplingConfig(environment=f"{OWN}:Calculator")).reply_tokens == 8


def test_each_turn_has_its_tokens_and_the_episode_its_figures(tokenizers):
    tokenizer = tokenizers["tools"]
    found = played(tokenizer, Reciting(tokenizer, "12*3=", "36"))
    (output,), (figures,) = found.outputs, found.figures
    said = [tokenizer.decode_all(output.tokens[first:end]) for first, end in output.spans]
    assert said == ["12*3=", "<end><user>says 36<end><assistant>", "36"]
    assert (figures.turns, figures.finish, len(figures.seconds)) == (2, "stop", 4)  # reset, two replies, the end
    assert 0 <= max(figures.seconds) < 60


def test_calls_of_tools_are_counted_by_name_with_those_that_failed():
    calls = (ToolCall("add", {}), ToolCall("add", {}, error="no JSON"), ToolCall("add", {}), ToolCall("mul", {}))
    messages = [
        Message("assistant", "", calls=calls),
        *(Message("tool", text) for text in ("3", "error: it cannot be read", "Error: add: no numbers", "error: none")),
        Message("assistant", "", calls=(ToolCall("add", {}),)),  # at the turn limit: no reply
    ]
    found = tool_calls(messages, {"add", "sub"})
    assert found == (("add", False), ("add", True), ("add", True), (UNKNOWN, True), ("add", False))
    episodes = [Figures(2, "turns", (0.5, 1.5), found), Figures(1, "error", (), ()), Figures(1, "stop", (1.0,), ())]
    assert episode_metrics(episodes) == {
        "turns/mean": 4 / 3,
        "turns/max": 2.0,
        "finish/turns": 1 / 3,
        "finish/error": 1 / 3,
        "time/environment": 1.0,
        "time/environment_slowest": 1.5,
        "tools/calls/(unknown)": 1.0,
        "tools/calls/add": 4.0,
        "tools/failed/(unknown)": 1.0,
        "tools/failed/add": 0.5,
    }
    assert episode_metrics([]) == {}
    catalogue.check(episode_metrics(episodes))
