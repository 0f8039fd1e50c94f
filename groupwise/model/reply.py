"""What the chat template writes behind a turn of the policy, as token ids: the reply, and the next turn's beginning."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from groupwise.data import Message
from groupwise.envs.calls import FORMS
from groupwise.errors import ModelError
from groupwise.model.rendering import unused_character
from groupwise.model.template import Template, decode, guarded, numbered, render, tokens_behind
from groupwise.model.tools import check_tool_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_reply(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    template: Template,
    *,
    replies: int,
    last: int,
    tools: Sequence[Mapping[str, Any]] = (),
    form: str = "any",
) -> list[int]:
    """Token ids between a sampled turn and the next one. replies: messages behind the sampled turn; last: its last id.

    The sampled ids stay as they are, whatever the template makes of earlier turns (some drop a finished reasoning):
    only what it writes behind the turn is taken, without the end token if that was sampled. form: in which the template
    writes calls of tools. Raises ModelError if the template refuses the messages, or leaves out the turn or what a tool
    says.
    """
    where = str(tokenizer.name_or_path or "the tokenizer")
    safe, cut = guarded(tokenizer, messages, template, where=where)
    place = len(safe) - replies - 1
    mark = unused_character("".join(message.content for message in safe) + str(tokenizer.chat_template) + cut)
    try:
        behind = _behind_turn(tokenizer, safe, place, mark, tools, where, template)
    except ModelError:
        if not any(message.role == "tool" for message in safe[place + 1 :]):
            raise
        found = _behind_calls(tokenizer, safe, place, mark, tools, form)
        if found is None or any(message.images for message in safe[place + 1 :]):
            raise
        behind = found
    tokens = tokens_behind(tokenizer, next(iter(template.special), ""), behind, cut, template)
    tokens = numbered(tokens, safe[place + 1 :], template)
    if last in template.end_tokens and last in tokens:
        before = tokens.index(last)
        if not decode(tokenizer, tokens[:before], unspoken=frozenset()).strip():
            return tokens[before + 1 :]
    return tokens


def _behind_turn(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    place: int,
    mark: str,
    tools: Sequence[Mapping[str, Any]],
    where: str,
    template: Template,
) -> str:
    """What the template writes behind the turn at that place. mark: a character of no message. Raises ModelError."""
    turns = [*messages[:place], Message("assistant", mark), *messages[place + 1 :]]
    text = render(tokenizer, turns, generation_prompt=True, where=where, tools=tools, template=template)
    _, found, behind = text.rpartition(mark)
    check_tool_messages(tokenizer, turns, where, template)
    if not found:
        raise ModelError(
            f"{where}: the chat template leaves out an earlier turn of the assistant",
            hint="give model.chat_template a file that writes every turn",
        )
    return behind


def _behind_calls(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    place: int,
    mark: str,
    tools: Sequence[Mapping[str, Any]],
    form: str,
) -> str | None:
    """The same of a template that takes a tool's reply only where the turn before it has calls as data, not as text.

    None: it writes the calls in no form that is known, or leaves the replies out all the same.
    """
    called = [call.name or "tool" for call in messages[place].calls] or ["tool"]
    answers = [message for message in messages[place + 1 :] if message.role == "tool"]
    calls = [
        {"id": f"call{number:05}", "type": "function", "function": {"name": name, "arguments": {"x": mark}}}
        for number, name in enumerate(called[:1] * max(0, len(answers) - len(called)) + called)
    ]
    turns = [message.as_dict() for message in messages[:place]]
    turns.append({"role": "assistant", "content": "", "tool_calls": calls})
    for message in messages[place + 1 :]:
        call = calls[min(len(calls) - 1, sum(turn["role"] == "tool" for turn in turns[place + 1 :]))]
        more = {"name": call["function"]["name"], "tool_call_id": call["id"]} if message.role == "tool" else {}
        turns.append(message.as_dict() | more)
    try:
        text = tokenizer.apply_chat_template(
            turns, tools=[dict(tool) for tool in tools] or None, tokenize=False, add_generation_prompt=True
        )
    except Exception:  # a template may do anything, and raise it
        return None
    assert isinstance(text, str)
    ends = [end for _, end, call in FORMS[form](text) if call.arguments.get("x") == mark] if form in FORMS else []
    behind = text[ends[-1] :] if ends else ""
    return behind if all(message.content in behind for message in answers) and ends else None
