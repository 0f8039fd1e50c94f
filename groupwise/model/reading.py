"""Finished conversations as token ids, and the tokens at which a model that judges them is asked. Knows no weights."""

from collections.abc import Sequence
from dataclasses import dataclass

from groupwise.data import Message
from groupwise.errors import ModelError
from groupwise.model.rendering import unused_character
from groupwise.model.template import guarded, render, tokens_behind
from groupwise.model.tokenizer import ChatTokenizer


@dataclass(frozen=True)
class Reading:
    """tokens: T ids of a conversation. places: indices, rising, of the tokens whose states are read."""

    tokens: tuple[int, ...]
    places: tuple[int, ...]


def whole(
    tokenizer: ChatTokenizer, prompt: Sequence[Message], answer: str, *, padding: int | None, limit: int | None = None
) -> Reading:
    """A conversation read at its end: at the last token that is not the padding, as transformers reads it.

    The ids are those of the chat template's text, except that a special token's string inside a message stays text.
    limit: tokens; of a longer one the beginning of the answer is left out, then that of the prompt. Raises ModelError
    if the template refuses the messages.
    """
    [tokens] = _pieces(tokenizer, prompt, [answer])
    if limit is not None and len(tokens) > limit:
        asked, answered = _pieces(tokenizer, prompt, ["", answer])
        room = limit - len(asked)
        tokens = [*asked, *answered[-room:]] if room > 0 else [*asked, *answered][-limit:]
    counting = [place for place, token in enumerate(tokens) if token != padding]
    return Reading(tuple(tokens), (counting[-1] if counting else len(tokens) - 1,))


def by_steps(
    tokenizer: ChatTokenizer, prompt: Sequence[Message], steps: Sequence[str], *, rest: str = "", limit: int
) -> Reading:
    """A conversation read at the last token of each step of its answer, which is the steps and then the rest.

    No token reaches over the end of a step. limit: tokens; what is behind them is left out, and so are its steps.
    Raises ModelError as `whole` does, or if the template does not write an answer once and in its order.
    """
    tokens: list[int] = []
    ends = []
    for piece in _pieces(tokenizer, prompt, [*steps, rest]):
        tokens += piece
        ends.append(len(tokens) - 1)
    return Reading(tuple(tokens[:limit]), tuple(end for end in ends[:-1] if end < limit))


def padding_of(tokenizer: ChatTokenizer) -> int | None:
    """The id that fills rows up: the model's, else its tokenizer's, else that of its end token."""
    named = (tokenizer.config.get_text_config().pad_token_id, tokenizer.tokenizer.pad_token_id)
    return next((index for index in named if index is not None), tokenizer.tokenizer.eos_token_id)


def _pieces(tokenizer: ChatTokenizer, prompt: Sequence[Message], parts: Sequence[str]) -> list[list[int]]:
    """Token ids of a conversation whose answer is these parts, cut where they meet: one list a part.

    The first begins with the prompt, the last ends with what the template puts behind an answer."""
    hf, template, where = tokenizer.tokenizer, tokenizer.template, tokenizer.source
    pictures = [image for message in prompt for image in message.images]
    if pictures:
        raise ModelError(
            f"{where}: a conversation with a picture, {pictures[0].name}: reward models read text alone",
            hint="leave the picture out, or judge by a function of its own (docs/rewards.md)",
        )
    contents = "".join([*parts, *(message.content for message in prompt), str(hf.chat_template)])
    mark = unused_character(contents + unused_character(contents))  # the first is `guarded`'s own
    messages, cut = guarded(hf, [*prompt, Message("assistant", mark.join(parts))], template, where=where)
    texts = render(hf, messages, generation_prompt=False, where=where, template=template).split(mark)
    if len(texts) != len(parts):
        raise ModelError(
            f"{where}: the chat template does not write an answer once and whole: {len(parts)} parts became "
            f"{len(texts)}",
            hint="give a chat template that does",
        )
    behind = template.special[0] if template.special else ""
    first, *others = texts
    pieces = [[*template.bos, *tokens_behind(hf, "", first, cut, template)]]
    return pieces + [tokens_behind(hf, behind, text, cut, template) for text in others]
