"""Examples as token ids, and which of them are learned: what the policy would write. Knows no files and no losses.

What a conversation teaches is found by rendering it up to each answer twice: with the generation prompt, which is what
the policy reads, and with the answer. What the second has more, up to the token that ends the turn, is learned.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from groupwise.data import Example, Message
from groupwise.errors import ModelError
from groupwise.model.template import REASONED, Template, guarded, numbered, render, split_opening, tokens_behind
from groupwise.model.tools import check_tool_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_example(
    tokenizer: "PreTrainedTokenizerBase", example: Example, template: Template
) -> list[tuple[list[int], list[bool]]]:
    """Sequences of token ids that teach an example, and for each id True if it is learned: mostly one sequence.

    Conversation: the ids that the policy reads before an answer (False), writes for it, the token that ends its turn
    included (True), and what the template puts behind (False). Special tokens' strings in a message stay text. Where
    the prompt's last characters and the answer's first would make one token, they are two, as they are in sampling.
    A template that leaves the reasoning out of earlier turns makes a sequence of each turn, behind what the policy
    would read there.
    Text: its ids, special tokens among them, with the tokenizer's BOS (False) before and its end token behind.
    Raises ModelError naming the example if the template cannot write it so.
    """
    if example.text is not None:
        return [_text(tokenizer, example.text, example.where)]
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
) -> list[tuple[list[int], list[bool]]]:
    where, end = example.where, template.turn_end
    messages, cut = guarded(tokenizer, example.messages, template, where=where)
    answers = example.learned
    assert answers[-1:] == [len(messages) - 1], f"{where}: does not end with an answer to learn"
    if not end:
        raise ModelError(
            f"{where}: the chat template writes no end token after an answer, so none would be learned",
            hint="give model.chat_template a file that writes one, such as {{ eos_token }}",
        )
    check_tool_messages(tokenizer, messages, where, template)
    # No token reaches over the end of a turn, which is a token of its own: pieces are those of the whole there.
    start = [(list(template.bos), False)] if template.bos else []
    sequences: list[list[tuple[list[int], bool]]] = []
    done, behind, tail = "", "", ""
    for index in answers:
        prompt = render(tokenizer, messages[:index], generation_prompt=True, where=where, template=template)
        if not sequences or not prompt.startswith(done):
            if sequences:
                sequences[-1].append((tokens_behind(tokenizer, end, tail, cut, template), False))
            sequences.append([*start])
            done, behind = "", ""
        answer, tail = _written(tokenizer, messages[: index + 1], prompt, template, cut=cut, where=where)
        sequences[-1] += [
            (tokens_behind(tokenizer, behind, prompt[len(done) :], cut, template), False),
            (tokens_behind(tokenizer, template.special[0], answer + end, cut, template), True),
        ]
        done, behind = prompt + answer + end, end
    sequences[-1].append((tokens_behind(tokenizer, end, tail, cut, template), False))
    return [
        (
            numbered([token for ids, _ in pieces for token in ids], messages, template),
            [learned for ids, learned in pieces for _ in ids],
        )
        for pieces in sequences
    ]


def _written(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    prompt: str,
    template: Template,
    *,
    cut: str,
    where: str,
) -> tuple[str, str]:
    """What the policy has to write behind the prompt for the last message, up to the end token; what stands behind it.

    It is what the template writes there, unless that leaves out the message's reasoning: then it is the message.
    """
    end, content = template.turn_end, messages[-1].content
    answered = render(tokenizer, messages, generation_prompt=False, where=where, template=template)
    header, opening = split_opening(prompt)
    reasoned = REASONED.match(content)
    cuts = reasoned is not None and reasoned[1].strip() not in answered[len(header) :]
    if not cuts and (answered.startswith(prompt) or not opening):
        _check_goes_on(prompt, answered, cut, where)
        written, begun = None, prompt
    else:
        _check_goes_on(header, answered, cut, where)
        written, begun = _behind(opening, content), header
        if written is None:
            raise ModelError(
                f"{where}: the chat template's prompt ends with {opening!r}, and message {len(messages)} does not go "
                "on from there",
                hint="write its reasoning into it (<think>..</think> before the answer), set the template's variable "
                "for it in model.chat_template_kwargs, or give another model.chat_template",
            )
    answer, found, tail = answered[len(begun) :].partition(end)
    if not found:
        raise ModelError(
            f"{where}: the chat template does not end message {len(messages)} with {end!r}",
            hint="give model.chat_template a file that ends every answer alike",
        )
    return (answer if written is None else written), tail


def _behind(opening: str, content: str) -> str | None:
    """What is left to say of a message whose beginning the prompt has said; None if it does not begin so.

    ("<think>\\n", "<think>one and one</think> 2") -> "one and one</think> 2"; a message that closes a reasoning and
    opens none has left the opening to the prompt.
    """
    mark, spoken = opening.strip(), content.lstrip()
    if not mark:
        return content
    if spoken.startswith(mark):
        return spoken[len(mark) :].removeprefix(opening[len(opening.rstrip()) :])
    first, closed = mark.split()[0], "</" in mark or "[/" in mark
    closes = first[0] + "/" + first[1:]
    if closed:
        return None if first in content or closes in content else content
    return content if closes in content and first not in content else None


def _check_goes_on(shorter: str, longer: str, cut: str, where: str) -> None:
    """Raises ModelError unless the longer text begins with the shorter: the policy would read or write another one."""
    if longer.startswith(shorter):
        return
    differ = (place for place, (a, b) in enumerate(zip(shorter, longer, strict=False)) if a != b)
    start = next(differ, min(len(shorter), len(longer)))
    was, became = (text[start : start + 40].replace(cut, "") for text in (shorter, longer))
    raise ModelError(
        f"{where}: the chat template writes an answered turn otherwise than its prompt: {was!r} became {became!r}",
        hint="give another model.chat_template, whose answered turn begins with the generation prompt",
    )
