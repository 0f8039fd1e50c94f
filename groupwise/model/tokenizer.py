"""Text to token ids and back for one model: tokenizer, audited chat template, context. Loads no weights."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from groupwise.config import ModelConfig
from groupwise.data import Example, Message
from groupwise.envs.calls import Spoken, read_calls
from groupwise.errors import ModelError
from groupwise.model import conversation, reply
from groupwise.model import template as templates
from groupwise.model.begun import encode_begun
from groupwise.model.gallery import Gallery
from groupwise.model.processor import bound_pixels, load_processor, reads_pictures, reads_text
from groupwise.model.rendering import set_variables
from groupwise.model.source import NO_MODEL, source_of
from groupwise.model.template import Template, audit
from groupwise.model.tools import ToolTemplate, as_users, described, tool_template
from groupwise.model.traits import context
from groupwise.model.vocabulary import check_vocabulary

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChatTokenizer:
    """What turns a conversation into the ids that a model reads.

    source: folder or hub name that the weights are read from. config: the model's. context: tokens that a question
    and its output may have together. trust_remote_code: as in ModelConfig.
    """

    source: str
    tokenizer: Any
    template: Template
    config: Any
    context: int
    trust_remote_code: bool | None = None
    processor: Any = None
    """What makes pixels of pictures, with this tokenizer in it; None: the model reads text alone."""

    @property
    def gallery(self) -> Gallery | None:
        """The pictures that were read, whose tokens have ids of their own; None: the model reads text alone."""
        return self.template.gallery

    @property
    def saved(self) -> Any:
        """What is saved beside the model: the processor with the tokenizer in it, or the tokenizer."""
        return self.tokenizer if self.processor is None else self.processor

    @property
    def end_tokens(self) -> frozenset[int]:
        return self.template.end_tokens

    def encode(self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Token ids of a conversation up to where the assistant begins to speak, or goes on if the last turn is its.

        tools: as JSON schemas, which the template writes, or else the system prompt.
        """
        messages, tools = self._with_tools(messages, tools)
        if messages and messages[-1].role == "assistant":
            return encode_begun(self.tokenizer, messages, self.template, tools=tools)
        return templates.encode(self.tokenizer, messages, self.template, tools=tools)

    def encode_reply(
        self, messages: Sequence[Message], *, replies: int, last: int, tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """Token ids between a sampled turn, whose last id is `last`, and the next; see groupwise.model.reply."""
        if tools and not self.tools.written:
            replies = len(as_users(messages[-replies:]))
        messages, tools = self._with_tools(messages, tools)
        form = self.tools.form if tools else "any"
        return reply.encode_reply(
            self.tokenizer, messages, self.template, replies=replies, last=last, tools=tools, form=form
        )

    def read_calls(self, text: str) -> Spoken:
        """A turn of the policy as what it says and the tools that it calls, in the template's own form."""
        return read_calls(text, self.tools.form)

    def encode_example(self, example: Example) -> list[tuple[list[int], list[bool]]]:
        """Token ids of an example, and for each True if it is learned; several where its turns are learned apart."""
        return conversation.encode_example(self.tokenizer, example, self.template)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids, without those that end, begin or pad one, and without pictures."""
        return templates.decode(self.tokenizer, self._words(tokens), unspoken=self.template.unspoken)

    def decode_all(self, tokens: Sequence[int]) -> str:
        """Text of token ids, those that end, begin or pad one among them."""
        return templates.decode(self.tokenizer, self._words(tokens), unspoken=frozenset())

    def _words(self, tokens: Sequence[int]) -> Sequence[int]:
        """The ids that are no picture's."""
        return tokens if self.gallery is None else [token for token in tokens if token < self.gallery.first]

    @cached_property
    def tools(self) -> ToolTemplate:
        """What the template does with tools."""
        return tool_template(self.tokenizer)

    def _with_tools(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]
    ) -> tuple[Sequence[Message], Sequence[Mapping[str, Any]]]:
        if not tools or self.tools.written:
            return messages, tools
        shown = described((), tools, system=True)[0].content
        if shown not in self._writable and self.again(shown) != shown:
            where = self.tokenizer.name_or_path or "the tokenizer"
            raise ModelError(
                f"{where}: the chat template writes nothing of the environment's {len(tools)} tools, and the tokenizer "
                "has no tokens for a description of them",
                hint="describe them in the conversation of reset() and leave `tools` out, or give model.chat_template",
            )
        self._writable.add(shown)
        return described(messages, tools, system=self.template.supports_system), ()

    @cached_property
    def _writable(self) -> set[str]:
        """Descriptions of tools that the tokenizer is known to write."""
        return set()

    def again(self, text: str) -> str:
        """The text as the tokenizer gives it back."""
        return self.decode_all(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def load_tokenizer(
    config: ModelConfig,
    *,
    seed: int = 0,
    section: str = "model",
    audit: Callable[..., Template] = audit,
    stop: Sequence[str] = (),
) -> ChatTokenizer:
    """The tokenizer of a recipe's model, its template audited. Raises ModelError with what is wrong and what to do.

    section: of the recipe, in which the model is named. stop: the strings of rollout.stop, which an output must be able
    to have."""
    from transformers import GenerationConfig

    where = audited = f"{section}.path = {config.path!r}"
    source, tokenizer, model_config, processor = _read(config.path, seed, where, config.trust_remote_code)
    check_vocabulary(tokenizer, model_config, resize=config.resize_embeddings, where=where)
    try:
        generation = GenerationConfig.from_pretrained(source)
    except OSError:  # optional file
        generation = None
    if config.chat_template is not None:
        audited = f"{section}.chat_template = {config.chat_template!r}"
        try:
            tokenizer.chat_template = Path(config.chat_template).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise ModelError(f"{audited}: {reason}", hint="give the path of a Jinja file") from None
    set_variables(tokenizer, config.chat_template_kwargs, where=f"{section}.chat_template_kwargs")
    template = audit(tokenizer, [generation, model_config], where=audited)
    if not template.end_tokens:  # it reads conversations and never answers: pictures are for those that do
        processor = None
    if processor is not None:
        processor.chat_template = tokenizer.chat_template
        template = replace(template, gallery=_gallery(processor, model_config, config, section))
    found = ChatTokenizer(
        source=source,
        tokenizer=tokenizer,
        template=template,
        processor=processor,
        config=model_config,
        context=_context(source, model_config),
        trust_remote_code=config.trust_remote_code,
    )
    _check_stops(found, stop)
    return found


def other_model(ours: ChatTokenizer, path: str, *, seed: int = 0, section: str) -> ChatTokenizer:
    """Another model that reads our tokens: its weights' place and config, with our tokenizer and chat template.

    section: of the recipe, in which it is named. Raises ModelError if it cannot be read, or unless its tokenizer gives
    every token the same id.
    """
    where = f"{section}.path = {path!r}"
    source, tokenizer, config, processor = _read(path, seed, where, ours.trust_remote_code)
    if (processor is None) != (ours.processor is None):
        reads, other = ("text alone", "pictures") if processor is None else ("pictures", "text alone")
        raise ModelError(f"{where}: it reads {reads}, and the policy {other}", hint="use a model of the same kind")
    mine, theirs = ours.tokenizer.get_vocab(), tokenizer.get_vocab()
    if mine != theirs:
        apart = sorted(token for token in mine.keys() | theirs.keys() if mine.get(token) != theirs.get(token))
        raise ModelError(
            f"{where}: its tokenizer is not the policy's: {len(apart)} tokens differ, {apart[0]!r} for one",
            hint="use a model with the same vocabulary",
        )
    return replace(ours, source=source, config=config, context=_context(source, config))


def _gallery(processor: Any, model_config: Any, config: ModelConfig, section: str) -> Gallery:
    """A gallery whose ids begin behind the embedding's rows and the tokenizer's ids."""
    rows = getattr(model_config.get_text_config(decoder=True), "vocab_size", None) or 0
    first = max(rows, 1 + max(processor.tokenizer.get_vocab().values()))
    least, most = bound_pixels(processor, least=config.min_pixels, most=config.max_pixels)
    return Gallery(processor, model_config, first=first, least=least, most=most, where=f"{section}.path")


def _read(path: str, seed: int, where: str, trust: bool | None) -> tuple[str, Any, Any, Any]:
    """Source, tokenizer, config and processor of the model behind a path; None for a model that reads text alone."""
    from transformers import AutoConfig, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    source = source_of(path, seed=seed, where=where, trust=trust)
    allowed = {"trust_remote_code": bool(trust)}
    try:
        config = AutoConfig.from_pretrained(source, **allowed)
        processor = _processor(source, config, trust)
        if processor is not None:
            tokenizer = processor.tokenizer
            tokenizer.chat_template = processor.chat_template or tokenizer.chat_template
            return source, tokenizer, config, processor
        tokenizer = AutoTokenizer.from_pretrained(source, **allowed)
    except Exception as error:  # whatever a damaged or foreign file makes of transformers
        hint = "install the torchvision that belongs to your torch" if "orchvision" in str(error) else NO_MODEL
        raise ModelError(f"{where}: {first_line(error)}", hint=hint) from None
    if getattr(config, "vision_config", None) is not None and not trust and not reads_text(config):
        raise ModelError(
            f"{where}: a model of the kind {config.model_type} without a processor of pictures that is known here",
            hint="give the folder with its preprocessor_config.json too (docs/models.md lists kinds that are known)",
        )
    return source, tokenizer, config, None


def _processor(source: str, config: Any, trust: bool | None) -> Any:
    """A model's processor of pictures; None for a model that is given text alone. Raises what transformers raises."""
    if not reads_pictures(source, config):
        return None
    try:
        return load_processor(source, config, trust=bool(trust))
    except Exception as error:
        if not reads_text(config):
            raise
        log.warning("%s reads text alone here: its processor cannot be loaded (%s)", source, first_line(error))
        return None


def _check_stops(tokenizer: ChatTokenizer, stop: Sequence[str]) -> None:
    """Raises ModelError for a stop string that no output could have: this tokenizer does not write it."""

    for text in stop:
        if not any(text in tokenizer.again(before + text) for before in ("", "a", "\n")):
            written = tokenizer.again(text)
            raise ModelError(
                f"rollout.stop: {text!r} would never end an output: this tokenizer writes it as {written!r}",
                hint="give a string of characters that the model can write",
            )


def _context(source: str, config: Any) -> int:
    tokens, why = context(config)
    if why:
        log.warning("%s: a question and its output may have %d tokens together, since its %s", source, tokens, why)
    return tokens


def first_line(error: BaseException) -> str:
    """The start of an error that another library raised, short enough for one line of ours."""
    return (str(error).strip() or type(error).__name__).split("\n")[0][:300]
