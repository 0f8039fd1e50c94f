"""A command that cannot be read, in one line: what is wrong with its words, and what to write instead."""

from collections.abc import Sequence
from typing import Any

import typer

from groupwise.errors import ConfigError
from groupwise.names import folded, other_name
from groupwise.registry import closest, nearest

# The class of every error in the words of a command; newer versions of typer have one of their own, older ones click's.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]
WITH_OVERRIDES = ("train", "compare", "pipeline", "eval")
"""Verbs that take a recipe and values in place of its own."""


def message_of(error: Any, words: Sequence[str]) -> str:
    """The line for an error in a command's words. error: a UsageError; words: all behind `groupwise`."""
    context = getattr(error, "ctx", None)
    command: Any = context.command if context else None
    verb = context.info_name if context and context.parent else ""
    option = getattr(error, "option_name", None)
    if option and command is not None:
        return f"{verb}: no option {option}; {_instead(option, verb, command, words)}".removeprefix(": ")
    if hasattr(command, "commands") and (unknown := next((w for w in words if not w.startswith("-")), None)):
        return f"no verb {unknown!r}; {_verb(unknown, command.commands)}"
    message = error.format_message().rstrip(".")
    message = f"{message[0].lower()}{message[1:]}"
    return f"{verb}: {message}; see `groupwise {verb} --help`" if verb else f"{message}; see `groupwise --help`"


def refuse_empty(words: list[str]) -> list[str]:
    """The words of a command. Raises ConfigError for one of no characters, which as a path would be this folder."""
    for before, word in zip(["", *words], words, strict=False):
        option = word[:-1] if word.startswith("--") and word.endswith("=") else before if not word else None
        if option is not None:
            where = option if option.startswith("--") else f"{' '.join(words[:1])}: an argument"
            raise ConfigError(f"{where}: an empty text", hint="give a value, or leave it out")
    return words


def _verb(unknown: str, verbs: Any) -> str:
    if unknown.endswith((".yaml", ".yml")):
        return f"did you mean `groupwise train {unknown}`?"
    return nearest(OTHER_VERBS.get(folded(unknown), unknown), verbs)


OTHER_VERBS = {
    "evaluate": "eval", "test": "eval", "generate": "sample", "chat": "sample", "ask": "sample", "predict": "sample",
    "new": "init", "create": "init", "start": "init", "run": "train", "fit": "train", "finetune": "train",
    "grpo": "train", "sft": "train", "dpo": "train", "show": "list", "ls": "runs", "status": "runs", "draw": "plot",
}  # fmt: skip


def _instead(option: str, verb: str, command: Any, words: Sequence[str]) -> str:
    """What to write for an option that a verb lacks: one of its own, or the recipe's value that was meant."""
    name = option.lstrip("-")
    own = [text for parameter in command.params for text in parameter.opts if text.startswith("--")]
    if verb in WITH_OVERRIDES:
        from groupwise.config.settings import settings  # pydantic: not for --help

        keys = [setting.key for setting in settings()]
        meant = [key for key in keys if f".{key}".endswith(f".{folded(name)}")]
        theirs = other_name(name)
        meant = [key for key in meant if f" {key} " in theirs] or meant
        if meant:
            value = _value(option, words)
            return f"a recipe's value is set without dashes: {' or '.join(f'{key}={value}' for key in meant[:3])}"
        if theirs:
            return f"{theirs}; a recipe's value is set without dashes, as update.steps=100"
    close = closest(option, own, cutoff=0.6)
    return f"did you mean {close}?" if close else f"options: {', '.join([*own, '--help'])}"


def _value(option: str, words: Sequence[str]) -> str:
    """What was written behind an option, to be shown behind the key."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
        if word == option:
            return after if after and not after.startswith("-") else "..."
    return "..."
