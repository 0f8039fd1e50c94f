"""The three protocols: one conversation in each is the same, and each takes its own answers back."""

import base64
import json
import threading
import urllib.request
from dataclasses import replace

import pytest

from groupwise.agents.endpoint import PROTOCOLS, Endpoint
from groupwise.agents.wire import Answer, BadRequest, Call, Turn
from groupwise.contents import Place, image_of
from tests.drawn import file_of

TURNS = (
    Turn("system", "be brief"),
    Turn("user", "how many?"),
    Turn("assistant", "let me see", (Call("count", '{"x": 1}'),)),
    Turn("tool", "3"),
    Turn("user", "so?"),
)
PARAMETERS = {"type": "object", "properties": {"x": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "count", "description": "", "parameters": PARAMETERS}}
CHAT = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "how many?"}]},
        {
            "role": "assistant",
            "content": "let me see",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "count", "arguments": '{"x":1}'}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "3"},
        {"role": "user", "content": "so?"},
    ],
    "tools": [TOOL],
    "max_tokens": 5,
    "temperature": 0.2,
}
RESPONSES = {
    "instructions": "be brief",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "how many?"}]},
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "let me see"}]},
        {"type": "function_call", "call_id": "1", "name": "count", "arguments": '{"x": 1}'},
        {"type": "function_call_output", "call_id": "1", "output": "3"},
        {"role": "user", "content": "so?"},
    ],
    "tools": [{"type": "function", "name": "count", "description": "", "parameters": PARAMETERS, "strict": True}],
    "max_output_tokens": 5,
    "temperature": 0.2,
}
MESSAGES = {
    "system": [{"type": "text", "text": "be brief"}],
    "messages": [
        {"role": "user", "content": "how many?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm"},
                {"type": "text", "text": "let me see"},
                {"type": "tool_use", "id": "1", "name": "count", "input": {"x": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "3"}]},
                {"type": "text", "text": "so?"},
            ],
        },
    ],
    "tools": [{"name": "count", "input_schema": PARAMETERS}],
    "max_tokens": 5,
    "temperature": 0.2,
}
BODIES = {"/chat/completions": CHAT, "/responses": RESPONSES, "/messages": MESSAGES}
ANSWER = Answer("yes", (Call("count", '{"x": 2}'),), "calls", (1, 2), (3, 4, 5))


@pytest.mark.parametrize("path", PROTOCOLS)
def test_a_conversation_is_the_same_in_each(path):
    asked = PROTOCOLS[path].asked(BODIES[path])
    assert asked.turns == TURNS
    assert [dict(tool) for tool in asked.tools] == [TOOL]
    assert (asked.limit, asked.unused, asked.stream) == (5, ("temperature",), False)


def again(path, whole):
    """The request that goes on with an answer, as its agent would send it."""
    body = json.loads(json.dumps(BODIES[path]))
    if path == "/chat/completions":
        body["messages"].append(whole["choices"][0]["message"])
    elif path == "/responses":
        body["input"] += whole["output"]
    else:
        body["messages"].append({"role": "assistant", "content": whole["content"]})
    return body


@pytest.mark.parametrize("path", PROTOCOLS)
@pytest.mark.parametrize("calls", [ANSWER.calls, ()])
def test_an_answer_that_comes_back_is_known_again(path, calls):
    answer = Answer("yes", calls, "calls" if calls else "stop", (1,), (2,))
    whole = PROTOCOLS[path].whole(answer, "key", "m")
    assert PROTOCOLS[path].asked(again(path, whole)).turns == (*TURNS, answer.turn)


DATA = base64.b64encode(file_of()).decode()
URL = "data:image/png;base64," + DATA
RED = image_of(URL, "x", Place(None))
TEXT = {"type": "text", "text": "Which?"}
BLOCK = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}
SEEING = {
    "/chat/completions": {
        "messages": [
            {"role": "user", "content": [TEXT, {"type": "image_url", "image_url": {"url": URL, "detail": "high"}}]},
        ]
    },
    "/responses": {
        "input": [
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "Which?"}, {"type": "input_image", "image_url": URL}],
            },
            {"type": "function_call", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "output": [{"type": "input_image", "image_url": URL}]},
        ]
    },
    "/messages": {
        "messages": [
            {"role": "user", "content": [TEXT, BLOCK]},
            {"role": "assistant", "content": [{"type": "tool_use", "name": "look", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "content": [BLOCK]}]},
        ]
    },
}


