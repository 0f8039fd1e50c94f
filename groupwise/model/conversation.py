"""Examples as token ids, and which of them are learned: what the policy would write. Knows no files and no losses.

What a conversation teaches is found by rendering it up to each answer twice: with the generation prompt, which is what
the policy reads, and with the answer. What the second has more, up to the token that ends the turn, is learned.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from groupwise.data import Example, Message
from groupwise.errors import ModelError
from groupwise.model.template import Template, guarded, render, tokens_behind

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_example(
    tokenizer: "PreTrainedTokenizerBase", example: Example, template: Template
) -> tuple[list[int], list[bool]]:
    """Token ids of an example, and for each True if it is learned.

    Conversation: the ids that the policy reads before an answer (False), writes for it, the token that ends its turn
    included (True), and what the template puts behind (False). Special tokens' strings in a message stay text. Where
    the prompt's last characters and the answer's first would make one token, they are two, as they are in sampling.
    Text: its ids, special tokens among them, with the tokenizer's BOS (False) before and its end token behind.
    Raises ModelError naming the example if the template cannot write it so.
    """
    if example.text is not None:
        return _text(tokenizer, example.text, example.where)
    return _conversation(tokenizer, example, template)


def _text(tokenizer: "PreTrainedTokenizerBase", text: str, where: str) -> tuple[list[int], list[bool]]:
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if eos is None:
        raise ModelError(
            f"{where}: the tokenizer has no end token to put behind a text", hint="set eos_token in the tokenizer"
        )
    tokens = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if tokens[:1] != [bos] and bos is not None and tokenizer(text)["input_ids"][:1] == [bos]:
        tokens.insert(0, bos)
    if tokens[-1:] != [eos]:
        tokens.append(eos)
    return tokens, [index > 0 or token != bos for index, token in enumerate(tokens)]


def _conversation(
    tokenizer: "PreTrainedTokenizerBase", example: Example, template: Template
) -> tuple[list[int], list[bool]]:
    where, end = example.where, template.turn_end
    messages, cut = guarded(tokenizer, example.messages, template, where=where)
    answers = [
        index
        for index, message in enumerate(messages)
        if message.role == "assistant" and index >= example.prompt_messages
    ]
    assert answers[-1:] == [len(messages) - 1], f"{where}: does not end with an answer to learn"
    if not end:
        raise ModelError(
            f"{where}: the chat template writes no end token after an answer, so none would be learned",
            hint="give model.chat_template a file that writes one, such as {{ eos_token }}",
        )
    _check_tools(tokenizer, messages, where)
    # No token reaches over the end of a turn, which is a token of its own: pieces are those of the whole there.
    pieces: list[tuple[list[int], bool]] = [(list(template.bos), False)]
    done, behind, tail = "", "", ""
    for index in answers:
        prompt = render(tokenizer, messages[:index], generation_prompt=True, where=where)
        _check_goes_on(done, prompt, cut, where)
        answered = render(tokenizer, messages[: index + 1], generation_prompt=False, where=where)
        _check_goes_on(prompt, answered, cut, where)
        answer, found, tail = answered[len(prompt) :].partition(end)
        if not found:
            raise ModelError(
                f"{where}: the chat template does not end message {index + 1} with {end!r}",
                hint="give model.chat_template a file that ends every answer alike",
            )
        pieces.append((tokens_behind(tokenizer, behind, prompt[len(done) :], cut, template), False))
        pieces.append((tokens_behind(tokenizer, template.special[0], answer + end, cut, template), True))
        done, behind = prompt + answer + end, end
    pieces.append((tokens_behind(tokenizer, end, tail, cut, template), False))
    return [token for ids, _ in pieces for token in ids], [learned for ids, learned in pieces for _ in ids]


def _check_goes_on(shorter: str, longer: str, cut: str, where: str) -> None:
    """Raises ModelError unless the longer text begins with the shorter: the policy would read or write another one."""
    if longer.startswith(shorter):
        return
    differ = (place for place, (a, b) in enumerate(zip(shorter, longer, strict=False)) if a != b)
    start = next(differ, min(len(shorter), len(longer)))
    was, became = (text[start : start + 40].replace(cut, "") for text in (shorter, longer))
    raise ModelError(
        f"{where}: the chat template writes a turn otherwise once the conversation goes on: {was!r} became {became!r}",
        hint="give one example per assistant turn (prompt, completion), or another model.chat_template",
    )


def _check_tools(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], where: str) -> None:
    """Raises ModelError if the template accepts a tool's message and drops it."""
    if not any(message.role == "tool" for message in messages):
        return
    # Not a search for the content: a template may write it as JSON, escaped.
    changed = [
        dataclasses.replace(message, content=message.content + "0") if message.role == "tool" else message
        for message in messages
    ]
    first, second = (render(tokenizer, turns, generation_prompt=False, where=where) for turns in (messages, changed))
    if first == second:
        raise ModelError(
            f"{where}: the chat template leaves a tool's message out",
            hint="write it into the user's turn, or give model.chat_template",
        )
