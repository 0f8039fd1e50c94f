"""The chat template: audited once before a run, then messages to token ids and back. Knows no weights.

Rendered text is always tokenised without the tokenizer's own special tokens, so that what the template writes is what
the model reads, in sampling, training and evaluation alike.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from groupwise.data import Message
from groupwise.errors import ModelError
from groupwise.model.images import check_images
from groupwise.model.rendering import as_parts, check_limits, cut_message, unused_character, writes_parts_alone

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase
    from transformers.generation.configuration_utils import GenerationConfig

    from groupwise.model.gallery import Gallery

_ASKED = Message("user", "What is 1 + 1?")
_ANSWERED = Message("assistant", "It is 2.")
_INSTRUCTED = Message("system", "Answer with a number.")
_HINT = "model.chat_template: a file with a Jinja chat template"
_REASONING = "think|thinking|thought|thoughts|reason|reasoning|analysis|scratchpad"
_OPENED = re.compile(
    rf"[<\[◁]\|?(?:{_REASONING}|answer)\|?[>\]▷]\s*([<\[◁]\|?/(?:{_REASONING})\|?[>\]▷]\s*)?\Z", re.IGNORECASE
)
REASONED = re.compile(
    rf"\s*(?:[<\[◁]\|?(?:{_REASONING})\|?[>\]▷])?(.*)[<\[◁]\|?/(?:{_REASONING})\|?[>\]▷]", re.DOTALL | re.IGNORECASE
)
"""The reasoning that a text begins with, closed by a tag such as </think> or [/THINK]."""


@dataclass(frozen=True)
class Template:
    """What an audit found out about a tokenizer and its chat template.

    end_tokens: ids that end an answer. bos: ids put before the rendered text (empty if the template writes its own).
    special: strings that the tokenizer turns into special tokens, which a user's text must not reach; first those that
    leave the space behind them to the text. turn_end: the one that closes an answer; empty if the template writes none.
    unspoken: ids that are no part of an output's text: those that end, begin or pad one. tags: special tokens in pairs
    (<think>, </think>) that belong to what the assistant says. opening: what the generation prompt has already said for
    the assistant: "<think>\\n" in templates of reasoning models, mostly nothing. gallery: of the pictures, whose tokens
    have ids of their own; None: the model reads text alone.
    """

    end_tokens: frozenset[int]
    bos: tuple[int, ...]
    special: tuple[str, ...]
    supports_system: bool
    turn_end: str = ""
    unspoken: frozenset[int] = frozenset()
    tags: tuple[str, ...] = ()
    opening: str = ""
    gallery: "Gallery | None" = None


def audit(
    tokenizer: "PreTrainedTokenizerBase",
    configs: Sequence["PretrainedConfig | GenerationConfig | None"],
    *,
    where: str,
) -> Template:
    """The Template of a tokenizer whose chat template passed every check.

    configs: the model's config and its generation_config; both may name end tokens. Raises ModelError, before anything
    is sampled, if the template is missing or broken, doubles the BOS, rewrites the prompt once it has been answered,
    or leaves nothing that could end an answer.
    """
    if not tokenizer.chat_template:
        raise ModelError(f"{where}: the tokenizer has no chat template", hint=_HINT)
    check_limits(tokenizer, [[_ASKED], [_ASKED, _ANSWERED], [_INSTRUCTED, _ASKED, _ANSWERED, _ASKED]], where=where)
    prompt = render(tokenizer, [_ASKED], generation_prompt=True, where=where)
    if _ASKED.content not in prompt:
        raise ModelError(f"{where}: the chat template leaves the user's message out of {prompt!r}", hint=_HINT)
    added = {str(token): index for index, token in tokenizer.added_tokens_decoder.items()}
    special = _special(tokenizer)
    header, opening = split_opening(prompt)
    tail = _after_answer(tokenizer, prompt, special, where)
    turn_end = _turn_end(tail, added)
    ends = _end_tokens(tokenizer, configs, added.get(turn_end))
    unspoken = _unspoken(tokenizer, ends)
    if not ends:
        raise ModelError(
            f"{where}: no end token in generation_config, config, the tokenizer or after an answer ({tail!r})",
            hint="set eos_token in the tokenizer, or write a special token after an answer in the chat template",
        )
    return Template(
        end_tokens=ends,
        bos=_missing_bos(tokenizer, prompt, where),
        special=special if turn_end in special or not turn_end else (*special, turn_end),
        supports_system=_supports_system(tokenizer, where),
        turn_end=turn_end,
        unspoken=unspoken,
        tags=_tags(special, header + tail + _others(tokenizer, where), tokenizer.convert_ids_to_tokens([*unspoken])),
        opening=opening,
    )


def audit_for_reading(
    tokenizer: "PreTrainedTokenizerBase",
    configs: Sequence["PretrainedConfig | GenerationConfig | None"],
    *,
    where: str,
) -> Template:
    """The Template of a model that reads finished conversations and never answers: a reward model.

    A template that could lead no policy (it writes no generation prompt, nothing ends an answer) will do. Raises
    ModelError if it is missing or broken, doubles the BOS, or leaves out what the user or the assistant says.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            f"{where}: the tokenizer has no chat template", hint=f"give {where.partition('.')[0]}.chat_template"
        )
    check_limits(tokenizer, [[_ASKED, _ANSWERED], [_INSTRUCTED, _ASKED, _ANSWERED, _ASKED]], where=where)
    text = render(tokenizer, [_ASKED, _ANSWERED], generation_prompt=False, where=where)
    left_out = [message.role for message in (_ASKED, _ANSWERED) if message.content not in text]
    if left_out:
        raise ModelError(f"{where}: the chat template leaves out what the {left_out[0]} says: {text!r}")
    return Template(
        end_tokens=frozenset(),
        bos=_missing_bos(tokenizer, text, where),
        special=_special(tokenizer),
        supports_system=_supports_system(tokenizer, where),
        unspoken=_unspoken(tokenizer, ()),
    )