@pytest.mark.parametrize("path", PROTOCOLS)
def test_pictures_of_a_request_stand_where_it_puts_them(path):
    turns = PROTOCOLS[path].asked(SEEING[path]).turns
    assert (turns[0].content, turns[0].parts) == ("Which?<image>", ("Which?", RED))
    if path != "/chat/completions":
        assert (turns[-1].role, turns[-1].parts) == ("tool", (RED,))
    assert turns[0] != replace(turns[0], parts=("Which?", image_of(file_of(color="blue"), "x", Place(None))))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "image_url", "image_url": {"url": "http://a.b/c.png"}}, "not fetched; send it in a data: URL"),
        ({"type": "image_url", "image_url": {"url": "/etc/passwd"}}, "paths are not read here; give a data: URL"),
        (
            {"type": "image_url", "image_url": {"url": URL[:-40]}},
            r"messages\[0\]\.content\[0\]: a broken picture|no base64",
        ),
        ({"type": "image_url"}, "names no picture"),
        ({"type": "input_audio", "input_audio": {}}, "a part of type 'input_audio'"),
    ],
)
def test_a_picture_that_cannot_be_read_is_refused_with_the_reason(part, message):
    for role in ("user", "system"):
        with pytest.raises(BadRequest, match=message):
            PROTOCOLS["/chat/completions"].asked({"messages": [{"role": role, "content": [part]}]})
    seen = {"type": "image_url", "image_url": {"url": URL}}
    with pytest.raises(BadRequest, match="has a picture; the model writes text alone"):
        PROTOCOLS["/chat/completions"].asked({"messages": [{"role": "assistant", "content": [seen]}]})


def asked_of(base_url, path, body):
    request = urllib.request.Request(base_url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read().decode()


@pytest.mark.parametrize("path", PROTOCOLS)
def test_a_stream_says_what_the_whole_says(path):
    endpoint = Endpoint()
    try:
        url = endpoint.begin("episode")

        def answer():
            (request,) = endpoint.requests(10)
            assert request.key == "episode"
            request.answer.set_result(ANSWER)

        serving = threading.Thread(target=answer)
        serving.start()
        text = asked_of(url, path, {**BODIES[path], "stream": True})
        serving.join()
        endpoint.end(url)
        with pytest.raises(urllib.error.HTTPError, match="410"):
            asked_of(url, path, BODIES[path])
    finally:
        endpoint.close()
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    if path == "/chat/completions":
        assert text.rstrip().endswith("data: [DONE]")
        deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
        assert "".join(delta.get("content", "") for delta in deltas) == "yes"
        (call,) = [call for delta in deltas for call in delta.get("tool_calls", ())]
        assert call["function"] == {"name": "count", "arguments": '{"x": 2}'}
        assert events[-1]["usage"]["total_tokens"] == 5
    elif path == "/responses":
        assert events[-1]["type"] == "response.completed"
        message, call = events[-1]["response"]["output"]
        assert (message["content"][0]["text"], call["arguments"]) == ("yes", '{"x": 2}')
        assert "".join(event["delta"] for event in events if event["type"].endswith("text.delta")) == "yes"
    else:
        deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
        assert deltas == [
            {"type": "text_delta", "text": "yes"},
            {"type": "input_json_delta", "partial_json": '{"x": 2}'},
        ]
        assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_official_clients_read_the_answers():
    openai = pytest.importorskip("openai")
    endpoint = Endpoint()
    stop = threading.Event()

    def answer():
        while not stop.is_set():
            for request in endpoint.requests(0.05):
                request.answer.set_result(ANSWER)

    serving = threading.Thread(target=answer)
    serving.start()
    try:
        client = openai.OpenAI(base_url=endpoint.begin("episode"), api_key="k", max_retries=0)
        chat = {"model": "m", "messages": [{"role": "user", "content": "a"}], "tools": [TOOL]}
        message = client.chat.completions.create(**chat).choices[0].message
        assert (message.content, message.tool_calls[0].function.name) == ("yes", "count")
        chunks = list(client.chat.completions.create(**chat, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "yes"
        response = client.responses.create(model="m", input="a")
        assert response.output_text == "yes"
        kinds = [event.type for event in client.responses.create(model="m", input="a", stream=True)]
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
        assert [model.id for model in client.models.list()] == ["policy"]
        client.close()
    finally:
        stop.set()
        serving.join()
        endpoint.close()
