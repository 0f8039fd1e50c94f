"""What the chat template writes behind a turn of the policy, as token ids: the reply, and the next turn's beginning."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from groupwise.data import Message
from groupwise.errors import ModelError
from groupwise.model.rendering import unused_character
from groupwise.model.template import Template, decode, guarded, render, tokens_behind
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
) -> list[int]:
    """Token ids between a sampled turn and the next one. replies: messages behind the sampled turn; last: its last id.

    The sampled ids stay as they are, whatever the template makes of earlier turns (some drop a finished reasoning):
    only what it writes behind the turn is taken, without the end token if that was sampled. Raises ModelError if the
    template refuses the messages, or leaves out the turn or what a tool says.
    """
    where = str(tokenizer.name_or_path or "the tokenizer")
    safe, cut = guarded(tokenizer, messages, template, where=where)
    place = len(safe) - replies - 1
    mark = unused_character("".join(message.content for message in safe) + str(tokenizer.chat_template) + cut)
    turns = [*safe[:place], Message("assistant", mark), *safe[place + 1 :]]
    text = render(tokenizer, turns, generation_prompt=True, where=where, tools=tools)
    _, found, behind = text.rpartition(mark)
    check_tool_messages(tokenizer, turns, where)
    if not found:
        raise ModelError(
            f"{where}: the chat template leaves out an earlier turn of the assistant",
            hint="give model.chat_template a file that writes every turn",
        )
    tokens = tokens_behind(tokenizer, next(iter(template.special), ""), behind, cut, template)
    if last in template.end_tokens and last in tokens:
        before = tokens.index(last)
        if not decode(tokenizer, tokens[:before], unspoken=frozenset()).strip():
            return tokens[before + 1 :]
    return tokens