def encode(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    template: Template,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
) -> list[int]:
    """Token ids of a conversation up to where the assistant begins to speak.

    The ids are those of the rendered text, except that a special token's string inside a message stays text: a user
    who writes <|im_end|> ends no turn. Raises ModelError if the template refuses the messages.
    """
    where = str(tokenizer.name_or_path or "the tokenizer")
    safe, cut = guarded(tokenizer, messages, template, where=where)
    text = render(tokenizer, safe, generation_prompt=True, where=where, tools=tools, template=template)
    return numbered([*template.bos, *tokens_behind(tokenizer, "", text, cut, template)], messages, template)


def decode(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int], *, unspoken: frozenset[int]) -> str:
    """The text of token ids, without the unspoken ones and with every space as it was sampled.

    Tags that are special tokens stay: rewards judge them, and examples written from outputs are learned with them.
    """
    ids = [token for token in map(int, tokens) if token not in unspoken]
    text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


def split_opening(prompt: str) -> tuple[str, str]:
    """A rendered prompt, and what it has already said for the assistant at its end: a reasoning begun, or an empty one.

    "..<|assistant|><think>\\n" -> ("..<|assistant|>", "<think>\\n").
    """
    found = _OPENED.search(prompt)
    return (prompt[: found.start()], found[0]) if found else (prompt, "")


def guarded(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], template: Template, *, where: str
) -> tuple[list[Message], str]:
    """The messages, and the character that cuts every special token's string in them: no whole one is of theirs, but
    for the tags in what the assistant says.

    Raises ModelError if there is a system message and the template has no place for it.
    """
    check_images(messages, where, read=template.gallery is not None)
    if not template.supports_system and any(message.role == "system" for message in messages):
        raise ModelError(
            f"{where}: its chat template has no system role",
            hint="put the instruction into the user's message (questions.template), or give model.chat_template",
        )
    cut = unused_character("".join(message.content for message in messages) + str(tokenizer.chat_template))
    by_role = {"assistant": tuple(token for token in template.special if token not in template.tags)}
    return [cut_message(message, by_role.get(message.role, template.special), cut) for message in messages], cut


def render(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    *,
    generation_prompt: bool,
    where: str,
    tools: Sequence[Mapping[str, Any]] = (),
    template: Template | None = None,
) -> str:
    """The text that the template makes of messages and tools. Raises ModelError if it refuses them.

    template: its audit, where the messages have pictures: they are written as the processor writes them."""
    turns = [message.as_dict() for message in messages]
    if writes_parts_alone(tokenizer):
        turns = [{**turn, "content": as_parts(turn["content"])} for turn in turns]
    try:
        text = tokenizer.apply_chat_template(
            turns, tools=[dict(tool) for tool in tools] or None, tokenize=False, add_generation_prompt=generation_prompt
        )
    except Exception as error:  # a template may do anything, and raise it
        roles = ", ".join(message.role for message in messages)
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(
            f"{where}: the chat template refuses messages of roles {roles}: {reason}", hint=_HINT
        ) from None
    assert isinstance(text, str)
    images = [image for message in messages for image in message.images]
    gallery = None if template is None else template.gallery
    return gallery.expanded(text, images, where) if images and gallery is not None else text


def numbered(tokens: list[int], messages: Sequence[Message], template: Template) -> list[int]:
    """Token ids with those of the pictures in these messages, or in the first of them."""
    images = [image for message in messages for image in message.images]
    return template.gallery.numbered(tokens, images) if images and template.gallery is not None else tokens


def tokens_behind(
    tokenizer: "PreTrainedTokenizerBase", front: str, text: str, cut: str, template: Template
) -> list[int]:
    """Token ids of a text with cuts, as they are behind a special token; behind "", those of a text's beginning."""
    first, *rest = text.split(cut)
    tokens = _continued(tokenizer, first, front)
    for piece in rest:
        tokens += _continued(tokenizer, piece, template.special[0])
    return tokens


