"""Whether a chat template writes what there is of tools: their schemas, and what a tool says. Knows no weights."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from groupwise.data import Message
from groupwise.errors import ModelError
from groupwise.model.template import render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_tools(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]
) -> None:
    """Raises ModelError if the template refuses the tools or writes nothing of them."""
    where = str(tokenizer.name_or_path or "the tokenizer")
    with_tools, without = (
        render(tokenizer, messages, generation_prompt=True, where=where, tools=given) for given in (tools, ())
    )
    if tools and with_tools == without:
        raise ModelError(
            f"{where}: the chat template writes nothing of the environment's {len(tools)} tools",
            hint="describe them in the conversation of reset() and leave `tools` out, or give model.chat_template",
        )


def check_tool_messages(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], where: str) -> None:
    """Raises ModelError if the template accepts a tool's message and drops it."""
    if not any(message.role == "tool" for message in messages):
        return
    # Not a search for the content: a template may write it as JSON, escaped.
    changed = [
        replace(message, content=message.content + "0") if message.role == "tool" else message for message in messages
    ]
    first, second = (render(tokenizer, turns, generation_prompt=False, where=where) for turns in (messages, changed))
    if first == second:
        raise ModelError(
            f"{where}: the chat template leaves a tool's message out",
            hint="write it into the user's turn, or give model.chat_template",
        )
