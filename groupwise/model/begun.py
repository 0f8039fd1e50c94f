"""A conversation that ends within the assistant's turn, as token ids: the turn is gone on with. Knows no weights."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from groupwise.data import Message
from groupwise.errors import ModelError
from groupwise.model.rendering import unused_character
from groupwise.model.template import Template, guarded, numbered, render, tokens_behind

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_begun(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    template: Template,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
) -> list[int]:
    """Token ids up to the last message's end, as transformers' `continue_final_message` has it: its turn stays open.

    Raises ModelError if the template refuses the messages, or does not write the last one as it is.
    """
    where = str(tokenizer.name_or_path or "the tokenizer")
    safe, cut = guarded(tokenizer, messages, template, where=where)
    begun = safe[-1].content
    mark = unused_character("".join(message.content for message in safe) + str(tokenizer.chat_template) + cut)
    turns = [*safe[:-1], Message("assistant", begun + mark)]
    rendered = render(tokenizer, turns, generation_prompt=False, where=where, tools=tools, template=template)
    text, found, _ = rendered.partition(mark)
    if not found or not text.endswith(begun.lstrip()):
        raise ModelError(
            f"{where}: the chat template rewrites the beginning of an answer: {begun.replace(cut, '')!r}",
            hint="leave out what it drops (for example finished reasoning), or give model.chat_template",
        )
    return numbered([*template.bos, *tokens_behind(tokenizer, "", text, cut, template)], messages, template)