def _tokens(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _after_answer(tokenizer: "PreTrainedTokenizerBase", prompt: str, special: tuple[str, ...], where: str) -> str:
    """What the template writes after an answer, once prompt and answer are known to follow one another."""
    full = render(tokenizer, [_ASKED, _ANSWERED], generation_prompt=False, where=where)
    # A reasoning model's prompt may open <think>, which its template leaves out of a finished turn on purpose.
    prompt = prompt if full.startswith(prompt) else split_opening(prompt)[0]
    if not full.startswith(prompt):
        raise ModelError(
            f"{where}: the chat template's prompt {prompt!r} is not how the answered conversation begins: {full!r}",
            hint="give model.chat_template a file whose assistant turn starts with the generation prompt",
        )
    between, found, tail = full[len(prompt) :].partition(_ANSWERED.content)
    if not found:
        raise ModelError(f"{where}: the chat template leaves the answer out of {full!r}", hint=_HINT)
    begun = full[len(split_opening(prompt)[0]) :].partition(_ANSWERED.content)[0]
    opened = [token for token in special if token in between] if split_opening(begun)[0] else []
    if opened:
        raise ModelError(
            f"{where}: the chat template's generation prompt lacks {between!r}, which it writes before an answer",
            hint="make the template write it if add_generation_prompt is set",
        )
    return tail


def _special(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, ...]:
    marked = [token for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(str(token) for token in sorted(marked, key=lambda token: (token.rstrip, str(token))))


def _unspoken(tokenizer: "PreTrainedTokenizerBase", ends: Iterable[int]) -> frozenset[int]:
    marks = (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id)
    return frozenset([*ends, *(index for index in marks if index is not None)])


def _others(tokenizer: "PreTrainedTokenizerBase", where: str) -> str:
    """What the template writes around the turns of a system prompt and a tool, as far as it takes them."""
    found = ""
    for messages in ([_INSTRUCTED, _ASKED], [_ASKED, Message("tool", "2")]):
        try:
            found += render(tokenizer, messages, generation_prompt=False, where=where)
        except ModelError:
            continue
    return found


def _tags(special: Sequence[str], turns: str, unspoken: Sequence[str]) -> tuple[str, ...]:
    """Special tokens in pairs, <x> and </x> or [X] and [/X], of which the template writes none around a turn."""
    pairs = [(token, re.sub(r"^\W\|?", lambda start: start[0] + "/", token)) for token in special if len(token) > 2]
    return tuple(
        token
        for opening, closing in pairs
        if opening != closing and closing in special and not {opening, closing} & set(unspoken)
        for token in (opening, closing)
        if opening not in turns and closing not in turns
    )


def _turn_end(tail: str, added: dict[str, int]) -> str:
    """The token that closes an answer: the first added one after it, if nothing but space is in between; or ""."""
    tail = tail.lstrip()
    return max((token for token in added if tail.startswith(token)), key=len, default="")


def _end_tokens(
    tokenizer: "PreTrainedTokenizerBase",
    configs: Sequence["PretrainedConfig | GenerationConfig | None"],
    turn_end: int | None,
) -> frozenset[int]:
    named: list[int | list[int] | None] = [getattr(config, "eos_token_id", None) for config in configs]
    ids = {turn_end, tokenizer.eos_token_id}
    for item in named:
        ids.update(item if isinstance(item, list | tuple) else [item])
    return frozenset(int(index) for index in ids if index is not None)


def _missing_bos(tokenizer: "PreTrainedTokenizerBase", prompt: str, where: str) -> tuple[int, ...]:
    """The BOS to prepend: the tokenizer's, if it would add one to a text and the template writes none.

    Only the start counts: where the BOS also opens turns (SmolLM2's is <|im_start|>) or equals the end token (GPT-2),
    it is right to see it again later.
    """
    bos = tokenizer.bos_token_id
    if bos is None:
        return ()
    tokens = _tokens(tokenizer, prompt)
    if tokens[:2] == [bos, bos]:
        raise ModelError(f"{where}: the chat template writes BOS {tokenizer.bos_token!r} twice: {prompt!r}", hint=_HINT)
    if tokens[:1] == [bos]:
        return ()
    adds_bos = tokenizer(prompt, add_special_tokens=True)["input_ids"][:1] == [bos]
    return (bos,) if adds_bos else ()


def _supports_system(tokenizer: "PreTrainedTokenizerBase", where: str) -> bool:
    """False if the template refuses a system message, or accepts and drops it."""
    try:
        text = render(tokenizer, [_INSTRUCTED, _ASKED], generation_prompt=True, where=where)
    except ModelError:
        return False
    return _INSTRUCTED.content in text


def _continued(tokenizer: "PreTrainedTokenizerBase", piece: str, mark: str) -> list[int]:
    """Token ids of a piece of text as they are in the middle of one.

    It is tokenised behind a special token, then dropped: SentencePiece models put a space before a text's first word.
    """
    front = _tokens(tokenizer, mark)
    tokens = _tokens(tokenizer, mark + piece)
    assert tokens[: len(front)] == front, f"{mark!r} is not a token of its own before {piece!r}"
    return tokens[len(front) :]
