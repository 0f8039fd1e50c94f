"""A chat template is a program of whoever made the model: tried within limits before it is used, and its variables.

It runs in transformers' sandbox, which bounds neither time nor memory; so its first renderings are made in a child
process that has little of both.
"""

import os
import re
import resource
import select
import signal
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groupwise.data import Message
from groupwise.errors import ModelError
from groupwise.registry import nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 5
"""Of a processor, for a handful of short conversations, which take milliseconds."""
WAIT_SECONDS = 120.0
"""Until the child has had them, on a machine that does much else."""
MEMORY = 2**29  # bytes that the child may add to what its parent has
CHARACTERS = 1_000_000
"""Of one short conversation as text."""

Value = bool | int | float | str | None
_GIVEN = {"messages", "tools", "documents", "add_generation_prompt"}
_tried: set[str] = set()


def check_limits(
    tokenizer: "PreTrainedTokenizerBase", conversations: Sequence[Sequence[Message]], *, where: str
) -> None:
    """Raises ModelError if the tokenizer's template takes too much time or memory, or writes too much, of these.

    What else is wrong with it is not looked at: who renders is told. A template is tried once in a process.
    """
    text = str(tokenizer.chat_template)
    if text in _tried:
        return

    def longest() -> int:
        return max(_length(tokenizer, messages) for messages in conversations)

    outcome = _outcome(longest)
    if outcome != "":
        raise ModelError(
            f"{where}: the chat template {outcome} on a conversation of a few words",
            hint="use a model from a source you trust, or give model.chat_template: a file with a Jinja template",
        )
    _tried.add(text)


def set_variables(tokenizer: "PreTrainedTokenizerBase", values: Mapping[str, Value], *, where: str) -> None:
    """Gives variables of the tokenizer's chat template their values, within its text: whoever renders it has them.

    So an exported tokenizer asks as the run did; who passes a variable by name overrides it. where: the setting.
    Raises ModelError for a name that the template does not read.
    """
    template = tokenizer.chat_template
    if not values or not isinstance(template, str):
        return
    known = sorted(_read_variables(template) - _GIVEN - set(tokenizer.special_tokens_map))
    for name in values:
        if name not in known:
            raise ModelError(
                f"{where}.{name}: the chat template reads no such variable",
                hint=nearest(name, known) if known else "it reads none",
            )
    # The newline is the one that Jinja drops behind a block: what follows stands as it did at the start of a line.
    prefix = "".join(
        f"{{% if {name} is undefined %}}{{% set {name} = {_literal(value)} %}}{{% endif %}}\n"
        for name, value in sorted(values.items())
    )
    if not template.startswith(prefix):  # else it is a checkpoint's, which has them
        tokenizer.chat_template = prefix + template


def _read_variables(template: str) -> set[str]:
    from jinja2 import Environment, TemplateError, meta
    from transformers.utils import chat_template_utils

    compiled = chat_template_utils._compile_jinja_template(template)
    environment: Environment = compiled.environment
    try:
        return set(meta.find_undeclared_variables(environment.parse(template)))
    except TemplateError:  # told where it is rendered
        return set()


def writes_parts_alone(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """True if a template writes text that is a list of parts and none that is a string, as some of models that read
    pictures do. A template is tried once in a process."""
    text = str(tokenizer.chat_template)
    if text not in _PARTS_ALONE:
        turn = {"role": "user", "content": _WORDS}
        in_parts = {**turn, "content": as_parts(_WORDS)}
        _PARTS_ALONE[text] = not _writes(tokenizer, turn) and _writes(tokenizer, in_parts)
    return _PARTS_ALONE[text]


_WORDS = "What is 1 + 1?"
_PARTS_ALONE: dict[str, bool] = {}


def _writes(tokenizer: "PreTrainedTokenizerBase", turn: dict[str, Any]) -> bool:
    try:
        text = str(tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True))
    except Exception:  # told where it is rendered
        return False
    return _WORDS in text and "'type'" not in text  # else the list is written, not what is in it


def as_parts(content: Any) -> Any:
    """A turn's text as a list of parts; a list as it is."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def cut_message(message: Message, special: tuple[str, ...], cut: str) -> Message:
    """A message with a cut in every special token's string of its text; see `_cut_special`."""
    parts = tuple(_cut_special(part, special, cut) if isinstance(part, str) else part for part in message.parts)
    return replace(message, content=_cut_special(message.content, special, cut), parts=parts)


def _cut_special(content: str, special: tuple[str, ...], cut: str) -> str:
    """The content with a cut after the first character of every special token's string, overlapping ones included.

    The cut goes in before rendering, since only then is it known which strings are the user's and which the template's.
    """
    breakable = [re.escape(token) for token in special if len(token) > 1]
    if not breakable:
        return content
    return re.sub(f"(?=(?:{'|'.join(breakable)}))(.)", lambda match: match[1] + cut, content, flags=re.DOTALL)


def unused_character(text: str) -> str:
    """A private-use character that the text does not have."""
    return next(character for character in map(chr, range(0xE000, 0xF8FF)) if character not in text)


def _literal(value: Value) -> str:
    """A value as Jinja writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.encode("unicode-escape").decode().replace("'", "\\'") + "'"
    return repr(value)


def _length(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message]) -> int:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    asks = messages[-1].role != "assistant"
    return len(str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=asks)))


def _outcome(longest: Callable[[], int]) -> str:
    """What is wrong with how a child process fares that does this; "" if nothing."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child takes no lock of theirs
        child = os.fork()
    if child == 0:
        _answer(longest, write)
    os.close(write)
    deadline, answer = time.monotonic() + WAIT_SECONDS, b""
    while (left := deadline - time.monotonic()) > 0 and select.select([read], [], [], left)[0]:
        if not (piece := os.read(read, 64)):
            break
        answer += piece
    late = time.monotonic() >= deadline
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    os.close(read)
    if late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return f"takes more than {SECONDS} s"
    if answer in (b"", b"memory"):
        return f"takes more than {MEMORY // 2**20} MiB of memory"
    length = int(answer)
    return f"writes {length:,} characters" if length > CHARACTERS else ""


def _answer(longest: Callable[[], int], write: int) -> None:
    """The child's whole life."""
    outcome = b"0"
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        _limit_memory()
        outcome = str(longest()).encode()
    except MemoryError:
        outcome = b"memory"
    except BaseException:  # the parent meets it again
        pass
    finally:
        os.write(write, outcome)
        os._exit(0)


def _limit_memory() -> None:
    try:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # only Linux says, and only Linux holds a process to it
        return
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
