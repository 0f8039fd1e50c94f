"""Agents that run their own loop: what they ask becomes samples with exact tokens, whatever they send back."""

import json
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import groupwise
from groupwise.config import SamplingConfig
from groupwise.data import Message, Question, Sampling
from groupwise.engines.base import stream
from groupwise.engines.local import LocalEngine
from groupwise.envs.episode import environments_of
from groupwise.errors import ConfigError, RunError
from groupwise.model.batch import Rollouts, by_question
from groupwise.rollout.episodes import play
from tests.model import build
from tests.project.sources import ROOT

OWN = ROOT / "tests" / "rollout" / "test_agents.py"
QUESTIONS = [Question(f"q{n}", (Message("user", f"{n}+{n}=?"),), answer=str(2 * n)) for n in range(2)]
SAMPLING = Sampling(max_new_tokens=6)
waiting = threading.Event()


def sent(base_url, body, path):
    """Status and JSON of an answer."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{base_url}{path}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error as response:
            return response.code, json.load(response)


def post(base_url, body, path="/chat/completions"):
    status, content = sent(base_url, body, path)
    if status != 200:
        raise LookupError(content["error"]["message"])
    return content


def refused(base_url, body, path="/chat/completions"):
    status, content = sent(base_url, body, path)
    return status, content["error"]["message"]


def said(base_url, messages, **more):
    return post(base_url, {"messages": messages, "return_token_ids": True, **more})


def turn(content, role="user"):
    return {"role": role, "content": content}


def converses(base_url, messages, answer):
    """Two turns, the second behind the first; the model's words go back as they came."""
    first = said(base_url, messages, max_tokens=3)
    more = [*messages, first["choices"][0]["message"], turn("and?")]
    second = said(base_url, more)
    assert second["prompt_token_ids"][: len(first["prompt_token_ids"]) + 1] == (
        first["prompt_token_ids"] + first["choices"][0]["token_ids"][:1]
    )
    return {"reward": 1.0, "answer_known": answer}


def forks(base_url, messages):
    """Goes on twice from one answer, and asks something else beside it."""
    first = said(base_url, messages, max_tokens=2)["choices"][0]["message"]
    asks = [[*messages, first, turn(word)] for word in ("a?", "b?", "a?")] + [[turn("1+1")]]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda ask: said(base_url, ask, max_tokens=3), asks))


def forks_and_scores(base_url, messages):
    forks(base_url, messages)
    return len(said(base_url, messages)["choices"][0]["message"]["content"]) % 3


