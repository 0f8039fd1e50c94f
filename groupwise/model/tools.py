"""What a chat template makes of tools: their schemas, calls of them, and what they reply. Knows no weights.

A template that writes no tools is helped out: the schemas go into the system prompt, calls are read in Hermes' form
and a tool's reply is written as the user's.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from groupwise.data import Image, Message, message_of_parts
from groupwise.envs.calls import FORMS, read_calls
from groupwise.errors import ModelError
from groupwise.model.template import Template, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ASKED = Message("user", "What is 1 + 1?")
_SCHEMA = {
    "type": "function",
    "function": {
        "name": "probe_name",
        "description": "A tool.",
        "parameters": {
            "type": "object",
            "properties": {"probe_key": {"type": "string", "description": "A text."}},
            "required": ["probe_key"],
        },
    },
}
_ARGUMENTS = {"probe_key": "probe value"}
_DESCRIBED = """\
You may call tools. To call one, write its name and arguments as JSON between tags:
<tool_call>{{"name": "...", "arguments": {{...}}}}</tool_call>
The result follows between <tool_response> tags. These are the tools:
{schemas}"""


@dataclass(frozen=True)
class ToolTemplate:
    """How tools reach a model and how it calls them.

    written: the template writes schemas; else they are described in the system prompt. form: of calls, in
    groupwise.envs.calls.FORMS; any: the template writes calls in none of these.
    """

    written: bool
    form: str


def tool_template(tokenizer: "PreTrainedTokenizerBase") -> ToolTemplate:
    """What the tokenizer's template does with tools, tried on one tool and one call of it."""
    where = str(tokenizer.name_or_path or "the tokenizer")
    try:
        with_tools, without = (
            render(tokenizer, [_ASKED], generation_prompt=True, where=where, tools=given) for given in ([_SCHEMA], ())
        )
    except ModelError:
        return ToolTemplate(written=False, form="hermes")
    if with_tools == without:
        return ToolTemplate(written=False, form="hermes")
    return ToolTemplate(written=True, form=_form(tokenizer, with_tools))


def _form(tokenizer: "PreTrainedTokenizerBase", prompt: str) -> str:
    """The first form that reads the call which the template writes behind its prompt."""
    for arguments in (_ARGUMENTS, json.dumps(_ARGUMENTS)):
        function = {"name": "probe_name", "arguments": arguments}
        call = {"id": "call00000", "type": "function", "function": function}
        turns = [_ASKED.as_dict(), {"role": "assistant", "content": "", "tool_calls": [call]}]
        try:
            text = tokenizer.apply_chat_template(turns, tools=[dict(_SCHEMA)], tokenize=False)
        except Exception:  # a template may do anything, and raise it
            continue
        assert isinstance(text, str)
        # what stands behind the prompt; of a template that ends its prompt otherwise, behind the question
        said = text.removeprefix(prompt) if text.startswith(prompt) else text.rpartition(_ASKED.content)[2]
        cut = _spoken(tokenizer, said)
        for form in FORMS:
            for call_read in read_calls(cut, form).calls:
                if (call_read.name, dict(call_read.arguments)) == ("probe_name", _ARGUMENTS):
                    return form
    return "any"


def _spoken(tokenizer: "PreTrainedTokenizerBase", text: str) -> str:
    """What the assistant says in a text, without its header and what ends its turn: what an output's text would be."""
    for header in ("<|end_header_id|>", "<start_of_turn>model", "<|im_start|>assistant"):
        text = text.rpartition(header)[2]
    ends = [str(token) for token in (tokenizer.eos_token, "<|eom_id|>", "<|eot_id|>", "<|im_end|>") if token]
    first = min((text.index(end) for end in ends if end in text), default=len(text))
    return text[:first].strip()


def described(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, system: bool) -> list[Message]:
    """The conversation with the tools in its system prompt, and their replies as the user's.

    system: the template has a system role; else the description goes before the first message.
    """
    text = _DESCRIBED.format(schemas="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
    turns = as_users(messages)
    if turns and (turns[0].role == "system" or not system):
        return [message_of_parts(turns[0].role, [f"{text}\n\n", *_parts(turns[0])]), *turns[1:]]
    return [Message("system", text), *turns]


def as_users(messages: Sequence[Message]) -> list[Message]:
    """What tools reply as the user's messages, those of one turn in one."""
    turns: list[Message] = []
    for number, message in enumerate(messages):
        if message.role != "tool":
            turns.append(message)
            continue
        parts = ["<tool_response>\n", *_parts(message), "\n</tool_response>"]
        if number and messages[number - 1].role == "tool":
            turns[-1] = message_of_parts("user", [*_parts(turns[-1]), "\n", *parts])
        else:
            turns.append(message_of_parts("user", parts))
    return turns


def _parts(message: Message) -> Sequence[str | Image]:
    return message.parts or (message.content,)


def check_tool_messages(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], where: str, template: Template
) -> None:
    """Raises ModelError if the template accepts a tool's message and drops it."""
    if not any(message.role == "tool" for message in messages):
        return
    # Not a search for the content: a template may write it as JSON, escaped.
    changed = [
        message_of_parts("tool", [*_parts(message), "0"]) if message.role == "tool" else message for message in messages
    ]
    first, second = (
        render(tokenizer, turns, generation_prompt=False, where=where, template=template)
        for turns in (messages, changed)
    )
    if first == second:
        raise ModelError(
            f"{where}: the chat template leaves a tool's message out",
            hint="write it into the user's turn, or give model.chat_template",
        )
