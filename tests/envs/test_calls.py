"""Calls of tools in a policy's text: each family's form is read, and nothing that a model writes raises or hangs."""

import random

import pytest

from groupwise.envs.calls import FORMS, LONGEST, MOST, read_calls

WRITTEN = {
    "hermes": '<tool_call>\n{"name": "f", "arguments": {"x": 1, "s": "a b"}}\n</tool_call>',
    "qwen_xml": (
        "<tool_call>\n<function=f>\n<parameter=x>\n1\n</parameter>\n<parameter=s>\na b\n</parameter>\n</function>\n"
        "</tool_call>"
    ),
    "glm": (
        "<tool_call>f\n<arg_key>x</arg_key>\n<arg_value>1</arg_value>\n<arg_key>s</arg_key>\n"
        "<arg_value>a b</arg_value>\n</tool_call>"
    ),
    "invoke": (
        '<minimax:tool_call>\n<invoke name="f">\n<parameter name="x">1</parameter>\n<parameter name="s">a b</parameter>'
        "\n</invoke>\n</minimax:tool_call>"
    ),
    "gemma": '<|tool_call>call:f{x:1,s:<|"|>a b<|"|>}<tool_call|>',
    "mistral": '[TOOL_CALLS] [{"name": "f", "arguments": {"x": 1, "s": "a b"}, "id": "call00000"}]',
    "deepseek": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
        '{"x": 1, "s": "a b"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
    ),
    "kimi": (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
        '{"x": 1, "s": "a b"}<|tool_call_end|><|tool_calls_section_end|>'
    ),
    "harmony": '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"x": 1, "s": "a b"}<|call|>',
    "marked_python": '<|tool_call_start|>[f(x=1, s="a b")]<|tool_call_end|>',
    "llama_json": '<|python_tag|>{"name": "f", "parameters": {"x": 1, "s": "a b"}}',
    "python_list": "[f(x=1, s='a b')]",
}
MORE = {
    "mistral": '[TOOL_CALLS]f[ARGS]{"x": 1, "s": "a b"}',
    "deepseek": '<｜tool▁call▁begin｜>f<｜tool▁sep｜>{"x": 1, "s": "a b"}<｜tool▁call▁end｜>',
    "marked_python": "```tool_code\nf(x=1, s='a b')\n```",
    "llama_json": '{"name": "f", "arguments": {"x": 1, "s": "a b"}}',
    "hermes": '<tool_call>{"name": "f", "arguments": "{\\"x\\": 1, \\"s\\": \\"a b\\"}"}',  # cut behind the call
    "harmony": '<|start|>assistant<|channel|>commentary to=functions.f<|message|>{"x": 1, "s": "a b"}',
}


@pytest.mark.parametrize("form", FORMS)
def test_a_call_is_read_in_every_form(form):
    for text in (WRITTEN[form], MORE.get(form, WRITTEN[form])):
        for chosen in (form, "any"):
            spoken = read_calls(text, chosen)
            assert [(c.name, dict(c.arguments), c.error) for c in spoken.calls] == [("f", {"x": 1, "s": "a b"}, "")]
            assert spoken.content == ""


def test_what_is_said_beside_the_calls_stays():
    twice = f"Let me see.\n{WRITTEN['hermes']}\n{WRITTEN['hermes']}"
    spoken = read_calls(twice)
    assert (spoken.content, len(spoken.calls)) == ("Let me see.", 2)
    assert [call.name for call in read_calls('[TOOL_CALLS][{"name":"f"},{"name":"g"}]').calls] == ["f", "g"]
    assert [call.name for call in read_calls('{"name":"f","parameters":{}}; {"name":"g","parameters":{}}').calls] == [
        "f",
        "g",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "The answer is 4.", '{"a": 1}', '{"name": "Ann"}', "[1, 2](3)", "[f(x)", "f(x=1)", "[TOOL]", "<tool_cal"],
)
def test_an_answer_is_no_call(text):
    spoken = read_calls(text)
    assert (spoken.content, spoken.calls) == (text, ())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('<tool_call>{"name": "f", "argu</tool_call>', "it is no JSON object"),
        ("<tool_call>[1]</tool_call>", "it is no JSON object"),
        ('<tool_call>{"arguments": {}}</tool_call>', "it names no tool"),
        ('<tool_call>{"name": "f", "arguments": [1]}</tool_call>', "no JSON object"),
        ("[f(1)]", "arguments go by name"),
        ("[f(x=g())]", "no literals"),
        ("[TOOL_CALLS]f[ARGS]{", "no JSON object"),
        ("<|tool_call>f{}<tool_call|>", "it is no call:name"),
        ("<|tool_call_start|>nothing<|tool_call_end|>", "it is no call such as"),
    ],
)
def test_a_broken_call_says_what_is_wrong_with_it(text, error):
    assert error in read_calls(text).calls[0].error


@pytest.mark.long
def test_100_000_random_texts_are_read_without_an_error():
    pieces = [*WRITTEN.values(), *MORE.values()]
    cut = [piece[at:] for piece in pieces for at in range(0, len(piece), 3)]
    draw = random.Random(1)
    for _ in range(100_000):
        text = "".join(draw.choices(cut, k=draw.randint(1, 6)))[: draw.randint(1, 400)]
        for call in read_calls(text).calls:
            assert call.error or call.name


def test_hostile_texts_are_read_at_once():
    pieces = [
        *WRITTEN.values(),
        "<tool_call>",
        "[TOOL_CALLS]",
        "<function=",
        "<arg_key>",
        " ",
        "\n",
        "{",
        "[",
        '"',
        "x",
    ]
    pieces += [
        "<|channel|>",
        " to=functions.",
        "<invoke name=",
        "<|tool_call>call:f{",
        '<|"|>',
        "｜DSML｜",
        "\0",
        "\ud800",
    ]
    draw = random.Random(0)
    for piece in pieces:
        for form in FORMS:
            assert len(read_calls(piece * 20_000, form).calls) <= MOST
    for _ in range(300):
        read_calls("".join(draw.choices(pieces, k=30)))
    assert read_calls("x" * LONGEST + WRITTEN["hermes"]).calls == ()
    assert len(read_calls(WRITTEN["hermes"] * 100).calls) == MOST