def asks_wrongly(base_url, messages):
    """Collects what is said of wrong requests."""
    whole = {"messages": messages}
    found = [
        refused(base_url, {**whole, "n": 2}),
        refused(base_url, {**whole, "response_format": {"type": "json_object"}}),
        refused(base_url, {**whole, "tool_choice": "required"}),
        refused(base_url, {"messages": []}),
        refused(base_url, {"messages": [{"role": "judge", "content": "a"}]}),
        refused(base_url, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        refused(base_url, {**whole, "max_tokens": 0}),
        refused(base_url, {**whole, "messages": "hello"}),
        refused(base_url, {**whole, "tools": ["calculator"]}),
        refused(base_url, {"messages": [{"role": "assistant", "tool_calls": [{"type": "custom"}]}]}),
        refused(base_url, {**whole, "stop": 3}),
        refused(base_url, {"input": "a", "previous_response_id": "b"}, "/responses"),
        refused(base_url.replace("/v1", "x/v1"), whole),
        refused(base_url, whole, "/embeddings"),
    ]
    said(base_url, messages, max_tokens=1)
    return {"refused": [list(one) for one in found]}


def goes_on_for_ever(base_url, messages):
    while True:
        answer = said(base_url, messages, max_tokens=1)
        messages = [*messages, answer["choices"][0]["message"], turn("go on")]


def fails(base_url, messages):
    said(base_url, messages)
    raise LookupError("no such page")


def silent(base_url):
    return 1.0


def hangs(base_url, messages):
    said(base_url, messages)
    waiting.wait(5)


def of_anthropic(base_url, messages):
    return post(base_url, {"messages": messages, "max_tokens": 3, "system": "be brief"}, "/messages")


def without_base_url(messages):
    pass


@pytest.fixture(scope="module")
def policy(tmp_path_factory, tiny_folder):
    return build.policy_of(build.SHARING["llama"], tmp_path_factory.mktemp("llama"), tiny_folder)


def environment(run=None, max_turns=None, **params):
    given = {"run": run if ":" in run else f"{OWN}:{run}"} if run else {}
    return environments_of(
        SamplingConfig(environment="agent", environment_params={**given, **params}, max_turns=max_turns)
    )


def played(policy, run=None, *, questions=QUESTIONS, sampling=SAMPLING, count=2, **params):
    return play(
        policy.tokenizer,
        questions,
        [[stream(0, 0, q.id, i) for i in range(count)] for q in questions],
        engine=LocalEngine(policy),
        sampling=sampling,
        environments=environment(run, **params),
    )


def words(output):
    return output.question_tokens.tolist(), output.tokens.tolist(), output.sampled.tolist()


def scored_apart(policy, rollouts):
    with torch.no_grad():
        return policy.logprobs(rollouts, rollouts.output_mask, sampling=SAMPLING).logprobs


def test_a_conversation_is_one_sample_of_the_very_tokens(policy):
    found = played(policy, "converses")
    assert [group.further for group in found] == [(), ()]
    assert {failure for group in found for failure in group.failures} == {""}
    for output in (output for group in found for output in group.outputs):
        assert [message.role for message in output.messages] == ["assistant", "user", "assistant"]
        assert [output.sampled[first:end].all() for first, end in output.spans] == [True, False, True]
        assert [place for span in output.spans for place in span][1:-1:2] == [span[0] for span in output.spans[1:]]
        assert output.spans[-1][1] == len(output.tokens)
        assert output.outcome["reward"] == 1.0
        between = policy.tokenizer.decode_all(output.tokens[~output.sampled])
        assert between.replace("<end>", "") == "<user>and?<assistant>"
        assert 1 < output.sampled.sum() <= SAMPLING.max_new_tokens
    figures = [one for group in found for one in group.figures]
    assert [one.finish for one in figures] == [output.finish for group in found for output in group.outputs]
    assert {one.turns for one in figures} == {2}
    rollouts = Rollouts.of([build.group(list(group.outputs), [0.0] * 2) for group in found])
    gap = (scored_apart(policy, rollouts) - rollouts.sampled_logprobs)[rollouts.output_mask]
    assert gap.abs().max() < 1e-4


def test_what_is_asked_beside_is_a_sample_of_its_own_with_the_same_gradient_as_apart(policy):
    found = played(policy, "forks")
    for group in found:
        assert [place for place, _ in group.further] == [0, 0, 0, 1, 1, 1]
    outputs = [output for group in found for output in [*group.outputs, *(one for _, one in group.further)]]
    half = len(outputs) // 2
    rollouts = Rollouts.of([build.group(part, [0.0] * half) for part in (outputs[:half], outputs[half:])])
    assert len(by_question(rollouts)) > 2
    gap = (scored_apart(policy, rollouts) - rollouts.sampled_logprobs)[rollouts.output_mask]
    assert gap.abs().max() < 1e-4


def test_what_is_sampled_does_not_depend_on_when_it_is_asked(policy):
    once, again = (
        [
            words(output)
            for group in played(policy, "forks")
            for _, output in [*enumerate(group.outputs), *group.further]
        ]
        for _ in range(2)
    )
    assert once == again


def test_a_wrong_request_is_told_what_is_wrong(policy):
    (found,) = played(policy, "asks_wrongly", questions=QUESTIONS[:1], count=1)
    assert found.failures == ("",)
    told = found.outputs[0].outcome["refused"]
    assert [code for code, _ in told] == [400] * 12 + [410, 404]
    expected = ["n = 2", "response_format", "tool_choice", "is empty", "'judge'", "'image_url'", "a limit of"]
    expected += ["no list", "tools[0] is no object", "calls no function", "is not of this protocol"]
    expected += ["previous_response_id", "is over", "no such path"]
    assert all(part in message for part, (_, message) in zip(expected, told, strict=True))


@pytest.mark.parametrize(("limits", "finish"), [({"max_turns": 3}, "turns"), ({}, "length")])
def test_an_episode_that_is_cut_is_no_failure(policy, limits, finish):
    (found,) = played(policy, "goes_on_for_ever", questions=QUESTIONS[:1], count=1, **limits)
    (output,) = found.outputs
    assert (output.finish, found.failures) == (finish, ("",))
    assert output.sampled[-1]
    assert output.sampled.sum() == (3 if limits else SAMPLING.max_new_tokens)


@pytest.mark.parametrize(
    ("run", "why"),
    [
        ("fails", "LookupError: no such page"),
        ("silent", "asked the model nothing"),
        ("hangs", "no answer within 0.5 s"),
    ],
)
def test_an_agent_that_fails_costs_its_episode_alone(policy, run, why):
    (found,) = played(policy, run, questions=QUESTIONS[:1], count=1, seconds=0.5 if run == "hangs" else 60)
    waiting.set()
    assert [output.finish for output in found.outputs] == ["error"]
    assert why in found.failures[0]
    assert "\n" not in found.failures[0]


def test_a_run_that_stops_lets_nobody_wait(policy):
    engine = LocalEngine(policy)

    def broken(timeout):
        raise RunError("the engine is gone")

    engine.poll = broken
    with pytest.raises(RunError, match="the engine is gone"):
        play(
            policy.tokenizer,
            QUESTIONS,
            [[1], [2]],
            engine=engine,
            sampling=SAMPLING,
            environments=environment("converses"),
        )
    assert not [thread for thread in threading.enumerate() if thread.name == "agents-endpoint"]


@pytest.mark.long
def test_a_resumed_run_goes_on_as_one_that_was_not_stopped(tmp_path):
    recipe = {
        "model": {"path": "tiny"},
        "questions": {"source": "arithmetic", "params": {"kinds": ["successor"], "levels": [1]}, "heldout_size": 0},
        "rewards": [{"function": "environment"}],
        "rollout": {"environment": "agent", "environment_params": {"run": f"{OWN}:forks_and_scores"}}
        | {"questions_per_step": 2, "group_size": 2, "max_new_tokens": 6},
        "update": {"steps": 2, "learning_rate": 1e-2},
        "evaluate": {"correct": "environment"},
    }
    groupwise.train(recipe, run=tmp_path / "whole", show="nothing")
    groupwise.train(recipe, "update.steps=1", run=tmp_path / "parts", show="nothing")
    groupwise.train(recipe, run=tmp_path / "parts", resume=True, show="nothing")
    whole, parts = (
        [
            (row["step"], row["text"], row["reward"], row["turns"], row["outcome"])
            for row in groupwise.open_run(tmp_path / name).outputs()
        ]
        for name in ("whole", "parts")
    )
    assert whole == parts
    assert {step for step, *_ in whole} == {1, 2}
    assert all(turn["tokens"] for _, _, _, turns, _ in whole for turn in turns)


COMMAND = """
import json, os, sys, urllib.request
row = json.load(sys.stdin)
if row["answer"] == "2": sys.exit("no page for " + row["id"])
body = json.dumps({"messages": row["messages"], "max_tokens": 2}).encode()
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
headers = {"Content-Type": "application/json", "Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
answer = json.load(urllib.request.urlopen(urllib.request.Request(url, body, headers)))
print("thinking")
print(json.dumps({"reward": 0.5, "text": answer["choices"][0]["message"]["content"]}))
"""


def test_a_command_is_an_agent_too(policy):
    first, second = played(policy, command=[sys.executable, "-c", COMMAND], count=1)
    assert first.outputs[0].outcome == {"reward": 0.5, "text": first.outputs[0].text}
    assert "ended with exit code 1: no page for q1" in second.failures[0]


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({}, "give either run or command"),
        ({"run": f"{OWN}:converses", "command": ["a"]}, "give either run or command"),
        ({"command": "python agent.py"}, "give a list"),
        ({"run": f"{OWN}:without_base_url"}, "no parameter base_url"),
        ({"run": f"{OWN}:nobody"}, "has no 'nobody'"),
        ({"run": f"{OWN}:converses", "seconds": 0}, "give numbers above 0"),
    ],
)
def test_an_agent_that_cannot_be_called_is_refused_before_the_start(params, why):
    with pytest.raises(ConfigError, match=why):
        environment(**params)
