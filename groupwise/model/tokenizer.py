"""Text to token ids and back for one model: tokenizer, audited chat template, context. Loads no weights."""

import logging
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from groupwise import registry
from groupwise.config import ModelConfig
from groupwise.data import Example, Message
from groupwise.errors import ModelError
from groupwise.model import conversation
from groupwise.model import template as templates
from groupwise.model.rendering import set_variables
from groupwise.model.template import Template, audit
from groupwise.model.traits import context

log = logging.getLogger(__name__)

NO_MODEL = "give a folder with config.json and *.safetensors, a hub name, or one of `groupwise list models`"
HUB_SECONDS = 5.0
"""How long the hub may take for its first answer."""


@dataclass(frozen=True)
class ChatTokenizer:
    """What turns a conversation into the ids that a model reads.

    source: folder or hub name that the weights are read from. config: the model's. context: tokens that a question
    and its output may have together.
    """

    source: str
    tokenizer: Any
    template: Template
    config: Any
    context: int

    @property
    def end_tokens(self) -> frozenset[int]:
        return self.template.end_tokens

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation, up to and including the generation prompt."""
        return templates.encode(self.tokenizer, messages, self.template)

    def encode_example(self, example: Example) -> list[tuple[list[int], list[bool]]]:
        """Token ids of an example, and for each True if it is learned; several where its turns are learned apart."""
        return conversation.encode_example(self.tokenizer, example, self.template)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids, without those that end, begin or pad one."""
        return templates.decode(self.tokenizer, tokens, unspoken=self.template.unspoken)

    def decode_all(self, tokens: Sequence[int]) -> str:
        """Text of token ids, those that end, begin or pad one among them."""
        return templates.decode(self.tokenizer, tokens, unspoken=frozenset())


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

    where = f"{section}.path = {config.path!r}"
    source, tokenizer, model_config = _read(config.path, seed, where)
    try:
        generation = GenerationConfig.from_pretrained(source)
    except OSError:  # optional file
        generation = None
    if config.chat_template is not None:
        try:
            tokenizer.chat_template = Path(config.chat_template).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            message = f"{section}.chat_template = {config.chat_template!r}: {first_line(error)}"
            raise ModelError(message, hint="give the path of a Jinja file") from None
    set_variables(tokenizer, config.chat_template_kwargs, where=f"{section}.chat_template_kwargs")
    found = ChatTokenizer(
        source=source,
        tokenizer=tokenizer,
        template=audit(tokenizer, [generation, model_config], where=where),
        config=model_config,
        context=_context(source, model_config),
    )
    _check_stops(found, stop)
    return found


def other_model(ours: ChatTokenizer, path: str, *, seed: int = 0, section: str) -> ChatTokenizer:
    """Another model that reads our tokens: its weights' place and config, with our tokenizer and chat template.

    section: of the recipe, in which it is named. Raises ModelError if it cannot be read, or unless its tokenizer gives
    every token the same id.
    """
    where = f"{section}.path = {path!r}"
    source, tokenizer, config = _read(path, seed, where)
    mine, theirs = ours.tokenizer.get_vocab(), tokenizer.get_vocab()
    if mine != theirs:
        apart = sorted(token for token in mine.keys() | theirs.keys() if mine.get(token) != theirs.get(token))
        raise ModelError(
            f"{where}: its tokenizer is not the policy's: {len(apart)} tokens differ, {apart[0]!r} for one",
            hint="take a model with the same vocabulary",
        )
    return replace(ours, source=source, config=config, context=_context(source, config))


def _read(path: str, seed: int, where: str) -> tuple[str, Any, Any]:
    """Source, tokenizer and config of the model behind a path."""
    from transformers import AutoConfig, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    source = _source(path, seed, where)
    try:
        return source, AutoTokenizer.from_pretrained(source), AutoConfig.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{where}: {first_line(error)}", hint=NO_MODEL) from None


def _check_stops(tokenizer: ChatTokenizer, stop: Sequence[str]) -> None:
    """Raises ModelError for a stop string that no output could have: this tokenizer does not write it."""

    def again(text: str) -> str:
        return tokenizer.decode_all(tokenizer.tokenizer(text, add_special_tokens=False)["input_ids"])

    for text in stop:
        if not any(text in again(before + text) for before in ("", "a", "\n")):
            raise ModelError(
                f"rollout.stop: {text!r} would never end an output: this tokenizer writes it as {again(text)!r}",
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


def _source(path: str, seed: int, where: str) -> str:
    """The folder of a built-in model, made if need be; else the folder or hub name itself."""
    if path in registry.MODELS:
        return str(registry.load(registry.MODELS, path)(seed))
    if Path(path).exists() and not (Path(path) / "config.json").is_file():
        raise ModelError(f"{where}: no config.json there", hint=NO_MODEL)
    if not Path(path).exists() and (path.count("/") != 1 or path[0] in "./~"):
        raise ModelError(f"{where}: no such folder or built-in model", hint=registry.nearest(path, registry.MODELS))
    if not Path(path).exists():
        _go_offline_if_unreachable()
    return path


def _go_offline_if_unreachable() -> None:
    """Where the hub does not answer, has its client read its cache at once instead of trying again for a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # an answer, though not a friendly one
    except OSError as error:
        # A certificate that only Python's own client does not know says nothing against the hub.
        constants.HF_HUB_OFFLINE = not isinstance(getattr(error, "reason", None), ssl.SSLError)
